use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        batch::v1::PodFailurePolicy,
        core::v1::{
            Affinity, EnvFromSource, EnvVar, LocalObjectReference, PodSecurityContext, ResourceRequirements, SecurityContext, Toleration,
        },
    },
    apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector},
};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{GitReference, SourceKind, schema};

/// What to run.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "git-events-runner.rs",
    version = "v1alpha1",
    kind = "Action",
    namespaced,
    shortname = "act",
    category = "git-events-runner",
    status = "ActionStatus",
    derive = "PartialEq",
    doc = "A Job that triggers of the same namespace can start.",
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Image", type_ = "string", json_path = ".spec.actionJob.actionImage"),
    printcolumn(name = "Service Account", type_ = "string", json_path = ".spec.actionJob.serviceAccount"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].message"#, priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct ActionSpec {
    /// The Job. Every field is optional.
    #[serde(default)]
    #[schemars(extend("default" = {}))]
    pub action_job: ActionJob,
    /// What the Job checks out in place of the source that fired. Default: the source that fired, at the commit that was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_override: Option<SourceOverride>,
}

/// What to run, and who may use it.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "git-events-runner.rs",
    version = "v1alpha1",
    kind = "ClusterAction",
    shortname = "cact",
    category = "git-events-runner",
    status = "ActionStatus",
    derive = "PartialEq",
    doc = "A Job that triggers of every namespace, or of chosen ones, can start. It runs in the namespace of the trigger.",
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Image", type_ = "string", json_path = ".spec.actionJob.actionImage"),
    printcolumn(name = "Service Account", type_ = "string", json_path = ".spec.actionJob.serviceAccount"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].message"#, priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.sourceOverride) || self.sourceOverride.kind == 'ClusterGitRepo'")
    .message("a ClusterAction can only check out a ClusterGitRepo").field_path(".sourceOverride.kind"))]
pub struct ClusterActionSpec {
    /// The Job. Every field is optional.
    #[serde(default)]
    #[schemars(extend("default" = {}))]
    pub action_job: ActionJob,
    /// What the Job checks out in place of the source that fired: a ClusterGitRepo. Default: the source that fired, at the commit that was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_override: Option<SourceOverride>,
    /// The namespaces whose triggers may use this action, by the namespaces' labels. Default: all namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::namespace_selector")]
    pub allowed_namespaces: Option<LabelSelector>,
}

/// What the operator has found of an action. Written when it changes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActionStatus {
    /// Ready: True with reason Valid, or False with the reason why no Job can be made of it. Stalled: it cannot before somebody changes something.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The generation of the specification that the conditions speak of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// Another source to check out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct SourceOverride {
    /// Kind of the source. A GitRepo is one of the trigger's namespace; a ClusterAction takes a ClusterGitRepo only.
    pub kind: SourceKind,
    /// Name of the source.
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::NAME))]
    pub name: String,
    /// What to check out of it.
    pub reference: GitReference,
}

/// A Job with two containers: action-cloner checks the commit out into a volume, then action-worker runs in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(inline)]
pub struct ActionJob {
    /// Image of the worker. Default: from the runtime config.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = schema::IMAGE))]
    pub action_image: Option<String>,
    /// Image of the cloner. Default: from the runtime config.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = schema::IMAGE))]
    pub cloner_image: Option<String>,
    /// Command of the worker, in place of its image's entrypoint. Default: the image's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Arguments of the worker. Default: the image's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<String>>,
    /// ServiceAccount of the Job, in the trigger's namespace. Default: defaultServiceAccount of the runtime config, and without it the
    /// namespace's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::NAME))]
    pub service_account: Option<String>,
    /// Where the volume with the checked out files is mounted in both containers, and the worker's working directory: an absolute path.
    /// Default: from the runtime config, which has /action_workdir.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 1024), regex(pattern = "^/[^:]+$"))]
    pub workdir: Option<String>,
    /// Labels to add to the Job and its Pod. The operator's own keys win. With kueue.x-k8s.io/queue-name, Kueue decides when the Job begins.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub labels: BTreeMap<String, String>,
    /// Annotations to add to the Job and its Pod. The operator's own keys win.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Tolerations of the Pod.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// Affinity of the Pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Labels that the Pod's node must have.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// For how many seconds the finished Job is kept. Default: from the runtime config, which has 7200.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub ttl_seconds_after_finished: Option<i32>,
    /// For how many seconds the Job may run, cloning included, before it is ended as failed. Default: from the runtime config, which has 3600.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub active_deadline_seconds: Option<i64>,
    /// For how many seconds the Job may wait for its turn before it is given up. Default: from the runtime config, which has 300.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub job_waiting_timeout_seconds: Option<i64>,
    /// True: the cloner logs all it does. Default: false.
    pub enable_cloner_debug: bool,
    /// True: the worker finds the folder .git as well. Default: false.
    pub preserve_git_folder: bool,
    /// Environment of the worker, in addition to the operator's own variables, which win.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvVar>,
    /// Secrets and ConfigMaps of the trigger's namespace whose keys become variables of the worker's environment.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env_from: Vec<EnvFromSource>,
    /// Resources of the worker, and of the cloner. They run one after the other, so that the Pod needs them once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Secrets of the trigger's namespace with which images are pulled.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// PriorityClass of the Pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::NAME))]
    pub priority_class_name: Option<String>,
    /// Security context of the worker. Default: what its image asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_context: Option<SecurityContext>,
    /// Security context of the Pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_security_context: Option<PodSecurityContext>,
    /// How often a failed Pod is tried again. Default: 0.
    #[schemars(range(min = 0, max = 100))]
    pub backoff_limit: i32,
    /// Which failures of the Pod count, as in a Job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_failure_policy: Option<PodFailurePolicy>,
    /// How the commit is checked out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clone: Option<CloneOptions>,
}

/// How a commit is checked out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(inline)]
pub struct CloneOptions {
    /// How many commits of the history a preserved folder `.git` has; 0: all. Default: 1.
    #[schemars(range(min = 0))]
    pub depth: i32,
    /// True: submodules are checked out as well, with the credentials if they are on the same server. Default: false.
    pub submodules: bool,
}

impl Default for CloneOptions {
    fn default() -> Self {
        Self { depth: 1, submodules: false }
    }
}
