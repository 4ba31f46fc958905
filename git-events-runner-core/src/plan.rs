//! What a trigger wants, apart from when it wants it.

use serde::{Deserialize, Serialize};

use crate::{ObjectRef, Watch};

/// What a trigger wants done when it fires, as of one generation of its specification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Which version of the specification this is: a decision made by one is never recorded under another.
    pub generation: i64,
    /// The sources to check. Each starts the action on its own; names are unique, and all are of one kind.
    pub sources: Vec<ObjectRef>,
    /// What to watch in each source.
    pub watch: Watch,
    /// False: the action starts each time the trigger fires, changed or not.
    pub on_change_only: bool,
    /// What the first commit ever seen means.
    pub on_first_check: OnFirstCheck,
    /// What may run side by side.
    pub concurrency: ConcurrencyPolicy,
    /// What to start.
    pub action: ObjectRef,
    /// Nothing fires; nothing seen or requested is forgotten.
    pub suspend: bool,
}

impl Plan {
    /// The first generation of a plan that starts an action when one of the sources changes, with the defaults of everything else.
    pub fn new(sources: &[&ObjectRef], watch: Watch, action: &ObjectRef) -> Self {
        Self {
            generation: 1,
            sources: sources.iter().map(|source| (*source).clone()).collect(),
            watch,
            on_change_only: true,
            on_first_check: OnFirstCheck::default(),
            concurrency: ConcurrencyPolicy::default(),
            action: action.clone(),
            suspend: false,
        }
    }

    /// The source of this name.
    pub fn source(&self, name: &str) -> Option<&ObjectRef> {
        self.sources.iter().find(|source| source.name == name)
    }
}

/// Whether the first commit ever seen at a source starts the action.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnFirstCheck {
    /// It does.
    #[default]
    Run,
    /// It is recorded as the baseline; only what comes after it starts the action.
    Record,
}

/// What happens when a source fires while a run of it is unfinished.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConcurrencyPolicy {
    /// Both run.
    #[default]
    Allow,
    /// The firing is held until the run has ended: changes collapse to the newest, requests that always run queue.
    Forbid,
    /// The unfinished run is stopped first.
    Replace,
}
