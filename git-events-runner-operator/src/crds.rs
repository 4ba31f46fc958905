//! `git-events-runner crds`.

use std::io::{ErrorKind, Write as _};

use anyhow::Context as _;
use git_events_runner_core::crd;

/// Prints the custom resource definitions of all kinds as YAML, always in the same order.
pub fn run() -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    for crd in crd::all() {
        // By way of a JSON value, whose keys are in order.
        let crd = serde_json::to_value(&crd).context("a definition is no JSON")?;
        let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
        let yaml = serde_saphyr::to_string_with_options(&crd, options).context("a definition is no YAML")?;
        match write!(stdout, "---\n{yaml}") {
            // `crds | head` has seen enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => break,
            written => written.context("cannot print the definitions")?,
        }
    }
    Ok(())
}
