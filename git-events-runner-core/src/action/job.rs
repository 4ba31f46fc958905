//! Runs as Jobs of a cluster.

use std::sync::Arc;

use async_trait::async_trait;
use kube::Client;
use tokio::sync::{Mutex, watch};

use crate::{Action, ActionError, ObjectRef, Registered, Released, RunRef, RunRequest, RunStatus, Scope, TriggerId, Withdrawn, crd};

mod names;
mod origin;

pub use names::*;
pub use origin::*;

/// The names of the files that the cloner reads, in the folder [`FOLDER`](files::FOLDER).
pub mod files {
    /// Where the cloner finds them.
    pub const FOLDER: &str = "/git-credentials";
    /// `basic`: the user.
    pub const USERNAME: &str = "username";
    /// `basic`: the password.
    pub const PASSWORD: &str = "password";
    /// `token`: the value of the header Authorization.
    pub const TOKEN: &str = "token";
    /// `ssh`: the private key.
    pub const PRIVATE_KEY: &str = "ssh-privatekey";
    /// `ssh`: the passphrase of the private key; it may be absent.
    pub const PASSPHRASE: &str = "passphrase";
    /// `ssh`: the keys of the hosts; it may be absent.
    pub const KNOWN_HOSTS: &str = "known_hosts";
    /// Certificates of authorities, as PEM.
    pub const CA_CERTIFICATES: &str = "ca.crt";
    /// The user at the proxy; it may be absent.
    pub const PROXY_USERNAME: &str = "proxy-username";
    /// The password at the proxy; it may be absent.
    pub const PROXY_PASSWORD: &str = "proxy-password";
}

/// The Jobs of a cluster that are ours. Clones share it.
#[derive(Clone)]
pub struct Jobs {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    scope: Scope,
    config: watch::Receiver<Arc<crd::RuntimeConfig>>,
    /// Held while it is found out whether there is room, and until the room is taken.
    turn: Mutex<()>,
}

impl Jobs {
    /// The Jobs of this part of a cluster, made and counted by the config of the moment.
    pub fn new(client: Client, scope: Scope, config: watch::Receiver<Arc<crd::RuntimeConfig>>) -> Self {
        Self { shared: Arc::new(Shared { client, scope, config, turn: Mutex::new(()) }) }
    }
}

/// An action of which each run is a Job.
pub struct JobAction {
    id: ObjectRef,
    namespace: String,
    job: crd::ActionJob,
    jobs: Jobs,
    origins: Arc<dyn JobOrigins>,
}

impl JobAction {
    /// An action for the triggers of a namespace, where its Jobs are.
    pub fn new(id: ObjectRef, namespace: &str, job: crd::ActionJob, jobs: Jobs, origins: Arc<dyn JobOrigins>) -> Self {
        Self { id, namespace: namespace.to_owned(), job, jobs, origins }
    }
}

#[async_trait]
impl Action for JobAction {
    fn id(&self) -> &ObjectRef {
        &self.id
    }

    async fn register(&self, _run: &RunRequest) -> Result<Registered, ActionError> {
        Err(ActionError::Unavailable("to come in the next commit".into()))
    }

    async fn release(&self, _run: &RunRef) -> Result<Released, ActionError> {
        Err(ActionError::Unavailable("to come in the next commit".into()))
    }

    async fn runs(&self, _of: &TriggerId) -> Result<Vec<RunStatus>, ActionError> {
        Err(ActionError::Unavailable("to come in the next commit".into()))
    }

    async fn withdraw(&self, _run: &RunRef) -> Result<Withdrawn, ActionError> {
        Err(ActionError::Unavailable("to come in the next commit".into()))
    }

    async fn stop(&self, _run: &RunRef) -> Result<(), ActionError> {
        Err(ActionError::Unavailable("to come in the next commit".into()))
    }
}
