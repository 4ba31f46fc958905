//! A real Kubernetes: an API server alone, or with what makes Jobs run.

mod account;
mod api_server;
mod audit;
mod credentials;
mod namespace;
mod programs;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::sync::OnceCell;

pub use api_server::ApiServer;
pub use audit::Write;
pub use namespace::Namespace;

/// What a cluster consists of, besides etcd and an API server that serves our kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The controllers of Jobs, of garbage, of namespaces and of ServiceAccounts, and the scheduler: Jobs have Pods, which never run.
    ControlPlane,
    /// The same with a node that is simulated as `tests/cluster/kwok.yaml` says: Pods run, and complete.
    Kwok,
}

/// A cluster of its own. It ends when this is dropped, and also when the process ends without that.
#[derive(Debug)]
pub struct Cluster {
    server: ApiServer,
}

impl Cluster {
    /// Starts a cluster for one test alone, which may stop its API server, or fill it.
    pub async fn start(mode: Mode) -> anyhow::Result<Self> {
        let mut programs = vec!["kube-controller-manager", "kube-scheduler"];
        if mode == Mode::Kwok {
            programs.push("kwok");
        }
        let server = ApiServer::start_for(&programs).await?;
        // Before the controllers: the one of garbage looks for new kinds only every 30 s.
        server.install_crds().await?;
        if mode == Mode::Kwok {
            server.create("/api/v1/nodes", include_str!("../cluster/node.yaml").to_owned()).await?;
        }
        programs.into_iter().try_for_each(|program| server.programs.start(program))?;
        Ok(Self { server })
    }

    /// The cluster of this mode that the tests of this process share, each in its own [`Namespace`]. The first one to ask starts it.
    pub async fn shared(mode: Mode) -> anyhow::Result<&'static Self> {
        static SHARED: [OnceCell<Cluster>; 2] = [const { OnceCell::const_new() }; 2];
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

    /// The administrator's.
    pub fn kubeconfig(&self) -> PathBuf {
        self.server.programs.folder.join("admin.kubeconfig")
    }

    /// The administrator's.
    pub fn kubectl(&self) -> Command {
        self.server.kubectl()
    }

    /// Kills the API server as a crash would; all else goes on.
    pub fn stop_api_server(&self) -> anyhow::Result<()> {
        self.server.pause()
    }

    /// Brings the API server back, at the same address and with what it had, and waits until it is ready.
    pub async fn start_api_server(&self) -> anyhow::Result<()> {
        self.server.resume().await
    }

    /// All writes that were answered so far, refused ones too, in the order of their answers.
    pub fn writes(&self) -> anyhow::Result<Vec<Write>> {
        audit::read(&self.server.programs.folder)
    }
}

/// A new client with what a kubeconfig says. It belongs to the runtime that it is made in.
pub async fn client(kubeconfig: &Path) -> anyhow::Result<kube::Client> {
    let config = kube::Config::from_custom_kubeconfig(Kubeconfig::read_from(kubeconfig)?, &KubeConfigOptions::default()).await?;
    Ok(config.try_into()?)
}
