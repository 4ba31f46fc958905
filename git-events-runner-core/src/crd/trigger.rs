use std::collections::BTreeSet;

use kube::{CustomResource, KubeSchema, ResourceExt as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Duration, SecretRef, TriggerStatus, schema};
use crate::{CommitId, ConcurrencyPolicy, NotACommitId, ObjectRef, OnFirstCheck, Plan, Reference, TriggerId, Watch};

/// What to watch, when, and what to start.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "git-events-runner.rs",
    version = "v1alpha1",
    kind = "ScheduleTrigger",
    namespaced,
    shortname = "st",
    category = "git-events-runner",
    status = "TriggerStatus",
    derive = "PartialEq",
    doc = "Checks repositories by a schedule, and starts an action for those that have changed.",
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Schedule", type_ = "string", json_path = ".spec.schedule['interval','cron']"),
    printcolumn(name = "Last Run", type_ = "date", json_path = ".status.lastRun"),
    printcolumn(name = "Last Result", type_ = "string", json_path = ".status.lastResult"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#, priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].message"#, priority = 1)
)]
pub struct ScheduleTriggerSpec {
    /// What is watched and started.
    #[serde(flatten)]
    pub common: TriggerSpec,
    /// When the sources are checked.
    pub schedule: Schedule,
}

/// What to watch, which requests to listen to, and what to start.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "git-events-runner.rs",
    version = "v1alpha1",
    kind = "WebhookTrigger",
    namespaced,
    shortname = "wt",
    category = "git-events-runner",
    status = "TriggerStatus",
    derive = "PartialEq",
    doc = "Checks repositories when a request asks for it, and starts an action for those that have changed.",
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Path", type_ = "string", json_path = ".status.webhookPath"),
    printcolumn(name = "Last Run", type_ = "date", json_path = ".status.lastRun"),
    printcolumn(name = "Last Result", type_ = "string", json_path = ".status.lastResult"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#, priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].message"#, priority = 1)
)]
pub struct WebhookTriggerSpec {
    /// What is watched and started.
    #[serde(flatten)]
    pub common: TriggerSpec,
    /// Which requests are listened to.
    pub webhook: Webhook,
}

/// What ScheduleTrigger and WebhookTrigger have in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TriggerSpec {
    /// What is watched.
    pub sources: Sources,
    /// What is started, for each source on its own.
    pub action: ActionRef,
    /// True: nothing fires, and webhook requests are refused with 503; what was seen and what is pending is kept. Default: false.
    #[serde(default)]
    pub suspend: bool,
    /// What happens when a source fires while its last Job is unfinished. Allow: both run. Forbid: the firing waits for the Job's end;
    /// changes collapse to the newest, and requests that always run queue up. Replace: the Job is ended first. Nothing is ever dropped.
    /// Default: Allow.
    #[serde(default)]
    #[schemars(schema_with = "concurrency_policy")]
    pub concurrency_policy: ConcurrencyPolicy,
    /// What the first commit ever seen of a source means. Run: it starts the action. Record: it is the baseline, taken when the trigger or
    /// the source is added, and only what comes after it starts the action. Default: Run.
    #[serde(default)]
    #[schemars(schema_with = "on_first_check")]
    pub on_first_check: OnFirstCheck,
}

fn concurrency_policy(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "string", "enum": ["Allow", "Forbid", "Replace"] })
}

fn on_first_check(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "string", "enum": ["Run", "Record"] })
}

/// What is watched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sources {
    /// Kind of the sources. GitRepos are those of the trigger's own namespace. Default: GitRepo.
    #[serde(default)]
    pub kind: SourceKind,
    /// Names of the sources: 1 to 256, each once. Each source is checked, and starts the action, on its own.
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 253), regex(pattern = schema::NAME)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub names: Vec<String>,
    /// What to watch in each source. Default: changes of the branch main.
    #[serde(default)]
    #[schemars(extend("default" = {}))]
    pub watch_on: WatchOn,
}

/// Kind of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum SourceKind {
    /// A repository of the namespace.
    #[default]
    GitRepo,
    /// A repository of the cluster.
    ClusterGitRepo,
}

impl SourceKind {
    /// The source of this kind and name, as a trigger of a namespace means it.
    pub fn named(self, namespace: &str, name: &str) -> ObjectRef {
        match self {
            Self::GitRepo => ObjectRef::namespaced("GitRepo", namespace, name),
            Self::ClusterGitRepo => ObjectRef::cluster("ClusterGitRepo", name),
        }
    }
}

