//! The webhooks of local mode, from the manifests.

use std::{collections::BTreeMap, sync::Arc};

use git_events_runner_core::{Trigger as _, TriggerId, WebhookTrigger, crd, manifests::Manifests};
use warp::http::HeaderName;

use super::agenda::Agenda;
use crate::webhook::{Hook, Hooks, Proof, Token};

pub struct LocalHooks {
    agenda: Agenda,
    by_name: BTreeMap<(String, String), Arc<Hook>>,
}

impl LocalHooks {
    pub fn new(agenda: Agenda) -> Self {
        Self { agenda, by_name: BTreeMap::new() }
    }

    /// Opens the webhook of a trigger, and answers why it takes no requests, if it does not.
    pub fn add(&mut self, trigger: &WebhookTrigger, spec: &crd::Webhook, catalog: &Manifests) -> Option<String> {
        let (id, plan) = (trigger.id(), trigger.plan());
        let (proof, unusable) = match proof(spec, catalog, &id.namespace) {
            Ok(proof) => (proof, None),
            Err(message) => (Proof::None, Some(message)),
        };
        // What is wrong with a Secret is nobody's business at the other end.
        let closed = match &unusable {
            Some(_) => Some("the trigger cannot check who asks: see the log".to_owned()),
            None => plan.suspend.then(|| "the trigger is suspended".to_owned()),
        };
        let hook = Hook {
            id: id.clone(),
            sources: plan.sources.iter().map(|source| source.name.clone()).collect(),
            multi_source: spec.multi_source,
            always: !plan.on_change_only,
            closed,
            proof,
        };
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

fn proof(spec: &crd::Webhook, catalog: &Manifests, namespace: &str) -> Result<Proof, String> {
    let Some(crd::WebhookAuth { auth_type, secret_ref, key, header }) = &spec.auth_config else {
        return if spec.allow_unauthenticated {
            Ok(Proof::None)
        } else {
            Err("AuthenticationRequired: set webhook.authConfig, or webhook.allowUnauthenticated if anybody may fire it".to_owned())
        };
    };
    if *auth_type != crd::WebhookAuthType::Header {
        return Err("webhook.authConfig.type: only header is available yet".to_owned());
    }
    let header = header.as_ref().unwrap_or(&catalog.config().trigger.webhook.default_auth_header);
    let name = HeaderName::try_from(header).map_err(|_| format!("webhook.authConfig.header: `{header}` cannot be the name of a header"))?;
    let token = catalog.secret_value(namespace, &secret_ref.name, key);
    let token = token.map_err(|missing| format!("webhook.authConfig: {missing}"))?;
    if token.is_empty() {
        return Err(format!("webhook.authConfig: key `{key}` of the Secret {} is empty", secret_ref.name));
    }
    Ok(Proof::Header { name, token: Token::new(token) })
}

impl Hooks for LocalHooks {
    fn find(&self, namespace: &str, name: &str) -> Option<Arc<Hook>> {
        self.by_name.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    fn accepted(&self, id: &TriggerId) {
        self.agenda.wake(id);
    }
}
