//! A real Kubernetes: an API server alone, or with what makes Jobs run.

mod account;
mod api_server;
mod audit;
mod credentials;
mod history;
mod namespace;
mod node;
mod programs;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;
use kube::{
    Resource,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde::de::DeserializeOwned;
use tokio::sync::OnceCell;

pub use api_server::ApiServer;
pub use audit::Write;
pub use namespace::Namespace;

use programs::Programs;

/// What a cluster consists of, besides etcd and an API server that serves our kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The controllers of Jobs, of garbage, of namespaces and of ServiceAccounts, and the scheduler: Jobs have Pods, which never run.
    ControlPlane,
    /// The same with a node that is simulated as `tests/cluster/kwok.yaml` says: Pods run, and complete.
    Kwok,
    /// The same controllers with a node of this machine: Pods are containers. It needs root. The image `localhost/busybox:1` is there, others
    /// are [imported](Cluster::import). Pods reach each other, the API server and [this machine](Cluster::machine) by address; there is no DNS, no
    /// kube-proxy, and nothing that enforces a NetworkPolicy.
    Node,
}

/// A cluster of its own. It ends when this is dropped, and also when the process ends without that.
#[derive(Debug)]
pub struct Cluster {
    server: ApiServer,
    controllers: Vec<&'static str>,
}

impl Cluster {
    /// Starts a cluster for one test alone, which may stop its API server, or fill it.
    pub async fn start(mode: Mode) -> anyhow::Result<Self> {
        Self::start_with(mode, true).await
    }

    /// The same without our kinds, for a test that installs them.
    pub async fn start_bare(mode: Mode) -> anyhow::Result<Self> {
        Self::start_with(mode, false).await
    }

    async fn start_with(mode: Mode, our_kinds: bool) -> anyhow::Result<Self> {
        let mut controllers = vec!["kube-controller-manager", "kube-scheduler"];
        if mode == Mode::Kwok {
            controllers.push("kwok");
        }
        let server = match mode {
            Mode::Node => node::start_api_server(&controllers).await?,
            _ => ApiServer::start_in(Programs::prepare(&[&api_server::PROGRAMS, &controllers[..]].concat())?).await?,
        };
        // Before the controllers: the one of garbage looks for new kinds only every 30 s.
        if our_kinds {
            server.install_crds().await?;
        }
        if mode == Mode::Kwok {
            server.create("/api/v1/nodes", include_str!("../cluster/node.yaml").to_owned()).await?;
        }
        let cluster = Self { server, controllers };
        cluster.start_controllers()?;
        if mode == Mode::Node {
            cluster.start_node().await?;
        }
        Ok(cluster)
    }

    fn start_controllers(&self) -> anyhow::Result<()> {
        self.controllers.iter().try_for_each(|program| self.server.programs.start(program))
    }

    /// The cluster of this mode that the tests of this process share, each in its own [`Namespace`]. The first one to ask starts it.
    pub async fn shared(mode: Mode) -> anyhow::Result<&'static Self> {
        static SHARED: [OnceCell<Cluster>; 3] = [const { OnceCell::const_new() }; 3];
        SHARED[mode as usize].get_or_try_init(|| Self::start(mode)).await
    }

    /// The API server, for requests by path.
    pub fn server(&self) -> &ApiServer {
        &self.server
    }

    /// A new client of the administrator's. It belongs to the runtime that it is made in, as each test has one.
    pub async fn client(&self) -> anyhow::Result<kube::Client> {
        client(&self.kubeconfig()).await
    }

    /// The path of the administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.server.programs.folder.join("admin.kubeconfig")
    }

    /// A kubectl of the administrator's.
    pub fn kubectl(&self) -> Command {
        self.server.kubectl()
    }

    /// Kills the API server as a crash would, and with it the controllers, which can do nothing meanwhile: left alone, they would back off,
    /// and come back a minute late.
    pub fn stop_api_server(&self) -> anyhow::Result<()> {
        self.server.pause()?;
        self.controllers.iter().try_for_each(|program| self.server.programs.stop(program))
    }

    /// Brings the API server back, at the same address and with what it had, waits until it is ready, and brings the controllers back.
    pub async fn start_api_server(&self) -> anyhow::Result<()> {
        self.server.resume().await?;
        self.start_controllers()
    }

    /// All writes that were answered so far, refused ones too, in the order of their answers.
    pub fn writes(&self) -> anyhow::Result<Vec<Write>> {
        let mut requests = audit::read(&self.server.programs.folder)?;
        requests.retain(|request| request.verb != "get");
        Ok(requests)
    }

    /// All that was ever written of a kind of ours up to the last write of what is there now, in order: the version, and the object. A watch may
    /// miss some of it when the API server goes away.
    pub async fn history<K: Resource<DynamicType = ()> + DeserializeOwned>(&self) -> anyhow::Result<Vec<(u64, K)>> {
        history::read(self.server.programs.etcd.context("the etcd of a node's cluster is out of reach")?).await
    }

    /// How often a user has read this Secret so far, or has tried to.
    pub fn reads_of_secret(&self, user: &str, namespace: &str, name: &str) -> anyhow::Result<usize> {
        let requests = audit::read(&self.server.programs.folder)?;
        let reads = requests.iter().filter(|request| request.verb == "get" && request.user == user);
        let is_it = |request: &&Write| request.namespace.as_deref() == Some(namespace) && request.name.as_deref() == Some(name);
        Ok(reads.filter(is_it).count())
    }
}

/// The folder of these programs of a Kubernetes. The first time on a machine builds them, which takes minutes.
pub(crate) fn programs(names: &[&str]) -> anyhow::Result<PathBuf> {
    Programs::build(names)
}

/// A helm that speaks to no server. The first one on a machine is built, which takes minutes.
pub fn helm() -> anyhow::Result<Command> {
    Ok(Command::new(programs(&["helm"])?.join("helm")))
}

/// A new client with what a kubeconfig says. It belongs to the runtime that it is made in.
pub async fn client(kubeconfig: &Path) -> anyhow::Result<kube::Client> {
    let config = kube::Config::from_custom_kubeconfig(Kubeconfig::read_from(kubeconfig)?, &KubeConfigOptions::default()).await?;
    Ok(config.try_into()?)
}
