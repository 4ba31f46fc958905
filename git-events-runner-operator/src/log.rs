//! Where the log goes: to standard error, for people or as JSON.

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;

/// Starts to log what `level` says: a level, or tracing's directives.
pub fn start(json: bool, level: &str) -> anyhow::Result<()> {
    let filter =
        EnvFilter::try_new(level).with_context(|| format!("--log-level: `{level}` is neither a level nor a list of directives"))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    if json {
        log.json().init();
    } else {
        log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init();
    }
    Ok(())
}
