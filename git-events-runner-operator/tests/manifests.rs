//! The catalog of local mode keeps the contracts of its ports, and the rules of who may use what.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

#[path = "manifests/conformance.rs"]
mod conformance;
#[path = "manifests/environment.rs"]
mod environment;
#[path = "manifests/folder.rs"]
mod folder;
#[path = "manifests/overrides.rs"]
mod overrides;
#[path = "manifests/secrets.rs"]
mod secrets;
#[path = "manifests/usable.rs"]
mod usable;
