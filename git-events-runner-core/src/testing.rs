//! One conformance suite per port, to run on an implementation of your own.
//!
//! A suite takes a function that makes a *harness*: what it takes to shake an implementation from outside. It makes several, each of
//! which has to start empty, and panics with the clause of the port's contract that is broken. Whatever takes time in reality is
//! awaited, for as long as the harness says.
//!
//! ```
//! use git_events_runner_core::{testing::{self, StoreHarness}, *};
//!
//! struct Harness(InMemoryStore);
//!
//! #[async_trait::async_trait]
//! impl StoreHarness for Harness {
//!     fn store(&self) -> &dyn StateStore { &self.0 }
//!     fn inbox(&self) -> &dyn Inbox { &self.0 }
//!     async fn add(&self, id: &TriggerId, generation: i64) -> TriggerId { self.0.add(id, generation); id.clone() }
//!     async fn restart(&mut self) {}
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! testing::state_store(|| async { Harness(InMemoryStore::default()) }).await;
//! # }
//! ```
#![expect(clippy::unwrap_used, clippy::panic, reason = "a suite that fails panics")]

use std::time::{Duration, Instant};

use crate::{ObjectRef, TriggerId};

mod action;
mod catalog;
mod repository;
mod store;
mod trigger;

pub use action::{ActionHarness, action};
pub use catalog::{CatalogHarness, catalog};
pub use repository::{RepositoryHarness, repository, repository_without_patterns};
pub use store::{StoreHarness, state_store};
pub use trigger::trigger;

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// How long conditions may take where a harness does not say otherwise.
const DEADLINE: Duration = Duration::from_secs(30);

/// Waits until a condition answers with something.
async fn eventually<T>(within: Duration, what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + within;
    loop {
        if let Some(found) = condition().await {
            return found;
        }
        assert!(Instant::now() < end, "after {within:?}, still not: {what}");
        tokio::time::sleep(LOOK).await;
    }
}

fn trigger_id(name: &str, uid: &str) -> TriggerId {
    TriggerId { kind: "ScheduleTrigger".to_owned(), namespace: "default".to_owned(), name: name.to_owned(), uid: uid.to_owned() }
}

fn source(name: &str) -> ObjectRef {
    ObjectRef::namespaced("GitRepo", "default", name)
}
