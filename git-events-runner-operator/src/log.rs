//! Where the log goes: to standard error, for people or as JSON.

use anyhow::Context as _;
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use crate::args;

/// Starts to log.
pub fn start(log: &args::Log) -> anyhow::Result<()> {
    let args::Log { json_logs, log_level: level } = log;
    // A word alone would be taken for the name of a module, and a misspelled level silence everything.
    let is_word = level.chars().all(char::is_alphanumeric);
    if is_word {
        level
            .parse::<LevelFilter>()
            .map_err(|_| anyhow::anyhow!("--log-level: `{level}` is no level: error, warn, info, debug or trace"))?;
    }
    // What fails there is told by whoever has asked for it.
    let directives = if is_word { format!("{level},kube_client::client::builder=off") } else { level.clone() };
    let filter =
        EnvFilter::try_new(directives).with_context(|| format!("--log-level: `{level}` is neither a level nor a list of directives"))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // When nobody reads the log any more, there is nobody to tell, and trying to would panic.
    let log = log.log_internal_errors(false);
    if *json_logs {
        log.json().init();
    } else {
        log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init();
    }
    Ok(())
}
