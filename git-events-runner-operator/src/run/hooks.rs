//! The webhooks of a cluster: WebhookTriggers as they were last seen. Every replica has them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use git_events_runner_core::{KubeCatalog, ObjectRef, Reason, TriggerId, crd};
use tokio::{sync::watch, time::Instant};

use super::controller::Objects;
use crate::webhook::{Hook, Hooks, NoProof, Proof};

/// How long what requests to a trigger have to prove is not asked for again. Whoever sends them is a stranger until then, and would have the
/// API server asked for a Secret that is not there as often as he likes.
const ASKED_EVERY: Duration = Duration::from_secs(1);

/// How many triggers were asked for before those are forgotten that are not there any more.
const MANY: usize = 10_000;

pub struct ClusterHooks {
    triggers: Objects<crd::WebhookTrigger>,
    catalog: KubeCatalog,
    config: watch::Receiver<Arc<crd::RuntimeConfig>>,
    proofs: Mutex<HashMap<TriggerId, Arc<Lately>>>,
}

/// What requests to a trigger have to prove, as it was asked for last. One asks at a time, and the others wait for the answer.
type Lately = tokio::sync::Mutex<Option<Asked>>;

struct Asked {
    at: Instant,
    generation: Option<i64>,
    config: Arc<crd::RuntimeConfig>,
    proof: Option<Arc<Proof>>,
}

impl ClusterHooks {
    pub fn new(triggers: Objects<crd::WebhookTrigger>, catalog: KubeCatalog, config: watch::Receiver<Arc<crd::RuntimeConfig>>) -> Self {
        Self { triggers, catalog, config, proofs: Mutex::default() }
    }

    /// None: that cannot be known now, and its status says why.
    async fn proof(&self, trigger: &crd::WebhookTrigger, id: &TriggerId) -> Option<Arc<Proof>> {
        let (config, generation) = (Arc::clone(&self.config.borrow()), trigger.metadata.generation);
        let lately = self.lately(id);
        let mut lately = lately.lock().await;
        let is_fresh =
            |asked: &&Asked| asked.at.elapsed() < ASKED_EVERY && asked.generation == generation && Arc::ptr_eq(&asked.config, &config);
        if let Some(asked) = lately.as_ref().filter(is_fresh) {
            return asked.proof.clone();
        }
        let proof = match proof(&trigger.spec.webhook, id, &self.catalog, &config).await {
            Ok(proof) => Some(Arc::new(proof)),
            // What was right a moment ago is so while the API server does not answer.
            Err(NoProof { reason: Reason::Unreachable, .. }) => {
                lately.take().filter(|asked| asked.generation == generation).and_then(|asked| asked.proof)
            }
            Err(_) => None,
        };
        *lately = Some(Asked { at: Instant::now(), generation, config, proof: proof.clone() });
        proof
    }

    fn lately(&self, id: &TriggerId) -> Arc<Lately> {
        let mut proofs = self.proofs.lock().unwrap_or_else(PoisonError::into_inner);
        if proofs.len() >= MANY && !proofs.contains_key(id) {
            proofs.retain(|known, _| self.is_there(known));
        }
        Arc::clone(proofs.entry(id.clone()).or_default())
    }

    fn is_there(&self, id: &TriggerId) -> bool {
        let found = self.triggers.get(Some(&id.namespace), &id.name);
        found.is_some_and(|found| found.0.as_ref().is_ok_and(|trigger| trigger.id() == *id))
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
        let trigger = match &found.0 {
            Ok(trigger) => trigger,
            Err(malformed) => {
                let uid = malformed.metadata.uid.clone().unwrap_or_default();
                let (kind, namespace, name) = ("WebhookTrigger".to_owned(), namespace.to_owned(), name.to_owned());
                return Some(Arc::new(Hook::closed(TriggerId { kind, namespace, name, uid })));
            }
        };
        let id = trigger.id();
        let Ok(plan) = trigger.plan() else { return Some(Arc::new(Hook::closed(id))) };
        let proof = self.proof(trigger, &id).await;
        let (catalog, namespace) = (self.catalog.clone(), namespace.to_owned());
        let place = move |source: &ObjectRef| catalog.repo_uri(&namespace, source);
        Some(Arc::new(Hook::new(&id, &plan, &trigger.spec.webhook, proof, place)))
    }

    /// The leader sees it in the status of the trigger.
    fn accepted(&self, _: &TriggerId) {}
}
