//! The six kinds of `git-events-runner.rs/v1alpha1` as types, their custom resource definitions, and what they mean to the engine.
//!
//! The types do not check themselves: that is for the API server, by the schemas of [`all`], and for
//! [`validate`](crate::validate) where there is no API server. What no schema can say is an error of the conversions.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

#[expect(clippy::duplicated_attributes, reason = "columns of a definition have types in common")]
mod action;
mod common;
mod config;
mod merge_patch;
mod policy;
mod schema;
#[expect(clippy::duplicated_attributes, reason = "columns of a definition have types in common")]
mod source;
mod status;
#[expect(clippy::duplicated_attributes, reason = "columns of a definition have types in common")]
mod trigger;

#[cfg(test)]
mod tests;

pub use action::*;
pub use common::*;
pub use config::*;
pub use merge_patch::*;
pub use policy::*;
pub use source::*;
pub use status::*;
pub use trigger::*;

/// The API group of all kinds.
pub const GROUP: &str = "git-events-runner.rs";

/// The one version of all kinds.
pub const VERSION: &str = "v1alpha1";

/// The annotation that fires a trigger by hand, whenever its text changes. [`TriggerStatus::last_handled_request`] repeats it.
pub const REQUESTED_AT: &str = "git-events-runner.rs/requested-at";

/// The custom resource definitions of all kinds, in the order in which they are read best.
pub fn all() -> Vec<CustomResourceDefinition> {
    let mut all =
        vec![GitRepo::crd(), ClusterGitRepo::crd(), ScheduleTrigger::crd(), WebhookTrigger::crd(), Action::crd(), ClusterAction::crd()];
    for version in all.iter_mut().flat_map(|definition| &mut definition.spec.versions) {
        version.schema.iter_mut().flat_map(|schema| &mut schema.open_api_v3_schema).for_each(schema::join_lines);
    }
    all
}
