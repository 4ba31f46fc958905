//! The webhooks of a cluster: WebhookTriggers as they were last seen. Every replica has them.

use std::sync::Arc;

use async_trait::async_trait;
use git_events_runner_core::{KubeCatalog, ObjectRef, TriggerId, crd};
use tokio::sync::watch;

use super::controller::Objects;
use crate::webhook::{Hook, Hooks, NoProof, Proof};

pub struct ClusterHooks {
    triggers: Objects<crd::WebhookTrigger>,
    catalog: KubeCatalog,
    config: watch::Receiver<Arc<crd::RuntimeConfig>>,
}

impl ClusterHooks {
    pub fn new(triggers: Objects<crd::WebhookTrigger>, catalog: KubeCatalog, config: watch::Receiver<Arc<crd::RuntimeConfig>>) -> Self {
        Self { triggers, catalog, config }
    }
}

/// What requests to a trigger have to prove.
pub async fn proof(webhook: &crd::Webhook, of: &TriggerId, catalog: &KubeCatalog, config: &crd::RuntimeConfig) -> Result<Proof, NoProof> {
    let secret = async |name: String, key: String| {
        let value = catalog.secret_value(of, &name, &key).await;
        value.map_err(|error| NoProof::new(error.reason(), format!("webhook.authConfig: {error}")))
    };
    Proof::of(webhook, &config.trigger.webhook.default_auth_header, secret).await
}

#[async_trait]
impl Hooks for ClusterHooks {
    async fn find(&self, namespace: &str, name: &str) -> Option<Arc<Hook>> {
        let found = self.triggers.get(Some(namespace), name)?;
        // One that cannot be read is not there: its status says why.
        let trigger = found.0.as_ref().ok()?;
        let (id, plan) = (trigger.id(), trigger.plan().ok()?);
        let config = Arc::clone(&self.config.borrow());
        let proof = proof(&trigger.spec.webhook, &id, &self.catalog, &config).await;
        let place = |source: &ObjectRef| self.catalog.repo_uri(namespace, source);
        Some(Arc::new(Hook::new(&id, &plan, &trigger.spec.webhook, proof, place)))
    }

    /// The leader sees it in the status of the trigger.
    fn accepted(&self, _: &TriggerId) {}
}