/// What to watch in a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(inline)]
pub struct WatchOn {
    /// True: the action starts when the source has changed. False: each time that the trigger fires. Default: true.
    pub on_change_only: bool,
    /// The branch, tag or commit to watch. Default: branch main.
    #[schemars(extend("default" = {"branch": "main"}))]
    pub reference: GitReference,
    /// Patterns in the syntax of .gitignore, at most 256 of at most 1024 characters, and 32 KiB together: a later one wins over an earlier one,
    /// and ! excludes.
    /// With them a new commit counts as a change only if a matching file has changed, or if no file matches at all. Default: every new commit counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 1024)))]
    pub files: Vec<String>,
}

impl Default for WatchOn {
    fn default() -> Self {
        Self { on_change_only: true, reference: GitReference::branch("main"), files: vec![] }
    }
}

/// A branch, a tag or a commit: exactly one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
#[x_kube(validation = Rule::new("[has(self.branch), has(self.tag), has(self.commit)].filter(given, given).size() == 1")
    .message("must have exactly one of branch, tag and commit"))]
pub struct GitReference {
    /// Name of a branch, such as `main`; without refs/heads/. At most 250 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 250))]
    #[x_kube(validation = Rule::new(schema::REF_NAME).message("must be the name of a branch, as Git allows it"))]
    pub branch: Option<String>,
    /// Name of a tag, such as `v1.0`; without refs/tags/. An annotated tag counts as the commit that it points at. At most 250 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 250))]
    #[x_kube(validation = Rule::new(schema::REF_NAME).message("must be the name of a tag, as Git allows it"))]
    pub tag: Option<String>,
    /// Full id of a commit: 40 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40), regex(pattern = "^[0-9a-fA-F]{40}$"))]
    pub commit: Option<String>,
}

/// A reference is not one branch, tag or commit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReference {
    /// None of them, or more than one.
    #[error("a reference has exactly one of branch, tag and commit")]
    NotOne,
    /// Something else where a commit's id should be.
    #[error(transparent)]
    Commit(#[from] NotACommitId),
}

impl GitReference {
    /// A reference to a branch.
    pub fn branch(name: &str) -> Self {
        Self { branch: Some(name.to_owned()), ..Self::default() }
    }

    /// What is meant, to the engine.
    pub fn reference(&self) -> Result<Reference, InvalidReference> {
        match (&self.branch, &self.tag, &self.commit) {
            (Some(branch), None, None) => Ok(Reference::Branch(branch.clone())),
            (None, Some(tag), None) => Ok(Reference::Tag(tag.clone())),
            (None, None, Some(commit)) => Ok(Reference::Commit(commit.parse::<CommitId>()?)),
            _ => Err(InvalidReference::NotOne),
        }
    }
}

/// What is started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct ActionRef {
    /// Kind of the action. An Action is one of the trigger's own namespace.
    pub kind: ActionKind,
    /// Name of the action.
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::NAME))]
    pub name: String,
}

/// Kind of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum ActionKind {
    /// An action of the namespace.
    Action,
    /// An action of the cluster.
    ClusterAction,
}

impl ActionKind {
    /// The action of this kind and name, as a trigger of a namespace means it.
    pub fn named(self, namespace: &str, name: &str) -> ObjectRef {
        match self {
            Self::Action => ObjectRef::namespaced("Action", namespace, name),
            Self::ClusterAction => ObjectRef::cluster("ClusterAction", name),
        }
    }
}

/// When a trigger fires: exactly one of interval and cron.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.interval) != has(self.cron)").message("must have exactly one of interval and cron"),
    validation = Rule::new("!has(self.timeZone) || has(self.cron)").message("timeZone needs cron").field_path(".timeZone"),
    validation = Rule::new("!has(self.timeZone) || !has(self.cron) || !self.cron.startsWith('TZ=')")
        .message("the time zone is given twice: by timeZone, and by TZ= in cron").field_path(".timeZone"),
    validation = Rule::new("!has(self.jitter) || has(self.cron)").message("jitter needs cron").field_path(".jitter"),
)]
pub struct Schedule {
    /// Time from one check to the next, such as `10s`, `5m`, `1h 30m` or `1day`; at least 1s. A check never begins before the last one of
    /// the same trigger has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Duration>,
    /// Pattern of cron with 5 fields (minute, hour, day of month, month, day of week), with 6 (seconds first) or with 7 (year last). It knows
    /// names, L, W, #, ?, steps such as 10/5, and @yearly, @monthly, @weekly, @daily and @hourly. Day of month and day of week are
    /// alternatives. `TZ=Area/City ` before it sets the time zone, as timeZone does. At most 256 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = Rule::new(schema::CRON).message("must be a pattern of cron with 5, 6 or 7 fields, or such as @hourly"))]
    pub cron: Option<String>,
    /// Time zone of cron, by its IANA name such as `Europe/Kyiv`. Not together with TZ= in cron. Default: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[A-Za-z0-9_+/-]+$"))]
    pub time_zone: Option<String>,
    /// How many seconds late a missed firing may still start. Default: the latest missed firing starts once, however late; earlier ones never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub starting_deadline_seconds: Option<i64>,
    /// With cron: every trigger fires later than the pattern says by an offset of its own, always the same and less than this, so that many
    /// with the same pattern do not fire at once. At least 1s. Default: no offset. (Intervals are spread in any case.)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Duration>,
}

