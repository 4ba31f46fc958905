//! The webhooks of local mode, from the manifests.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use git_events_runner_core::{Reason, Trigger as _, TriggerId, WebhookTrigger, crd, manifests::Manifests};

use super::agenda::Agenda;
use crate::webhook::{Hook, Hooks, NoProof, Proof};

pub struct LocalHooks {
    agenda: Agenda,
    by_name: BTreeMap<(String, String), Arc<Hook>>,
}

impl LocalHooks {
    pub fn new(agenda: Agenda) -> Self {
        Self { agenda, by_name: BTreeMap::new() }
    }

    /// Opens the webhook of a trigger, and answers why it takes no requests, if it does not.
    pub async fn add(&mut self, trigger: &WebhookTrigger, spec: &crd::Webhook, catalog: &Manifests) -> Option<String> {
        let (id, plan) = (trigger.id(), trigger.plan());
        let secret = async |name: String, key: String| {
            let missing = |missing| NoProof::new(Reason::SecretNotFound, format!("webhook.authConfig: {missing}"));
            catalog.secret_value(&id.namespace, &name, &key).map_err(missing)
        };
        let proof = Proof::of(spec, &catalog.config().trigger.webhook.default_auth_header, secret).await;
        let unusable = proof.as_ref().err().map(ToString::to_string);
        let (catalog, namespace) = (catalog.clone(), id.namespace.clone());
        let hook = Hook::new(id, plan, spec, proof.ok().map(Arc::new), move |source| catalog.repo_uri(&namespace, source));
        self.by_name.insert((id.namespace.clone(), id.name.clone()), Arc::new(hook));
        unusable
    }

    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// The paths that requests are sent to.
    pub fn paths(&self) -> impl Iterator<Item = String> {
        self.by_name.values().flat_map(|hook| {
            let base = format!("/{}/{}", hook.id.namespace, hook.id.name);
            let each = hook.sources.iter().map({
                let base = base.clone();
                move |source| format!("{base}/{source}")
            });
            hook.multi_source.then_some(base).into_iter().chain(each)
        })
    }
}

#[async_trait]
impl Hooks for LocalHooks {
    async fn find(&self, namespace: &str, name: &str) -> Option<Arc<Hook>> {
        self.by_name.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    fn accepted(&self, id: &TriggerId) {
        self.agenda.wake(id);
    }
}
