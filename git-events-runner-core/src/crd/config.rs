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