/// Which requests a trigger listens to: POST /{namespace}/{trigger}/{source}, and POST /{namespace}/{trigger} for all sources.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.events) || (has(self.authConfig) && !(self.authConfig.type in ['header', 'hmac']))")
    .message("events need an authConfig whose type is a forge").field_path(".events"))]
pub struct Webhook {
    /// True: POST /{namespace}/{trigger} checks all sources. False: it is refused, and only one source at a time can be checked. Default: false.
    #[serde(default)]
    pub multi_source: bool,
    /// How a request proves itself. Without it and without allowUnauthenticated, all requests are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_config: Option<WebhookAuth>,
    /// Which events of the forge count: at most 64 names of at most 64 characters. Default: push and tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 64), regex(pattern = "^[A-Za-z0-9_:. -]+$")))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub events: Option<BTreeSet<String>>,
    /// How often sources that were checked before are checked although no request came, such as `1h`; at least 1s. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recheck_interval: Option<Duration>,
    /// True: without authConfig, everybody who reaches the port can fire this trigger. Default: false.
    #[serde(default)]
    pub allow_unauthenticated: bool,
}

/// How a request proves itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.header) || self.type in ['header', 'hmac']")
    .message("only the types header and hmac have a header of your choice").field_path(".header"))]
pub struct WebhookAuth {
    /// The method. header: a header holds the token. hmac: a header holds sha256=, and the HMAC of the body in hexadecimal digits. github,
    /// gitlab, gitea (and Forgejo, Gogs) and bitbucket: as that forge signs its webhooks. Default: header.
    #[serde(rename = "type", default)]
    pub auth_type: WebhookAuthType,
    /// The Secret with the token or the key, in the trigger's own namespace.
    pub secret_ref: SecretRef,
    /// The key in the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::SECRET_KEY))]
    pub key: String,
    /// Name of the header, for the types header and hmac. Default: for header that of the runtime config, which has x-trigger-auth; for hmac
    /// x-signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"))]
    pub header: Option<String>,
}

/// A method of authentication of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub enum WebhookAuthType {
    /// A token in a header.
    #[default]
    Header,
    /// As GitHub signs.
    Github,
    /// As GitLab signs.
    Gitlab,
    /// As Gitea, Forgejo and Gogs sign.
    Gitea,
    /// As Bitbucket signs.
    Bitbucket,
    /// An HMAC of the body in a header.
    Hmac,
}

impl ScheduleTrigger {
    /// Which trigger this is. The namespace and the uid are empty for an object that no API server has seen.
    pub fn id(&self) -> TriggerId {
        id("ScheduleTrigger", self)
    }

    /// What it wants done.
    pub fn plan(&self) -> Result<Plan, InvalidReference> {
        self.spec.common.plan(&self.namespace().unwrap_or_default(), self.metadata.generation.unwrap_or_default())
    }
}

impl WebhookTrigger {
    /// Which trigger this is. The namespace and the uid are empty for an object that no API server has seen.
    pub fn id(&self) -> TriggerId {
        id("WebhookTrigger", self)
    }

    /// What it wants done.
    pub fn plan(&self) -> Result<Plan, InvalidReference> {
        self.spec.common.plan(&self.namespace().unwrap_or_default(), self.metadata.generation.unwrap_or_default())
    }
}

fn id(kind: &str, trigger: &impl kube::ResourceExt) -> TriggerId {
    TriggerId {
        kind: kind.to_owned(),
        namespace: trigger.namespace().unwrap_or_default(),
        name: trigger.name_any(),
        uid: trigger.uid().unwrap_or_default(),
    }
}

impl TriggerSpec {
    /// What a trigger of this namespace wants done, as of this generation of its specification.
    pub fn plan(&self, namespace: &str, generation: i64) -> Result<Plan, InvalidReference> {
        let Sources { kind, names, watch_on } = &self.sources;
        Ok(Plan {
            generation,
            sources: names.iter().map(|name| kind.named(namespace, name)).collect(),
            watch: Watch { reference: watch_on.reference.reference()?, files: watch_on.files.clone() },
            on_change_only: watch_on.on_change_only,
            on_first_check: self.on_first_check,
            concurrency: self.concurrency_policy,
            action: self.action.kind.named(namespace, &self.action.name),
            suspend: self.suspend,
        })
    }
}
