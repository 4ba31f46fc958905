//! Replicas of the operator, with the account that the chart gives them.

use anyhow::{Context as _, Result, ensure};
use git_events_runner_tests::{
    Operator,
    cluster::{Cluster, Mode},
    wait_for,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_git-events-runner");

fn leads(operator: &Operator) -> Option<()> {
    operator.metrics().ok().filter(|metrics| metrics.lines().any(|line| line == "runner_leader 1")).map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_asked_to_end_hands_over_to_another_before_its_lease_expires() -> Result<()> {
    let cluster = Cluster::shared(Mode::ControlPlane).await?;
    let namespace = cluster.namespace().await?;
    let kubeconfig = cluster.operator_account(&namespace).await?;
    let args = ["--leader-lease-duration", "3600", "--metrics-prefix", "runner", "--watch-namespaces", &*namespace];
    let start = || Operator::start(PROGRAM, &kubeconfig, &namespace, &args, &[]);
    let first = start()?;
    first.wait_until_ready()?;
    wait_for("the first leads", || leads(&first))?;
    let second = start()?;
    second.wait_until_ready()?;
    ensure!(leads(&second).is_none(), "both lead");
    let (status, logs) = first.terminate()?;
    ensure!(status.success(), "{status}: {logs:#?}");
    wait_for("the second leads", || leads(&second)).with_context(|| format!("{:#?}", second.logs()))
}
