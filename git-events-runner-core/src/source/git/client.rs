use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use russh::keys::PrivateKey;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
};
use sha2::{Digest as _, Sha256};

use super::{
    Proxy, Repository, Secret, Tls,
    capabilities::Capabilities,
    files::Files,
    flights::Flights,
    github_app::Apps,
    hosts::Hosts,
    refs::{AGENT, Found},
    store::blocking,
};
use crate::{Cause, Reason, Retry, SourceError};

/// How long a connection may take to come up, TLS included.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// How long an unused connection is kept for the next check: most checks are a minute apart.
const IDLE: Duration = Duration::from_secs(90);

/// Unused connections kept per host: a burst of checks should not leave hundreds.
const IDLE_PER_HOST: usize = 8;

/// For how many ways to trust and to connect a pool of connections is kept.
const MAX_POOLS: usize = 64;

/// How many private keys are kept open; some kilobytes each.
const MAX_PRIVATE_KEYS: usize = 1000;

/// Of how many repositories it is remembered how they talk; some 200 bytes each.
const MAX_REMEMBERED: usize = 20_000;

/// The most that is accepted from a repository: what is past these is an error, not a full disk.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of refs in a check. 64 MiB: a server without protocol v2 sends all its refs, 67 bytes each, and a million refs is a lot.
    pub refs: u64,
    /// Bytes of a commit's files as they are sent, compressed. 4 GiB: more than any large host takes in one push.
    pub pack: u64,
    /// Bytes of a commit's files as they are written. 16 GiB: a pack may unpack to a thousand times its size.
    pub files: u64,
    /// Bytes of one file. 2 GiB: while it is written it is in memory as a whole.
    pub file: u64,
    /// Number of a commit's files and folders. A million: each takes some 200 bytes of memory, and the largest public trees have half of that.
    pub file_count: u64,
    /// Bytes of the folders of a commit whose files are compared. 64 MiB: some 40 for each file of a million.
    pub trees: u64,
    /// Bytes of the folders of all commits that are compared at a time. A quarter of it is used to keep them for the next comparison.
    pub all_trees: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { refs: 64 << 20, pack: 4 << 30, files: 16 << 30, file: 2 << 30, file_count: 1_000_000, trees: 64 << 20, all_trees: 256 << 20 }
    }
}

/// Connections to Git servers, and what is known of those. Clones share it: a process needs one.
///
/// It takes no proxy from the environment, keeps no cookies, and reads the system's trusted certificates once.
#[derive(Clone)]
pub struct GitClient(Arc<Shared>);

struct Shared {
    roots: RootCertStore,
    limits: Limits,
    /// By a digest of what is trusted, and of the way.
    pools: Mutex<HashMap<[u8; 32], reqwest::Client>>,
    /// Servers that talk version 2, by a digest of the repository's URI, of what is trusted and of the way: who trusts anybody, or chooses what is
    /// between, may learn what is wrong.
    remembered: Mutex<HashMap<[u8; 32], Remembered>>,
    /// By a digest of their texts and passphrases.
    private_keys: Mutex<HashMap<[u8; 32], Arc<PrivateKey>>>,
    /// By a digest of all by which checks differ.
    flights: Flights<[u8; 32], Result<Found, SourceError>>,
    hosts: Hosts,
    apps: Apps,
    files: Files,
}

/// What spares a later check the first of its two requests.
#[derive(Clone)]
pub(super) struct Remembered {
    /// The URL that the repository's own redirects led to.
    pub(super) base: reqwest::Url,
    pub(super) capabilities: Capabilities,
}

impl fmt::Debug for GitClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GitClient").field("limits", &self.0.limits).finish_non_exhaustive()
    }
}

impl Default for GitClient {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl GitClient {
    /// A client with limits of your own. It reads the system's trusted certificates: some milliseconds.
    pub fn new(limits: Limits) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let (pools, remembered, private_keys, flights, hosts, apps, files) = Default::default();
        Self(Arc::new(Shared { roots, limits, pools, remembered, private_keys, flights, hosts, apps, files }))
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// The checks of refs that are in flight.
    pub(super) fn flights(&self) -> &Flights<[u8; 32], Result<Found, SourceError>> {
        &self.0.flights
    }

    pub(super) fn apps(&self) -> &Apps {
        &self.0.apps
    }

    pub(super) fn hosts(&self) -> &Hosts {
        &self.0.hosts
    }

    pub(super) fn files(&self) -> &Files {
        &self.0.files
    }

    /// The pool of connections that trust what the repository trusts, and go the same way.
    pub(super) fn pool(&self, repository: &Repository) -> Result<reqwest::Client, SourceError> {
        let key = pool_key(repository);
        let mut pools = lock(&self.0.pools);
        if let Some(pool) = pools.get(&key) {
            return Ok(pool.clone());
        }
        let pool = self.connect(&repository.tls, repository.proxy.as_ref())?;
        if pools.len() >= MAX_POOLS {
            pools.clear();
        }
        pools.insert(key, pool.clone());
        Ok(pool)
    }

