//! Names of the things the engine speaks of.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The kind, namespace and name of a source or an action.
///
/// Kinds are plain text, so that a source or action of your own can have a kind of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectRef {
    /// Such as `GitRepo` or `ClusterAction`.
    pub kind: String,
    /// None for what belongs to no namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Unique within kind and namespace.
    pub name: String,
}

impl ObjectRef {
    /// Names an object of a namespace.
    pub fn namespaced(kind: &str, namespace: &str, name: &str) -> Self {
        Self { kind: kind.to_owned(), namespace: Some(namespace.to_owned()), name: name.to_owned() }
    }

    /// Names an object that belongs to no namespace.
    pub fn cluster(kind: &str, name: &str) -> Self {
        Self { kind: kind.to_owned(), namespace: None, name: name.to_owned() }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// A trigger, and which life of it: a trigger that is deleted and made again under its old name has another `uid`,
/// and with it other runs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TriggerId {
    /// `ScheduleTrigger`, `WebhookTrigger`, or the kind of a trigger of your own.
    pub kind: String,
    /// The namespace, in which its runs are as well.
    pub namespace: String,
    /// Unique within kind and namespace.
    pub name: String,
    /// Unique over time.
    pub uid: String,
}

impl fmt::Display for TriggerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}
