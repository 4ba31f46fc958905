//! What a run is as a Job: no I/O, no decision but what `docs` promise of the Job.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        batch::v1::{Job, JobSpec},
        core::v1::{PodSpec, PodTemplateSpec},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use serde_json::json;

use super::{
    ACTION_KIND, ACTION_NAME, FIELD_MANAGER, KUEUE_QUEUE, MANAGED_BY, PREFIX, REGISTERED, RUN, SLOT, SLOT_AWAITED, SOURCE_KIND,
    SOURCE_NAME, TRIGGER_KIND, TRIGGER_NAME, TRIGGER_UID, cloner, label_value, origin::JobOrigin, worker,
};
use crate::{RunRequest, TriggerId, crd};

/// What a Job is made of.
pub struct Blueprint<'a> {
    pub run: &'a RunRequest,
    pub action: &'a crd::ActionJob,
    pub config: &'a crd::ActionConfig,
    pub origin: &'a JobOrigin,
}

impl Blueprint<'_> {
    /// The Job: suspended, and held by our finalizer, until it is released.
    pub fn job(&self) -> Job {
        let mut labels = self.labels();
        let pod_labels = labels.clone();
        labels.insert(SLOT.to_owned(), SLOT_AWAITED.to_owned());
        let mut annotations = without_ours(&self.action.annotations);
        let pod_annotations = annotations.clone();
        annotations.insert(RUN.to_owned(), json!(self.run).to_string());
        let pod = ObjectMeta { labels: Some(pod_labels), annotations: Some(pod_annotations), ..ObjectMeta::default() };
        Job {
            metadata: ObjectMeta {
                name: Some(self.run.key.name()),
                namespace: Some(self.run.key.trigger.namespace.clone()),
                labels: Some(labels),
                annotations: Some(annotations),
                owner_references: Some(vec![owner(&self.run.key.trigger)]),
                finalizers: Some(vec![REGISTERED.to_owned()]),
                ..ObjectMeta::default()
            },
            spec: Some(JobSpec {
                suspend: Some(true),
                parallelism: Some(1),
                completions: Some(1),
                backoff_limit: Some(self.action.backoff_limit),
                pod_failure_policy: self.action.pod_failure_policy.clone(),
                active_deadline_seconds: Some(self.action.active_deadline_seconds.unwrap_or(self.config.active_deadline_seconds)),
                ttl_seconds_after_finished: Some(self.action.ttl_seconds_after_finished.unwrap_or(self.config.ttl_seconds_after_finished)),
                template: PodTemplateSpec { metadata: Some(pod), spec: Some(self.pod()) },
                ..JobSpec::default()
            }),
            status: None,
        }
    }

    fn pod(&self) -> PodSpec {
        let crd::ActionJob { service_account, image_pull_secrets, tolerations, node_selector, .. } = self.action;
        PodSpec {
            restart_policy: Some("Never".to_owned()),
            service_account_name: service_account.as_ref().or(self.config.default_service_account.as_ref()).cloned(),
            init_containers: Some(vec![cloner::container(self)]),
            containers: vec![worker::container(self)],
            volumes: Some(cloner::volumes(self)),
            image_pull_secrets: some(image_pull_secrets),
            security_context: self.action.pod_security_context.clone(),
            priority_class_name: self.action.priority_class_name.clone(),
            tolerations: some(tolerations),
            affinity: self.action.affinity.clone(),
            node_selector: (!node_selector.is_empty()).then(|| node_selector.clone()),
            ..PodSpec::default()
        }
    }

    /// The action's own labels, and ours. Kueue's comes when the Job is released.
    fn labels(&self) -> BTreeMap<String, String> {
        let RunRequest { key, action, .. } = self.run;
        let mut labels = without_ours(&self.action.labels);
        labels.remove(KUEUE_QUEUE);
        let ours = [
            (MANAGED_BY, FIELD_MANAGER),
            (TRIGGER_KIND, &key.trigger.kind),
            (TRIGGER_NAME, &key.trigger.name),
            (TRIGGER_UID, &key.trigger.uid),
            (SOURCE_KIND, &key.source.kind),
            (SOURCE_NAME, &key.source.name),
            (ACTION_KIND, &action.kind),
            (ACTION_NAME, &action.name),
        ];
        labels.extend(ours.map(|(label, value)| (label.to_owned(), label_value(value))));
        labels
    }

    /// Where the files are, in both containers.
    pub fn workdir(&self) -> &str {
        self.action.workdir.as_ref().unwrap_or(&self.config.workdir.mount_path)
    }
}

fn owner(trigger: &TriggerId) -> OwnerReference {
    OwnerReference {
        api_version: format!("{}/{}", crd::GROUP, crd::VERSION),
        kind: trigger.kind.clone(),
        name: trigger.name.clone(),
        uid: trigger.uid.clone(),
        controller: Some(true),
        block_owner_deletion: Some(false),
    }
}

fn without_ours(keys: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    keys.iter().filter(|(key, _)| !key.starts_with(PREFIX)).map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn some<T: Clone>(list: &[T]) -> Option<Vec<T>> {
    (!list.is_empty()).then(|| list.to_vec())
}

/// Text that stays as it is where Kubernetes would put the value of a variable in the place of `$(NAME)`.
pub fn literal(text: &str) -> String {
    text.replace('$', "$$")
}
