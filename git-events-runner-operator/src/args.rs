//! The command line.

use std::{net::IpAddr, num::NonZeroUsize, path::PathBuf, time::Duration};

use clap::{
    Args, Parser, Subcommand,
    builder::{BoolishValueParser, TypedValueParser},
    value_parser,
};
use git_events_runner_core::crd::RUNTIME_CONFIG_NAME;

use crate::rate_limit::Rate;

/// Runs Kubernetes Jobs, or local processes, when a Git repository changes.
#[derive(Parser)]
#[command(name = "git-events-runner", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one of them")]
pub enum Command {
    /// Watch repositories from within a cluster, and run actions as its Jobs
    Run(Run),
    /// Watch repositories without a cluster: the same manifests, read from a folder, and actions as local processes
    Local(Local),
    /// Print a table of the triggers in a cluster and their last runs
    Status(Status),
    /// Fire a trigger of a cluster now: each of its sources runs once, changed or not
    Trigger(Trigger),
    /// Check manifests as the API server and the controllers would, offline
    Validate(Validate),
    /// Print the custom resource definitions
    Crds,
    /// Print the runtime config with all its defaults
    Config(Config),
    /// Supervise one run of local mode; started by `local`
    #[command(hide = true)]
    Supervise(Supervise),
}

#[derive(Args)]
pub struct Local {
    /// Folder whose YAML files are read
    pub dir: PathBuf,
    /// Check every trigger once, run what is due, wait for it, and exit: 1 if a run failed
    #[arg(long)]
    pub once: bool,
    /// Folder for what has to outlive a restart [default: .git-events-runner beside the manifests]
    #[arg(long)]
    pub state: Option<PathBuf>,
    /// Address that webhooks are listened to on: 0.0.0.0 or :: for all of this machine
    #[arg(long, default_value = "127.0.0.1", env)]
    pub webhooks_address: IpAddr,
    /// Port for webhooks; it is listened to if there is a WebhookTrigger
    #[arg(short, long, default_value_t = 8080, env)]
    pub webhooks_port: u16,
    #[command(flatten)]
    pub log: Log,
}

#[derive(Args)]
pub struct Run {
    /// Port for webhooks
    #[arg(short, long, default_value_t = 8080, env)]
    pub webhooks_port: u16,
    /// Port for /ready, /alive, /metrics and a page of all triggers
    #[arg(short, long, default_value_t = 3000, env)]
    pub utility_port: u16,
    /// How many webhook requests are answered at a time; more wait
    #[arg(long, default_value = "256", env)]
    pub webhooks_parallelism: NonZeroUsize,
    /// How many triggers are evaluated at a time; more wait
    #[arg(long, default_value = "256", env)]
    pub schedule_parallelism: NonZeroUsize,
    /// For how many seconds a Secret that was read is used before it is read again
    #[arg(long, default_value = "60", env, value_parser = seconds(0..=86_400))]
    pub secrets_cache_time: Duration,
    /// Of no use: nothing is cloned to be checked. It is there for commands that set it
    #[arg(long, env, hide = true)]
    pub source_clone_folder: Option<PathBuf>,
    /// Name of the ConfigMap with the runtime config, in the operator's own namespace
    #[arg(long, default_value = RUNTIME_CONFIG_NAME, env, value_parser = object_name)]
    pub config_map_name: String,
    /// Name of the Lease that the leader holds, in the operator's own namespace
    #[arg(long, default_value = "git-events-runner-leader-lock", env, value_parser = object_name)]
    pub leader_lease_name: String,
    /// For how many seconds the others leave a leader alone that they do not hear of
    #[arg(long, default_value = "30", env, value_parser = seconds(2..=3600))]
    pub leader_lease_duration: Duration,
    /// A leader that cannot renew its Lease stops this many seconds before the others may take over; every write is given up sooner
    #[arg(long, default_value = "5", env, value_parser = seconds(1..=3599))]
    pub leader_lease_grace: Duration,
    /// What the names of all metrics begin with
    #[arg(long, default_value = "git_events_runner", env, value_parser = metrics_prefix)]
    pub metrics_prefix: String,
    /// The namespaces whose objects are watched, separated by commas [default: all]
    #[arg(long, env, value_delimiter = ',', value_parser = namespace)]
    pub watch_namespaces: Vec<String>,
    /// How many webhook requests are taken: so many at once, and as many again in so many seconds, evenly; more are told to come back
    #[arg(long, env, value_name = "BURST/SECONDS")]
    pub hooks_rrl_global: Option<Rate>,
    /// The same for each trigger
    #[arg(long, env, value_name = "BURST/SECONDS")]
    pub hooks_rrl_trigger: Option<Rate>,
    /// The same for each source of a trigger
    #[arg(long, env, value_name = "BURST/SECONDS")]
    pub hooks_rrl_source: Option<Rate>,
    /// File with the certificate that webhooks are served with, as PEM; it is read again when it changes [default: none, they are served by
    /// http]
    #[arg(long, env, value_name = "FILE", requires = "tls_key_path", conflicts_with = "tls_secret_name")]
    pub tls_cert_path: Option<PathBuf>,
    /// File with the key of that certificate
    #[arg(long, env, value_name = "FILE", requires = "tls_cert_path")]
    pub tls_key_path: Option<PathBuf>,
    /// Secret with that certificate and its key, as tls.crt and tls.key, instead of files
    #[arg(long, env, value_parser = object_name)]
    pub tls_secret_name: Option<String>,
    /// The namespace of that Secret [default: the operator's own]
    #[arg(long, env, value_parser = namespace, requires = "tls_secret_name")]
    pub tls_secret_namespace: Option<String>,
    /// The hosts that repositories and their proxies may be on, separated by commas; `*` stands for any characters [default: all]
    #[arg(long, env, value_delimiter = ',', value_name = "GLOB")]
    pub allowed_hosts: Vec<String>,
    #[command(flatten)]
    pub log: Log,
}

