use super::{Manifests, SourceManifest};
use crate::{
    CatalogError, ObjectRef, crd,
    source::git::{Credentials, RepoUri, Repository, Tls},
};

impl Manifests {
    /// A repository with its credentials, for a trigger of a namespace.
    pub(super) fn git_repository(&self, id: &ObjectRef, found: &SourceManifest, namespace: &str) -> Result<Repository, CatalogError> {
        let invalid = |message: String| CatalogError::Invalid { object: id.clone(), message };
        let crd::Repository { repo_uri, tls_config, auth_config, ssh_config: _, timeout, proxy } = &found.spec;
        if proxy.is_some() {
            return Err(invalid("proxy is not available yet".to_owned()));
        }
        let uri = RepoUri::parse_with_local(repo_uri, &found.folder).map_err(|error| invalid(format!("repoUri: {error}")))?;
        let timeout = timeout.get().map_err(|error| invalid(format!("timeout: {error}")))?;
        let tls = self.tls(id, tls_config.as_ref(), namespace)?;
        let credentials = match auth_config {
            Some(auth) => self.credentials(id, auth, namespace)?,
            None => Credentials::None,
        };
        Ok(Repository { tls, credentials, timeout, ..Repository::new(uri) })
    }

    fn tls(&self, id: &ObjectRef, config: Option<&crd::TlsConfig>, namespace: &str) -> Result<Tls, CatalogError> {
        let Some(crd::TlsConfig { no_verify_ssl, ca_cert }) = config else { return Ok(Tls::default()) };
        if *no_verify_ssl {
            let message = "tlsConfig.noVerifySsl is not available yet: give the server's authority as tlsConfig.caCert".to_owned();
            return Err(CatalogError::Invalid { object: id.clone(), message });
        }
        let pem = ca_cert.as_ref().map(|ca| self.secret_text(id, &ca.secret_ref, &ca.key, namespace)).transpose()?;
        Ok(Tls { ca_certificates: pem })
    }

    fn credentials(&self, id: &ObjectRef, auth: &crd::AuthConfig, namespace: &str) -> Result<Credentials, CatalogError> {
        let keys = auth.keys.clone().unwrap_or_default();
        let text = |key: &str| self.secret_text(id, &auth.secret_ref, key, namespace);
        match auth.auth_type {
            crd::AuthType::Basic => {
                Ok(Credentials::Basic { username: text(&keys.username)?.into(), password: text(&keys.password)?.into() })
            }
            crd::AuthType::Token => Ok(Credentials::Token { token: text(&keys.token)?.into() }),
            crd::AuthType::Ssh | crd::AuthType::GithubApp => {
                let message = "authConfig.type ssh and githubApp are not available yet: use basic or token".to_owned();
                Err(CatalogError::Invalid { object: id.clone(), message })
            }
        }
    }

    /// A GitRepo's Secret is of its own namespace, a ClusterGitRepo's of the one it names, or else of the trigger's.
    fn secret_text(&self, id: &ObjectRef, secret: &crd::NamespacedSecretRef, key: &str, namespace: &str) -> Result<String, CatalogError> {
        let of = id.namespace.as_ref().or(secret.namespace.as_ref()).map_or(namespace, String::as_str);
        if let Some(named) = secret.namespace.as_deref().filter(|named| *named != of) {
            let message = format!("secretRef.namespace is {named}: a GitRepo can use Secrets of its own namespace only");
            return Err(CatalogError::Invalid { object: id.clone(), message });
        }
        let value = self.secret_value(of, &secret.name, key);
        value.map_err(|message| CatalogError::SecretNotFound { object: id.clone(), message })
    }
}
