//! A real API server.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use reqwest::{Certificate, Method, StatusCode};
use serde_json::Value;
use uuid::Uuid;

/// How long an API server may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(90);

/// How long the API server may take to serve a new kind.
const ESTABLISHED_WITHIN: Duration = Duration::from_secs(30);

/// An API server with an etcd of its own, in a temporary folder. It ends when this is dropped, and also when the process ends without that.
#[derive(Debug)]
pub struct ApiServer {
    process: Child,
    folder: PathBuf,
    programs: PathBuf,
    address: String,
    token: String,
    client: reqwest::Client,
}

impl ApiServer {
    /// Starts an API server and waits until it is ready. The first start on a machine builds it, which takes minutes.
    pub async fn start() -> anyhow::Result<Self> {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster");
        let programs = build(&scripts, &["etcd", "kube-apiserver", "kubectl"])?;
        let folder = tempfile::Builder::new().prefix("api-server-").tempdir()?.keep();
        let token = Uuid::new_v4().to_string();
        let authority = write_credentials(&folder, &token)?;
        let [port, etcd, peer] = free_ports()?;
        let process = Command::new(scripts.join("up"))
            .args([folder.as_os_str(), port.to_string().as_ref(), etcd.to_string().as_ref(), peer.to_string().as_ref()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .context("cannot run tests/cluster/up: it needs bash")?;
        // Another part of the process may have done it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().tls_certs_only([Certificate::from_pem(authority.as_bytes())?]).no_proxy().build()?;
        let mut server = Self { process, folder, programs, address: format!("https://127.0.0.1:{port}"), token, client };
        server.wait_until_ready().await?;
        Ok(server)
    }

    async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            ensure!(self.process.try_wait()?.is_none(), "the API server has ended\n{}", self.logs());
            let answer = self.client.get(format!("{}/readyz", self.address)).bearer_auth(&self.token).send().await;
            match answer {
                Ok(answer) if answer.status() == StatusCode::OK => return Ok(()),
                _ if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(50)).await,
                Ok(answer) => bail!("the API server is not ready: {}\n{}", answer.status(), self.logs()),
                Err(error) => bail!("the API server is not ready: {error:#}\n{}", self.logs()),
            }
        }
    }

    /// Adds a kind and waits until it is served. `crd` is its definition.
    pub async fn establish(&self, crd: &Value) -> anyhow::Result<()> {
        let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        let (status, answer) = self.send(Method::POST, definitions, "application/json", crd.to_string()).await?;
        ensure!(status == StatusCode::CREATED, "the definition is refused: {}", answer["message"]);
        let path = format!("{definitions}/{}", answer["metadata"]["name"].as_str().context("a definition without a name")?);
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
        let served = format!("/apis/{}/{}/{}", text(group), text(version), text(&crd["spec"]["names"]["plural"]));
        while self.send(Method::GET, &served, "application/json", String::new()).await?.0 != StatusCode::OK {
            ensure!(Instant::now() < deadline, "{served} is not served");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Sends a request, and answers the status and the JSON of the body.
    pub async fn send(&self, method: Method, path: &str, content_type: &str, body: String) -> anyhow::Result<(StatusCode, Value)> {
        let request = self.client.request(method, format!("{}{path}", self.address)).bearer_auth(&self.token);
        let answer = request.header("content-type", content_type).header("accept", "application/json").body(body).send().await?;
        let (status, body) = (answer.status(), answer.bytes().await?);
        Ok((status, serde_json::from_slice(&body).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&body).into_owned()))))
    }

    /// A kubectl that speaks to this server.
    pub fn kubectl(&self) -> Command {
        let mut kubectl = Command::new(self.programs.join("kubectl"));
        kubectl.args(["--server", &self.address, "--token", &self.token, "--cache-dir"]).arg(self.folder.join("kubectl"));
        kubectl.arg("--certificate-authority").arg(self.folder.join("ca.crt")).env("KUBECONFIG", "/dev/null");
        kubectl
    }

    /// What the servers have logged last.
    fn logs(&self) -> String {
        let log = |name: &str| {
            let text = fs::read_to_string(self.folder.join(name)).unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            format!("--- {name}\n{}\n", lines[lines.len().saturating_sub(20)..].join("\n"))
        };
        log("etcd.log") + &log("kube-apiserver.log")
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Makes sure that the programs are there, and answers where.
fn build(scripts: &Path, programs: &[&str]) -> anyhow::Result<PathBuf> {
    let built = Command::new(scripts.join("build")).args(programs).stderr(Stdio::inherit()).output();
    let built = built.context("cannot run tests/cluster/build: it needs bash, flock (util-linux) and Go 1.26 or later")?;
    ensure!(built.status.success(), "tests/cluster/build has failed: see above; it needs bash, flock (util-linux) and Go 1.26 or later");
    Ok(PathBuf::from(String::from_utf8(built.stdout)?.trim_end()))
}

/// Writes what `up` asks for, and answers the certificate of the authority.
fn write_credentials(folder: &Path, token: &str) -> anyhow::Result<String> {
    let authority_key = rcgen::KeyPair::generate()?;
    let mut authority = rcgen::CertificateParams::default();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_certificate = authority.self_signed(&authority_key)?.pem();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate()?;
    let certificate = rcgen::CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned()])?.signed_by(&key, &issuer)?;
    fs::write(folder.join("ca.crt"), &authority_certificate)?;
    fs::write(folder.join("tls.crt"), certificate.pem())?;
    fs::write(folder.join("tls.key"), key.serialize_pem())?;
    fs::write(folder.join("tokens.csv"), format!("{token},admin,admin,system:masters\n"))?;
    Ok(authority_certificate)
}

/// Ports that are free now.
fn free_ports<const N: usize>() -> anyhow::Result<[u16; N]> {
    let listeners = [(); N].map(|()| TcpListener::bind(("127.0.0.1", 0)));
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(listeners) {
        *port = listener?.local_addr()?.port();
    }
    Ok(ports)
}
