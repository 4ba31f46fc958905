//! A node of this machine: containerd and the kubelet.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::Path,
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::{Api, runtime::wait::await_condition};

use super::{
    ApiServer, Cluster, api_server,
    programs::{Programs, SCRIPTS},
};
use crate::{server_process::program, wait_for};

/// What it consists of.
const PROGRAMS: [&str; 4] = ["containerd", "containerd-shim-runc-v2", "ctr", "kubelet"];

/// What is not built, and the Debian packages that have it.
const INSTALLED: [(&str, &str); 4] = [("unshare", "util-linux"), ("ip", "iproute2"), ("runc", "runc"), ("sed", "sed")];
const FILES: [(&str, &str); 2] = [("/usr/lib/cni/bridge", "containernetworking-plugins"), ("/bin/busybox", "busybox-static")];

/// How long the node may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(90);

/// Starts an API server where a node may join it, and makes sure that the programs are there that are to be started besides.
pub(super) async fn start_api_server(others: &[&str]) -> anyhow::Result<ApiServer> {
    ensure!(rustix::process::geteuid().is_root(), "containers are real ones here: run this test as root");
    for (name, package) in INSTALLED {
        program(name, package)?;
    }
    for (file, package) in FILES {
        ensure!(Path::new(file).exists(), "{file} is not installed: apt-get install {package}");
    }
    ApiServer::start_in(Programs::prepare_node(&[&api_server::PROGRAMS, others, &PROGRAMS].concat())?).await
}

impl Cluster {
    /// Starts the node, and waits until Pods can run on it.
    pub(super) async fn start_node(&self) -> anyhow::Result<()> {
        let programs = &self.server.programs;
        programs.start("containerd")?;
        let socket = programs.folder.join("containerd.sock");
        wait_for("the socket of containerd", || socket.exists().then_some(())).with_context(|| programs.logs())?;
        let image = programs.folder.join("busybox.tar");
        run(Command::new(Path::new(SCRIPTS).join("node/image")).arg(&image))?;
        self.import(&image)?;
        programs.start("kubelet")?;
        let nodes = Api::<Node>::all(self.client().await?);
        let is_ready = |node: Option<&Node>| {
            let conditions = node.and_then(|node| node.status.as_ref()).into_iter().flat_map(|status| status.conditions.iter().flatten());
            conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
        };
        let ready = tokio::time::timeout(READY_WITHIN, await_condition(nodes, "node", is_ready)).await;
        let ready = ready.map_err(anyhow::Error::from).and_then(|ready| Ok(ready?));
        ready.map(drop).with_context(|| format!("the node is not ready\n{}", programs.logs()))
    }

    /// Imports an image, or several, from an archive as `buildah push` or `docker save` write it. Pods use it by its name, with the
    /// `imagePullPolicy` `IfNotPresent` or `Never`.
    pub fn import(&self, archive: &Path) -> anyhow::Result<()> {
        let programs = &self.server.programs;
        let mut ctr = Command::new(programs.built.join("ctr"));
        ctr.arg("--address").arg(programs.folder.join("containerd.sock")).args(["--namespace", "k8s.io", "images", "import"]);
        run(ctr.arg(archive))
    }

    /// The address by which Pods reach servers of this machine, if there is a node for them.
    pub fn machine(&self) -> Option<IpAddr> {
        self.server.programs.network.map(|network| Ipv4Addr::new(198, 19, network, 1).into())
    }
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("{command:?} cannot be run"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
