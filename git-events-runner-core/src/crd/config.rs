use serde::{Deserialize, Serialize};

/// The name of the ConfigMap with the [`RuntimeConfig`], where no other is set.
pub const RUNTIME_CONFIG_NAME: &str = "git-events-runner-config";

/// The key of the ConfigMap under which the [`RuntimeConfig`] is.
pub const RUNTIME_CONFIG_KEY: &str = "runtimeConfig";

const IMAGES: &str = "ghcr.io/git-events-runner";

/// What can be configured while the operator runs: YAML under one key of a ConfigMap. Every field has a default; unknown fields are errors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct RuntimeConfig {
    /// Of triggers.
    pub trigger: TriggerConfig,
    /// Of actions.
    pub action: ActionConfig,
    /// Of repositories that are reached by ssh.
    pub ssh: SshHostsConfig,
}

/// A runtime config that has its shape, and still says something that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct InvalidConfig {
    /// The field.
    pub path: &'static str,
    /// What is wrong with it.
    pub message: &'static str,
}

impl RuntimeConfig {
    /// Checks what its shape does not say.
    ///
    /// # Errors
    ///
    /// The first field that is wrong.
    pub fn check(&self) -> Result<(), InvalidConfig> {
        let ActionConfig { workdir, containers: ContainersConfig { cloner, worker }, .. } = &self.action;
        let is_path = |path: &str| {
            path.len() > 1 && path.starts_with('/') && !path.contains([':', '\0']) && !path.split('/').any(|part| part == "..")
        };
        let service_account = self.action.default_service_account.as_deref();
        let checks = [
            (is_header(&self.trigger.webhook.default_auth_header), "trigger.webhook.defaultAuthHeader", "must be the name of a header"),
            (self.action.ttl_seconds_after_finished >= 0, "action.ttlSecondsAfterFinished", "must not be negative"),
            (self.action.active_deadline_seconds >= 1, "action.activeDeadlineSeconds", "must be at least 1"),
            (self.action.max_running_jobs >= 1, "action.maxRunningJobs", "must be at least 1"),
            (self.action.job_waiting_timeout_seconds >= 1, "action.jobWaitingTimeoutSeconds", "must be at least 1"),
            (service_account.is_none_or(is_object_name), "action.defaultServiceAccount", "must be the name of a ServiceAccount"),
            (is_path(&workdir.mount_path), "action.workdir.mountPath", "must be an absolute path below /, without `:` and `..`"),
            (is_label(&workdir.volume_name), "action.workdir.volumeName", LABEL),
            (is_label(&cloner.name), "action.containers.cloner.name", LABEL),
            (!cloner.image.trim().is_empty(), "action.containers.cloner.image", "must not be empty"),
            (is_label(&worker.name), "action.containers.worker.name", LABEL),
            (worker.name != cloner.name, "action.containers.worker.name", "must not be the cloner's"),
            (!worker.image.trim().is_empty(), "action.containers.worker.image", "must not be empty"),
            (self.ssh.known_hosts.len() <= MAX_KNOWN_HOSTS, "ssh.knownHosts", "must have at most 65536 bytes"),
            (
                is_variable(&worker.variables_prefix),
                "action.containers.worker.variablesPrefix",
                "must be letters, digits and `_`, and begin with no digit",
            ),
        ];
        let wrong = checks.into_iter().find(|(is_right, ..)| !is_right);
        wrong.map_or(Ok(()), |(_, path, message)| Err(InvalidConfig { path, message }))
    }
}

/// It is an argument of each Job's cloner, and a process takes no argument of twice this size.
const MAX_KNOWN_HOSTS: usize = 65_536;

const LABEL: &str = "must be at most 63 lower case letters, digits and `-`, with a letter or digit at both ends";

fn is_label(text: &str) -> bool {
    text.len() <= 63 && !text.contains('.') && is_object_name(text)
}

fn is_object_name(text: &str) -> bool {
    let is_inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_part = |part: &str| !part.is_empty() && part.chars().all(is_inner) && !part.starts_with('-') && !part.ends_with('-');
    text.len() <= 253 && text.split('.').all(is_part)
}

fn is_header(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))
}

/// Whether names of variables may begin with it. It may be empty: then the names are only those without a prefix.
fn is_variable(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !text.starts_with(|c: char| c.is_ascii_digit())
}

/// Of triggers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct TriggerConfig {
    /// Of webhooks.
    pub webhook: WebhookConfig,
}

/// Of webhooks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct WebhookConfig {
    /// The header with the token, for triggers that name none.
    pub default_auth_header: String,
}

impl Default for WebhookConfig {
    fn default() -> Self {
        Self { default_auth_header: "x-trigger-auth".to_owned() }
    }
}

/// Of actions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ActionConfig {
    /// For how many seconds finished Jobs are kept.
    pub ttl_seconds_after_finished: i32,
    /// For how many seconds a Job may run.
    pub active_deadline_seconds: i64,
    /// How many Jobs may run at once, over the whole cluster.
    pub max_running_jobs: u32,
    /// For how many seconds a Job may wait for its turn.
    pub job_waiting_timeout_seconds: i64,
    /// The ServiceAccount of Jobs; None: the namespace's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_service_account: Option<String>,
    /// The volume with the files.
    pub workdir: WorkdirConfig,
    /// The two containers.
    pub containers: ContainersConfig,
}

impl Default for ActionConfig {
    fn default() -> Self {
        Self {
            ttl_seconds_after_finished: 7200,
            active_deadline_seconds: 3600,
            max_running_jobs: 16,
            job_waiting_timeout_seconds: 300,
            default_service_account: None,
            workdir: WorkdirConfig::default(),
            containers: ContainersConfig::default(),
        }
    }
}

/// Of repositories that are reached by ssh.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct SshHostsConfig {
    /// Host keys that are trusted for all repositories besides those of their Secrets, in the form of `known_hosts`.
    pub known_hosts: String,
}

/// The volume with the files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct WorkdirConfig {
    /// Where it is mounted in both containers.
    pub mount_path: String,
    /// Its name in the Pod.
    pub volume_name: String,
}

impl Default for WorkdirConfig {
    fn default() -> Self {
        Self { mount_path: "/action_workdir".to_owned(), volume_name: "action-workdir".to_owned() }
    }
}

/// The two containers of a Job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ContainersConfig {
    /// The init container, which checks out.
    pub cloner: ClonerConfig,
    /// The container that runs the action.
    pub worker: WorkerConfig,
}

/// The init container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ClonerConfig {
    /// Its name.
    pub name: String,
    /// Its image.
    pub image: String,
}

impl Default for ClonerConfig {
    fn default() -> Self {
        Self { name: "action-cloner".to_owned(), image: format!("{IMAGES}/cloner:{}", env!("CARGO_PKG_VERSION")) }
    }
}

/// The container that runs the action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct WorkerConfig {
    /// Its name.
    pub name: String,
    /// Its image.
    pub image: String,
    /// What the names of its variables begin with.
    pub variables_prefix: String,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            name: "action-worker".to_owned(),
            image: format!("{IMAGES}/worker:{}", env!("CARGO_PKG_VERSION")),
            variables_prefix: "ACTION_JOB_".to_owned(),
        }
    }
}
