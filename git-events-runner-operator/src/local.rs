//! Local mode: the same manifests from a folder, and actions as processes of this machine.

mod agenda;
mod clock;
