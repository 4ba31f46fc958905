use async_trait::async_trait;

use super::{source, trigger_id};
use crate::{Catalog, CatalogError, ObjectRef, TriggerId};

/// What it takes to shake a catalog.
#[async_trait]
pub trait CatalogHarness: Send + Sync {
    /// The catalog.
    fn catalog(&self) -> &dyn Catalog;

    /// Adds a source of kind `GitRepo`, with what it is checked out of. It need not be there in reality.
    async fn add_source(&self, source: &ObjectRef);

    /// Adds an action of kind `Action`.
    async fn add_action(&self, action: &ObjectRef);
}

/// Checks the contract of [`Catalog`].
pub async fn catalog<H: CatalogHarness, F: Future<Output = H> + Send>(new: impl Fn() -> F + Send + Sync) {
    let harness = new().await;
    let (id, repo, deploy) = (trigger_id("app", "1"), source("app"), ObjectRef::namespaced("Action", "default", "deploy"));
    missing(&harness, &id, &repo, &deploy, "nothing is there yet").await;

    harness.add_source(&repo).await;
    let catalog = harness.catalog();
    assert_eq!(catalog.source(&id, &repo).await.map_err(drop).unwrap().id(), &repo, "a later call sees what was added");
    assert!(catalog.checkout(&id, &repo).await.is_ok(), "a source has what it is checked out of");
    missing(&harness, &id, &source("other"), &deploy, "another source was added").await;

    harness.add_action(&deploy).await;
    assert_eq!(catalog.action(&id, &deploy).await.map_err(drop).unwrap().id(), &deploy, "a later call sees what was added");

    let elsewhere = TriggerId { namespace: "elsewhere".to_owned(), ..id };
    refused(&harness, &elsewhere, &repo, &deploy).await;
}

async fn missing(harness: &impl CatalogHarness, id: &TriggerId, repo: &ObjectRef, deploy: &ObjectRef, why: &str) {
    let catalog = harness.catalog();
    let not_found = |error: Option<CatalogError>| matches!(error, Some(CatalogError::NotFound(_)));
    assert!(not_found(catalog.source(id, repo).await.err()), "a source that is not there is not found: {why}");
    assert!(not_found(catalog.checkout(id, repo).await.err()), "a checkout that is not there is not found: {why}");
    assert!(not_found(catalog.action(id, deploy).await.err()), "an action that is not there is not found: {why}");
}

async fn refused(harness: &impl CatalogHarness, id: &TriggerId, repo: &ObjectRef, deploy: &ObjectRef) {
    let catalog = harness.catalog();
    assert!(catalog.source(id, repo).await.is_err(), "a trigger may not use a source of another namespace");
    assert!(catalog.checkout(id, repo).await.is_err(), "a trigger may not check out a source of another namespace");
    assert!(catalog.action(id, deploy).await.is_err(), "a trigger may not start an action of another namespace");
}