/// What is logged, and how.
#[derive(Args)]
pub struct Log {
    /// Log as JSON, one object a line
    #[arg(short, long, env, value_parser = BoolishValueParser::new())]
    pub json_logs: bool,
    /// What to log: a level, or tracing's directives
    #[arg(long, default_value = "info", env)]
    pub log_level: String,
}

#[derive(Args)]
pub struct Config {
    /// Print it as the template of a ConfigMap in a Helm chart
    #[arg(long)]
    pub helm_template: bool,
}

#[derive(Args)]
pub struct Status {
    /// The namespace of the triggers [default: that of the kubeconfig]
    #[arg(short, long, value_parser = namespace)]
    pub namespace: Option<String>,
    /// The triggers of all namespaces
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub all_namespaces: bool,
}

#[derive(Args)]
pub struct Trigger {
    /// Which trigger: its kind and its name, such as scheduletrigger/nightly or wt/hook
    #[arg(value_name = "KIND/NAME", value_parser = trigger_name)]
    pub trigger: TriggerName,
    /// The namespace of the trigger [default: that of the kubeconfig]
    #[arg(short, long, value_parser = namespace)]
    pub namespace: Option<String>,
    /// Wait until its runs have ended, and exit: 1 if one of them did not end well
    #[arg(long)]
    pub wait: bool,
    /// For how long to wait, such as 90s or 10m
    #[arg(long, default_value = "1h", requires = "wait", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
}

/// A trigger, as kubectl names it.
#[derive(Clone)]
pub struct TriggerName {
    pub kind: TriggerKind,
    pub name: String,
}

#[derive(Clone, Copy)]
pub enum TriggerKind {
    Schedule,
    Webhook,
}

#[derive(Args)]
pub struct Validate {
    /// Files, or folders whose YAML files are read
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
}

#[derive(Args)]
pub struct Supervise {
    /// Folder of the run
    pub run: PathBuf,
}

impl Run {
    /// Checks what no flag can check alone.
    pub fn check(&self) -> anyhow::Result<()> {
        let (duration, grace) = (self.leader_lease_duration.as_secs(), self.leader_lease_grace.as_secs());
        anyhow::ensure!(grace < duration, "--leader-lease-grace {grace} must be less than --leader-lease-duration {duration}");
        Ok(())
    }
}

/// A number of seconds within these bounds.
fn seconds(bounds: std::ops::RangeInclusive<u64>) -> impl TypedValueParser<Value = Duration> {
    value_parser!(u64).range(bounds).map(Duration::from_secs)
}

fn metrics_prefix(text: &str) -> Result<String, &'static str> {
    let is_first = |c: char| c.is_ascii_alphabetic() || c == '_';
    let allowed = text.starts_with(is_first) && text.chars().all(|c| is_first(c) || c.is_ascii_digit());
    allowed.then(|| text.to_owned()).ok_or("must be letters, digits and `_`, and begin with no digit")
}

fn trigger_name(text: &str) -> Result<TriggerName, &'static str> {
    let (kind, name) = text.split_once('/').ok_or("write it as KIND/NAME, such as scheduletrigger/nightly")?;
    let kind = match kind.to_ascii_lowercase().as_str() {
        "scheduletrigger" | "scheduletriggers" | "st" => TriggerKind::Schedule,
        "webhooktrigger" | "webhooktriggers" | "wt" => TriggerKind::Webhook,
        _ => return Err("the kind is scheduletrigger or webhooktrigger, or in short st or wt"),
    };
    Ok(TriggerName { kind, name: object_name(name)? })
}

fn object_name(text: &str) -> Result<String, &'static str> {
    let allowed = text.len() <= 253 && text.split('.').all(is_label);
    allowed
        .then(|| text.to_owned())
        .ok_or("a name is at most 253 lower case letters, digits, `-` and `.`, with a letter or digit at both ends")
}

fn namespace(text: &str) -> Result<String, &'static str> {
    let allowed = text.len() <= 63 && is_label(text);
    allowed
        .then(|| text.to_owned())
        .ok_or("a namespace is at most 63 lower case letters, digits and `-`, with a letter or digit at both ends")
}

fn is_label(text: &str) -> bool {
    let is_end = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(is_end) && text.ends_with(is_end) && text.chars().all(|c| is_end(c) || c == '-')
}