    fn connect(&self, tls: &Tls, through: Option<&Proxy>) -> Result<reqwest::Client, SourceError> {
        let provider = Arc::new(ring::default_provider());
        let mut roots = self.0.roots.clone();
        if let Some(pem) = &tls.ca_certificates {
            add_certificates(&mut roots, pem)?;
        }
        // The provider is named: the default of the process may be missing, or another.
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let mut config = config.map_err(|error| unusable(error.into()))?.with_root_certificates(roots).with_no_client_auth();
        if tls.no_verify {
            config.dangerous().set_certificate_verifier(Arc::new(AnyCertificate(provider)));
        }
        let builder = reqwest::Client::builder()
            .tls_backend_preconfigured(config)
            .http1_only()
            .no_proxy()
            .referer(false)
            // Redirects are followed by hand, within the repository's origin.
            .redirect(reqwest::redirect::Policy::none())
            // Some servers tell Git from browsers by the first word.
            .user_agent(format!("git/{AGENT}"))
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_PER_HOST);
        let builder = if let Some(through) = through { builder.proxy(proxy(through)?) } else { builder };
        builder.build().map_err(|error| unusable(error.into()))
    }

    /// The private key of this text and passphrase: opening one may take a tenth of a second.
    pub(super) async fn private_key(
        &self,
        text: &Secret,
        passphrase: Option<&Secret>,
        open: fn(&str, Option<&str>) -> Result<PrivateKey, String>,
    ) -> Result<Arc<PrivateKey>, String> {
        let mut digest = Sha256::new_with_prefix(Sha256::digest(text.expose()));
        digest.update(passphrase.map_or("", Secret::expose));
        let digest = digest.finalize().into();
        if let Some(key) = lock(&self.0.private_keys).get(&digest) {
            return Ok(Arc::clone(key));
        }
        let (text, passphrase) = (text.clone(), passphrase.cloned());
        let key = Arc::new(blocking(move |_| open(text.expose(), passphrase.as_ref().map(Secret::expose))).await?);
        let mut keys = lock(&self.0.private_keys);
        if keys.len() >= MAX_PRIVATE_KEYS {
            keys.clear();
        }
        keys.insert(digest, Arc::clone(&key));
        Ok(key)
    }

    pub(super) fn remembered(&self, repository: &Repository) -> Option<Remembered> {
        lock(&self.0.remembered).get(&way_key(repository)).cloned()
    }

    pub(super) fn remember(&self, repository: &Repository, known: Remembered) {
        let mut remembered = lock(&self.0.remembered);
        // All at once: each costs one request to learn again.
        if remembered.len() >= MAX_REMEMBERED {
            remembered.clear();
        }
        remembered.insert(way_key(repository), known);
    }

    pub(super) fn forget(&self, repository: &Repository) {
        lock(&self.0.remembered).remove(&way_key(repository));
    }
}

/// A digest of all by which connections differ, but for the server.
fn pool_key(repository: &Repository) -> [u8; 32] {
    let Repository { tls: Tls { ca_certificates, no_verify }, proxy, .. } = repository;
    let (url, credentials) = proxy.as_ref().map_or(("", None), |proxy| (&proxy.url, proxy.credentials.as_ref()));
    let (user, password) = credentials.map_or(("", ""), |(user, password)| (user.expose(), password.expose()));
    let mut hash = Sha256::new();
    for part in [ca_certificates.as_deref().unwrap_or_default(), url, user, password] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.update([u8::from(*no_verify)]);
    hash.finalize().into()
}

/// A digest of a repository's URI, and of all by which connections to its server differ.
fn way_key(repository: &Repository) -> [u8; 32] {
    Sha256::new_with_prefix(pool_key(repository)).chain_update(repository.uri.to_string()).finalize().into()
}

fn proxy(Proxy { url, credentials }: &Proxy) -> Result<reqwest::Proxy, SourceError> {
    let invalid = |why: String| SourceError::new(Reason::InvalidSpec, Retry::Never, format!("`proxy.url` {url} cannot be used: {why}"));
    let mut address = reqwest::Url::parse(url).map_err(|error| invalid(error.to_string()))?;
    if !address.username().is_empty() || address.password().is_some() {
        let message = "`proxy.url` has a user or a password, which everybody could read there: use `proxy.secretRef`";
        return Err(SourceError::new(Reason::InvalidSpec, Retry::Never, message));
    }
    match address.scheme() {
        "http" | "https" => {}
        // What has no name here may have one there.
        "socks5" => address = reqwest::Url::parse(&url.replacen("socks5", "socks5h", 1)).map_err(|error| invalid(error.to_string()))?,
        // Without this it would be gone around.
        other => return Err(invalid(format!("it begins with {other}:, where http://, https:// and socks5:// are possible"))),
    }
    if let Some((user, password)) = credentials {
        // A URL leaves `%` as it is, and whoever reads it takes what follows for digits.
        let [user, password] = [user, password].map(|text| utf8_percent_encode(text.expose(), NON_ALPHANUMERIC).to_string());
        let set = address.set_username(&user).and_then(|()| address.set_password(Some(&password)));
        set.map_err(|()| invalid("it cannot have a user and a password".to_owned()))?;
    }
    // Its own error may show the credentials.
    reqwest::Proxy::all(address).map_err(|_| invalid("it is no http, https or socks5 proxy".to_owned()))
}

/// Accepts any certificate. That the server has the key of the one that it shows is verified all the same.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unusable(error: Cause) -> SourceError {
    SourceError::new(Reason::InvalidSpec, Retry::Never, format!("no client for https can be made: {error}")).caused_by(error)
}

fn add_certificates(roots: &mut RootCertStore, pem: &str) -> Result<(), SourceError> {
    let invalid = |why: &str| {
        let message = format!("`tlsConfig.caCert` cannot be used: {why}; it needs one or more certificates as PEM");
        SourceError::new(Reason::InvalidSpec, Retry::Never, message)
    };
    let mut found = false;
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| invalid(&error.to_string()))?;
        roots.add(certificate).map_err(|error| invalid(&error.to_string()))?;
        found = true;
    }
    if found { Ok(()) } else { Err(invalid("it has no certificate")) }
}
