//! What the specification of a GitRepo or ClusterGitRepo says: the same in a cluster and without one.

use std::collections::BTreeMap;

use super::values::{self, Name, Values};
use crate::{
    CatalogError, ObjectRef, crd,
    source::git::{Credentials, NotARepoUri, Proxy, RepoUri, Repository, Tls},
};

/// A repository as it is specified, for the triggers of a namespace.
pub struct Specified<'a> {
    pub id: &'a ObjectRef,
    pub spec: &'a crd::Repository,
    pub namespace: &'a str,
}

/// What a value of a Secret is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    CaCertificates,
    Username,
    Password,
    Token,
    PrivateKey,
    Passphrase,
    KnownHosts,
    ProxyUsername,
    ProxyPassword,
    AppId,
    InstallationId,
    AppKey,
}

/// Where a value is.
#[derive(Debug, PartialEq, Eq)]
pub struct SecretKey {
    pub purpose: Purpose,
    pub secret: Name,
    pub key: String,
    /// The key may be absent.
    pub optional: bool,
}

impl Specified<'_> {
    /// Which values of Secrets it takes.
    pub fn secret_keys(&self) -> Result<Vec<SecretKey>, CatalogError> {
        self.check_namespaces()?;
        let mut keys = vec![];
        if let Some(ca) = self.spec.tls_config.as_ref().and_then(|tls| tls.ca_cert.as_ref()) {
            keys.push(self.key(Purpose::CaCertificates, &ca.secret_ref, &ca.key, false));
        }
        if let Some(auth) = &self.spec.auth_config {
            let names = auth.keys.clone().unwrap_or_default();
            let of_method = match auth.auth_type {
                crd::AuthType::Basic => {
                    vec![(Purpose::Username, &names.username, false), (Purpose::Password, &names.password, false)]
                }
                crd::AuthType::Token => vec![(Purpose::Token, &names.token, false)],
                crd::AuthType::Ssh => vec![
                    (Purpose::PrivateKey, &names.private_key, false),
                    (Purpose::Passphrase, &names.passphrase, true),
                    (Purpose::KnownHosts, &names.known_hosts, true),
                ],
                crd::AuthType::GithubApp => vec![
                    (Purpose::AppId, &names.app_id, false),
                    (Purpose::InstallationId, &names.installation_id, false),
                    (Purpose::AppKey, &names.private_key, false),
                ],
            };
            for (purpose, key, optional) in of_method {
                keys.push(self.key(purpose, &auth.secret_ref, key, optional));
            }
        }
        if let Some(secret) = self.spec.proxy.as_ref().and_then(|proxy| proxy.secret_ref.as_ref()) {
            keys.push(self.key(Purpose::ProxyUsername, secret, "username", false));
            keys.push(self.key(Purpose::ProxyPassword, secret, "password", false));
        }
        Ok(keys)
    }

    fn check_namespaces(&self) -> Result<(), CatalogError> {
        let Some(own) = &self.id.namespace else { return Ok(()) };
        for (path, secret) in self.spec.secrets() {
            if let Some(named) = secret.namespace.as_ref().filter(|named| *named != own) {
                return Err(self.invalid(format!("{path}.namespace is {named}: a GitRepo can use Secrets of its own namespace only")));
            }
        }
        Ok(())
    }

    /// A GitRepo's Secret is of its own namespace, a ClusterGitRepo's of the one it names, or else of the trigger's.
    fn key(&self, purpose: Purpose, secret: &crd::NamespacedSecretRef, key: &str, optional: bool) -> SecretKey {
        let of = self.id.namespace.as_deref().or(secret.namespace.as_deref()).unwrap_or(self.namespace);
        SecretKey { purpose, secret: (of.to_owned(), secret.name.clone()), key: key.to_owned(), optional }
    }

    /// The values that it takes, out of these Secrets.
    pub fn values<'v>(&self, secrets: &'v BTreeMap<Name, Values>) -> Result<BTreeMap<Purpose, &'v str>, CatalogError> {
        let mut found = BTreeMap::new();
        for SecretKey { purpose, secret: (namespace, name), key, optional } in self.secret_keys()? {
            let text = values::text_if_there(secrets, "Secret", &namespace, (&name, &key), optional);
            let text = text.map_err(|message| CatalogError::SecretNotFound { object: self.id.clone(), message })?;
            found.extend(text.map(|text| (purpose, text)));
        }
        Ok(found)
    }

    /// The repository, ready for checks. `uri` is what its `repoUri` was parsed to.
    pub fn repository(&self, uri: Result<RepoUri, NotARepoUri>, secrets: &BTreeMap<Name, Values>) -> Result<Repository, CatalogError> {
        let crd::Repository { repo_uri, tls_config, auth_config, ssh_config, timeout, proxy } = self.spec;
        if proxy.is_some() && !repo_uri.starts_with("http") {
            return Err(self.invalid("proxy is for http and https only: remove it, or use a repoUri that begins with https://"));
        }
        let uri = uri.map_err(|error| self.invalid(format!("repoUri: {error}")))?;
        let timeout = timeout.get().map_err(|error| self.invalid(format!("timeout: {error}")))?;
        let values = self.values(secrets)?;
        let value = |purpose| values.get(&purpose).copied();
        let secret = |purpose| value(purpose).unwrap_or_default().into();
        let credentials = match auth_config.as_ref().map(|auth| auth.auth_type) {
            None => Credentials::None,
            Some(crd::AuthType::Basic) => Credentials::Basic { username: secret(Purpose::Username), password: secret(Purpose::Password) },
            Some(crd::AuthType::Token) => Credentials::Token { token: secret(Purpose::Token) },
            Some(crd::AuthType::Ssh) => Credentials::Ssh {
                private_key: secret(Purpose::PrivateKey),
                passphrase: value(Purpose::Passphrase).map(Into::into),
                known_hosts: value(Purpose::KnownHosts).map(str::to_owned),
                insecure_ignore_host_key: ssh_config.as_ref().is_some_and(|ssh| ssh.insecure_ignore_host_key),
            },
            Some(crd::AuthType::GithubApp) => {
                if !repo_uri.starts_with("https://") {
                    return Err(self.invalid("githubApp is for https only, as anybody on the way could read its tokens otherwise"));
                }
                let id = |purpose| value(purpose).unwrap_or_default().trim().to_owned();
                Credentials::GithubApp {
                    app_id: id(Purpose::AppId),
                    installation_id: id(Purpose::InstallationId),
                    private_key: secret(Purpose::AppKey),
                }
            }
        };
        let no_verify = tls_config.as_ref().is_some_and(|tls| tls.no_verify_ssl);
        let tls = Tls { ca_certificates: value(Purpose::CaCertificates).map(str::to_owned), no_verify };
        let proxy = proxy.as_ref().map(|proxy| Proxy {
            url: proxy.url.clone(),
            credentials: proxy.secret_ref.as_ref().map(|_| (secret(Purpose::ProxyUsername), secret(Purpose::ProxyPassword))),
        });
        Ok(Repository { tls, credentials, proxy, timeout, ..Repository::new(uri) })
    }

    pub fn invalid(&self, message: impl Into<String>) -> CatalogError {
        CatalogError::Invalid { object: self.id.clone(), message: message.into() }
    }
}
