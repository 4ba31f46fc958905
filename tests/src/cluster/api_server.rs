use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{bail, ensure};
use git_events_runner_core::crd;
use reqwest::{Certificate, Method, StatusCode};
use serde_json::Value;

use super::{credentials, programs::Programs};

/// What it consists of.
pub(super) const PROGRAMS: [&str; 3] = ["etcd", "kube-apiserver", "kubectl"];

/// How long an API server may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(90);

/// How long the API server may take to serve a new kind.
const ESTABLISHED_WITHIN: Duration = Duration::from_secs(60);

/// An API server with an etcd of its own, in a temporary folder. It ends when this is dropped, and also when the process ends without that.
#[derive(Debug)]
pub struct ApiServer {
    pub(super) programs: Programs,
    address: String,
    token: String,
    client: reqwest::Client,
}

impl ApiServer {
    /// Starts an API server and waits until it is ready. The first start on a machine builds it, which takes minutes.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_in(Programs::prepare(&PROGRAMS)?).await
    }

    /// The same where these programs are to run.
    pub(super) async fn start_in(programs: Programs) -> anyhow::Result<Self> {
        let token = credentials::write(&programs.folder, programs.address)?;
        // Another part of the process may have done it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let authority = Certificate::from_pem(&fs::read(programs.folder.join("ca.crt"))?)?;
        // A connection belongs to the runtime of the test that opened it: none is kept for another one.
        let client = reqwest::Client::builder().tls_certs_only([authority]).no_proxy().pool_max_idle_per_host(0).build()?;
        let server = Self { address: format!("https://{}", programs.address), programs, token, client };
        server.programs.start("etcd")?;
        server.resume().await?;
        Ok(server)
    }

    /// Kills it as a crash would; etcd stays.
    pub(super) fn pause(&self) -> anyhow::Result<()> {
        self.programs.stop("kube-apiserver")
    }

    /// Starts it on its port and its etcd, and waits until it is ready.
    pub(super) async fn resume(&self) -> anyhow::Result<()> {
        self.programs.start("kube-apiserver")?;
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            self.programs.ensure_running()?;
            let answer = self.client.get(format!("{}/readyz", self.address)).bearer_auth(&self.token).send().await;
            match answer {
                Ok(answer) if answer.status() == StatusCode::OK => return Ok(()),
                _ if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(50)).await,
                Ok(answer) => bail!("the API server is not ready: {}\n{}", answer.status(), self.programs.logs()),
                Err(error) => bail!("the API server is not ready: {error:#}\n{}", self.programs.logs()),
            }
        }
    }

    /// Adds our kinds and waits until they are served.
    pub async fn install_crds(&self) -> anyhow::Result<()> {
        for crd in crd::all() {
            self.establish(&serde_json::to_value(crd)?).await?;
        }
        Ok(())
    }

    /// Adds a kind and waits until it is served. `crd` is its definition.
    pub async fn establish(&self, crd: &Value) -> anyhow::Result<()> {
        let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        let answer = self.create(definitions, crd.to_string()).await?;
        let path = format!("{definitions}/{}", text(&answer["metadata"]["name"]));
        let deadline = Instant::now() + ESTABLISHED_WITHIN;
        loop {
            let (_, answer) = self.send(Method::GET, &path, "application/json", String::new()).await?;
            let conditions = answer["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let is = |kind: &str| conditions.iter().any(|condition| condition["type"] == kind && condition["status"] == "True");
            ensure!(!is("NonStructuralSchema"), "the schema is not structural: {}", answer["status"]);
            if is("Established") {
                break;
            }
            ensure!(Instant::now() < deadline, "{path} is not established: {}", answer["status"]);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let (group, version) = (&crd["spec"]["group"], &crd["spec"]["versions"][0]["name"]);
        self.wait_until_served(&format!("/apis/{}/{}/{}", text(group), text(version), text(&crd["spec"]["names"]["plural"]))).await
    }

    /// Waits until the objects at a path are served, which is a moment after their kind is established.
    pub async fn wait_until_served(&self, path: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + ESTABLISHED_WITHIN;
        while self.send(Method::GET, path, "application/json", String::new()).await?.0 != StatusCode::OK {
            ensure!(Instant::now() < deadline, "{path} is not served");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Waits until what the fields of our kinds mean is published, which is a moment after they are served: `kubectl explain` reads it.
    pub async fn wait_until_described(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + ESTABLISHED_WITHIN;
        let api = format!("/apis/{}/{}", crd::GROUP, crd::VERSION);
        loop {
            let (_, described) = self.send(Method::GET, &format!("/openapi/v3{api}"), "application/json", String::new()).await?;
            if crd::all().iter().all(|crd| described["paths"].get(format!("{api}/{}", crd.spec.names.plural)).is_some()) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the fields of our kinds are not described");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Creates an object from YAML or JSON in a collection, given by its path, and answers what became of it.
    pub async fn create(&self, collection: &str, manifest: String) -> anyhow::Result<Value> {
        let (status, answer) = self.send(Method::POST, collection, "application/yaml", manifest).await?;
        ensure!(status == StatusCode::CREATED, "{collection} answers {status}: {}", answer["message"]);
        Ok(answer)
    }

    /// Sends a request, and answers the status and the JSON of the body.
    pub async fn send(&self, method: Method, path: &str, content_type: &str, body: String) -> anyhow::Result<(StatusCode, Value)> {
        let request = self.client.request(method, format!("{}{path}", self.address)).bearer_auth(&self.token);
        let answer = request.header("content-type", content_type).header("accept", "application/json").body(body).send().await?;
        let (status, body) = (answer.status(), answer.bytes().await?);
        Ok((status, serde_json::from_slice(&body).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&body).into_owned()))))
    }

    /// A helm that speaks to this server.
    pub fn helm(&self) -> anyhow::Result<Command> {
        let folder = &self.programs.folder;
        let mut helm = super::helm()?;
        helm.env("KUBECONFIG", folder.join("admin.kubeconfig"));
        for (variable, name) in [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")] {
            helm.env(variable, folder.join("helm").join(name));
        }
        Ok(helm)
    }

    /// A kubectl that speaks to this server.
    pub fn kubectl(&self) -> Command {
        let folder = &self.programs.folder;
        let mut kubectl = Command::new(self.programs.built.join("kubectl"));
        kubectl.arg("--cache-dir").arg(folder.join("kubectl")).env("KUBECONFIG", folder.join("admin.kubeconfig"));
        kubectl
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
