//! The command line.

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, builder::BoolishValueParser};

/// Runs Kubernetes Jobs, or local processes, when a Git repository changes.
#[derive(Parser)]
#[command(name = "git-events-runner", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Watch repositories without a cluster: the same manifests, read from a folder, and actions as local processes
    Local(Local),
    /// Check manifests as the API server and the controllers would, offline
    Validate(Validate),
    /// Print the custom resource definitions
    Crds,
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
    #[arg(long, default_value = "127.0.0.1", env = "WEBHOOKS_ADDRESS")]
    pub webhooks_address: IpAddr,
    /// Port for webhooks; it is listened to if there is a WebhookTrigger
    #[arg(short, long, default_value_t = 8080, env = "WEBHOOKS_PORT")]
    pub webhooks_port: u16,
    /// Log as JSON, one object a line
    #[arg(short, long, env = "JSON_LOGS", value_parser = BoolishValueParser::new())]
    pub json_logs: bool,
    /// What to log: a level, or tracing's directives
    #[arg(long, default_value = "info", env = "LOG_LEVEL")]
    pub log_level: String,
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
