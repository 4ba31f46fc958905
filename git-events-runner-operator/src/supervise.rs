//! `git-events-runner supervise`: one run of local mode, in a process of its own.

use anyhow::Context as _;
use git_events_runner_core::{manifests::Manifests, process};
use jiff::Timestamp;

use crate::args;

pub fn run(args: args::Supervise) -> anyhow::Result<()> {
    let args::Supervise { run } = args;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime can be started")?;
    let supervised = runtime.block_on(process::supervise(&run, std::env::vars_os(), Timestamp::now, Manifests::connect));
    // A checkout that was cut short may still be at work on a thread of its own: the end of this process ends that.
    runtime.shutdown_background();
    supervised.map_err(|error| anyhow::anyhow!("{error}"))
}
