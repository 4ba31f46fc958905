//! The webhooks of a cluster: WebhookTriggers as they were last seen. Every replica has them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use git_events_runner_core::{KubeCatalog, ObjectRef, Reason, Trigger as _, TriggerId, crd};
use tokio::{sync::watch, time::Instant};
use tracing::warn;

use super::controller::Objects;
use crate::webhook::{Hook, Hooks, NoProof, Proof};

/// How long what requests to a trigger have to prove is not asked for again. Whoever sends them is a stranger until then, and would have the
/// API server asked for a Secret that is not there as often as he likes.
const ASKED_EVERY: Duration = Duration::from_secs(1);

/// How long a Secret that has refused somebody is not read again for that: it may be a new one by now, and whoever comes may be a stranger.
const RENEWED_EVERY: Duration = Duration::from_secs(10);

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
    /// Why there is none.
    why: Option<String>,
    /// When it was asked for because somebody was refused.
    renewed: Option<Instant>,
}

impl ClusterHooks {
    pub fn new(triggers: Objects<crd::WebhookTrigger>, catalog: KubeCatalog, config: watch::Receiver<Arc<crd::RuntimeConfig>>) -> Self {
        Self { triggers, catalog, config, proofs: Mutex::default() }
    }

    /// None: that cannot be known now, and its status says why.
    async fn proof(&self, trigger: &crd::WebhookTrigger, id: &TriggerId) -> Option<Arc<Proof>> {
        let lately = self.lately(id);
        let mut lately = lately.lock().await;
        let config = Arc::clone(&self.config.borrow());
        let is_fresh = |asked: &&Asked| {
            asked.at.elapsed() < ASKED_EVERY && asked.generation == trigger.metadata.generation && Arc::ptr_eq(&asked.config, &config)
        };
        if let Some(asked) = lately.as_ref().filter(is_fresh) {
            return asked.proof.clone();
        }
        self.ask(trigger, id, config, &mut lately).await
    }

    async fn ask(
        &self,
        trigger: &crd::WebhookTrigger,
        id: &TriggerId,
        config: Arc<crd::RuntimeConfig>,
        lately: &mut Option<Asked>,
    ) -> Option<Arc<Proof>> {
        let generation = trigger.metadata.generation;
        let before = lately.as_ref();
        let (proof, why) = match proof(&trigger.spec.webhook, id, &self.catalog, &config).await {
            Ok(proof) => (Some(Arc::new(proof)), None),
            // What was right a moment ago is so while the API server does not answer.
            Err(NoProof { reason: Reason::Unreachable, message }) => {
                let before = before.filter(|asked| asked.generation == generation);
                (before.and_then(|asked| asked.proof.clone()), Some(message))
            }
            Err(NoProof { message, .. }) => (None, Some(message)),
        };
        if let Some(message) = &why
            && before.is_none_or(|asked| asked.why != why)
        {
            warn!(trigger = %id, "what requests have to prove cannot be read: {message}");
        }
        let renewed = before.and_then(|asked| asked.renewed);
        *lately = Some(Asked { at: Instant::now(), generation, config, proof: proof.clone(), why, renewed });
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
        let Ok(policy) = trigger.policy(id.clone()) else { return Some(Arc::new(Hook::closed(id))) };
        let proof = self.proof(trigger, &id).await;
        let (catalog, namespace) = (self.catalog.clone(), namespace.to_owned());
        let place = move |source: &ObjectRef| catalog.repo_uri(&namespace, source);
        Some(Arc::new(Hook::new(&id, policy.plan(), &trigger.spec.webhook, proof, place)))
    }

    async fn renewed(&self, id: &TriggerId) -> Option<Arc<Proof>> {
        let found = self.triggers.get(Some(&id.namespace), &id.name)?;
        let trigger = found.0.as_ref().ok().filter(|trigger| trigger.id() == *id)?;
        let secret = &trigger.spec.webhook.auth_config.as_ref()?.secret_ref.name;
        let lately = self.lately(id);
        let mut lately = lately.lock().await;
        let asked = lately.as_mut().filter(|asked| asked.renewed.is_none_or(|renewed| renewed.elapsed() >= RENEWED_EVERY))?;
        asked.renewed = Some(Instant::now());
        self.catalog.forget_secret(&id.namespace, secret);
        let config = Arc::clone(&self.config.borrow());
        self.ask(trigger, id, config, &mut lately).await
    }

    /// The leader sees it in the status of the trigger.
    fn accepted(&self, _: &TriggerId) {}
}
