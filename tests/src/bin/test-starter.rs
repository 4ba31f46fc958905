//! Releases one run, as local mode would, to be killed meanwhile. Its argument is a JSON document.

use std::{path::PathBuf, sync::Arc};

use anyhow::Context as _;
use async_trait::async_trait;
use git_events_runner_core::{
    Action as _, ActionError, ObjectRef, RunRef, RunRequest,
    process::{CommandLine, Origin, Origins, ProcessAction, Runs, Supervisor},
};
use jiff::Timestamp;
use serde_json::Value;

struct Fixed(Origin);

#[async_trait]
impl Origins for Fixed {
    async fn origin(&self, _: &RunRequest) -> Result<Origin, ActionError> {
        Ok(self.0.clone())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut job: Value = serde_json::from_str(&std::env::args().nth(1).context("what to release is missing")?)?;
    let folder: PathBuf = serde_json::from_value(job["runs"].take())?;
    let supervisor = Supervisor { program: serde_json::from_value(job["supervisor"].take())?, args: vec![] };
    let runs = Runs::open(&folder, supervisor, Timestamp::now)?;
    let argv = serde_json::from_value(job["argv"].take())?;
    let environment = serde_json::from_value(job["environment"].take())?;
    let origin = Origin { checkout: job["checkout"].take(), ..Origin::default() };
    let id = ObjectRef::namespaced("Action", "default", "deploy");
    let command = CommandLine { argv, environment, ..CommandLine::default() };
    let run: RunRef = serde_json::from_value(job["run"].take())?;
    ProcessAction::new(id, runs, command, Arc::new(Fixed(origin))).release(&run).await?;
    Ok(())
}
