//! Runs actions when Git changes: the library beneath the git-events-runner operator.

#![warn(missing_docs)]

mod action;
mod catalog;
#[cfg(feature = "git")]
pub mod cloner;
#[cfg(feature = "kube")]
mod crash_point;
#[cfg(feature = "crd")]
pub mod crd;
#[cfg(any(feature = "file", feature = "process"))]
mod durable;
pub mod engine;
mod object;
#[cfg(any(feature = "crd", feature = "git"))]
mod patterns;
mod plan;
mod retry;
mod revision;
mod run;
mod schedule;
#[cfg(feature = "kube")]
mod scope;
mod source;
mod state;
mod store;
#[cfg(feature = "testing")]
pub mod testing;
mod trigger;
#[cfg(feature = "manifests")]
pub mod validate;

pub use action::*;
pub use catalog::*;
pub use object::*;
pub use plan::*;
pub use retry::*;
pub use revision::*;
pub use run::*;
pub use schedule::*;
#[cfg(feature = "kube")]
pub use scope::*;
pub use source::*;
pub use state::*;
pub use store::*;
pub use trigger::*;
