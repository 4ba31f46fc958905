//! `git-events-runner crds`.

use git_events_runner_core::crd;

use crate::stdout;

/// Prints the custom resource definitions of all kinds as YAML, always in the same order.
pub fn run() -> anyhow::Result<()> {
    let definitions = crd::all();
    let documents = definitions.iter().map(|definition| Ok(format!("---\n{}", stdout::yaml(definition)?)));
    stdout::print(&documents.collect::<anyhow::Result<String>>()?)
}
