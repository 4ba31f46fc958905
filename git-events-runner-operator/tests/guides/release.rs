//! What a kubelet would do for the release: run the operator as its Deployment says.

use std::{ffi::OsStr, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use git_events_runner_tests::{Operator, cluster::Cluster};
use serde_json::Value;

/// The operator of the release, with what its ServiceAccount may do. The Pods of the simulated node are there besides, and do nothing.
pub struct Release<'a> {
    cluster: &'a Cluster,
    /// What it trusts as the certificates of the system.
    authorities: PathBuf,
    /// As which Pod.
    running: Option<(Value, Operator)>,
}

impl<'a> Release<'a> {
    pub fn new(cluster: &'a Cluster, authorities: PathBuf) -> Self {
        Self { cluster, authorities, running: None }
    }

    pub fn webhooks_port(&self) -> Option<u16> {
        self.running.as_ref().map(|(_, operator)| operator.webhooks_port())
    }

    /// Starts, replaces or ends the operator when the Deployment says so by now.
    pub async fn follow(&mut self) -> Result<()> {
        let mut get = self.cluster.kubectl();
        get.args(["get", "deployments", "--all-namespaces", "--selector=app.kubernetes.io/name=git-events-runner", "--output=json"]);
        let output = get.output()?;
        ensure!(output.status.success(), "kubectl get deployments: {}", String::from_utf8_lossy(&output.stderr));
        let list: Value = serde_json::from_slice(&output.stdout)?;
        let Some(deployment) = list["items"].get(0) else {
            return self.end();
        };
        let template = &deployment["spec"]["template"];
        let pod = &template["spec"];
        let args = pod["containers"][0]["args"].as_array().context("no arguments")?;
        let args: Vec<_> = args.iter().filter_map(Value::as_str).collect();
        if self.running.as_ref().is_some_and(|(running, _)| running == template) {
            return Ok(());
        }
        self.end()?;
        let namespace = deployment["metadata"]["namespace"].as_str().context("no namespace")?;
        let account = pod["serviceAccountName"].as_str().context("no ServiceAccount")?;
        let kubeconfig = self.cluster.kubeconfig_of(namespace, account).await?;
        let (command, flags) = args.split_first().context("no arguments")?;
        ensure!(*command == "run", "it is not to run, but to {command}");
        let variables: [(&str, &OsStr); 1] = [("SSL_CERT_FILE", self.authorities.as_os_str())];
        let operator = Operator::start(env!("CARGO_BIN_EXE_git-events-runner"), &kubeconfig, namespace, flags, &variables)?;
        operator.wait_until_ready()?;
        self.running = Some((template.clone(), operator));
        Ok(())
    }

    /// Ends it as a kubelet does, so that it hands its Lease over.
    fn end(&mut self) -> Result<()> {
        if let Some((_, operator)) = self.running.take() {
            operator.terminate()?;
        }
        Ok(())
    }
}
