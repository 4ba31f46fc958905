//! The certificate of the webhook port: read from files or from a Secret, and again whenever it changes.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::{sync::watch, time::sleep};
use tracing::{info, warn};

/// How often it is looked at whether the certificate is another one; and as long as there is none, whether there is one.
const EVERY: Duration = Duration::from_secs(10);
const SOON: Duration = Duration::from_secs(1);

/// The keys of a Secret of the type kubernetes.io/tls.
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// Where the certificate is.
#[expect(clippy::large_enum_variant, reason = "there is one of them")]
pub enum Place {
    Files { certificate: PathBuf, key: PathBuf },
    Secret { secrets: Api<Secret>, name: String },
}

/// The certificate, with those that it was issued by, and its key, as PEM.
#[derive(PartialEq, Eq)]
struct Pair {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Place {
    pub fn secret(client: Client, namespace: &str, name: String) -> Self {
        Self::Secret { secrets: Api::namespaced(client, namespace), name }
    }

    async fn read(&self) -> anyhow::Result<Pair> {
        match self {
            Self::Files { certificate, key } => {
                let read = async |path: &PathBuf| tokio::fs::read(path).await.with_context(|| format!("{} cannot be read", path.display()));
                Ok(Pair { certificate: read(certificate).await?, key: read(key).await? })
            }
            Self::Secret { secrets, name } => {
                let secret = secrets.get(name).await.with_context(|| format!("the Secret {name} cannot be read"))?;
                let mut data = secret.data.unwrap_or_default();
                let mut take = |key: &str| data.remove(key).with_context(|| format!("the Secret {name} has no key {key}"));
                Ok(Pair { certificate: take(CERTIFICATE)?.0, key: take(KEY)?.0 })
            }
        }
    }
}

impl Pair {
    fn config(&self) -> anyhow::Result<ServerConfig> {
        let chain =
            CertificateDer::pem_slice_iter(&self.certificate).collect::<Result<Vec<_>, _>>().context("the certificate is no PEM")?;
        anyhow::ensure!(!chain.is_empty(), "the certificate is no PEM: nothing in it is a certificate");
        let key = PrivateKeyDer::from_pem_slice(&self.key).context("the key is no PEM of a private key")?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider())).with_safe_default_protocol_versions()?;
        let mut config = config.with_no_client_auth().with_single_cert(chain, key).context("certificate and key do not go together")?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// Waits until there is a certificate, and answers what connections begin with: by another one as soon as the certificate is.
pub async fn follow(place: Place) -> watch::Receiver<Arc<ServerConfig>> {
    let mut follower = Follower { place, used: None, told: String::new() };
    let first = loop {
        match follower.look().await {
            Some(first) => break first,
            None => sleep(SOON).await,
        }
    };
    let (sender, receiver) = watch::channel(first);
    tokio::spawn(async move {
        while !sender.is_closed() {
            sleep(EVERY).await;
            if let Some(new) = follower.look().await {
                sender.send_replace(new);
            }
        }
    });
    receiver
}

struct Follower {
    place: Place,
    used: Option<Pair>,
    /// What was wrong at the last look.
    told: String,
}

impl Follower {
    /// What there is now, if it is another one and can be used. Otherwise the last good one stays in use.
    async fn look(&mut self) -> Option<Arc<ServerConfig>> {
        let looked = async {
            let pair = self.place.read().await?;
            let config = if self.used.as_ref() == Some(&pair) { None } else { Some(Arc::new(pair.config()?)) };
            anyhow::Ok((pair, config))
        };
        match looked.await {
            Ok((pair, config)) => {
                self.told.clear();
                self.used = Some(pair);
                config.inspect(|_| info!("webhooks are served with a new certificate"))
            }
            Err(error) => {
                let trouble = format!("{error:#}");
                if trouble != self.told {
                    warn!("the certificate for webhooks cannot be used, and is looked at again: {trouble}");
                }
                self.told = trouble;
                None
            }
        }
    }
}
