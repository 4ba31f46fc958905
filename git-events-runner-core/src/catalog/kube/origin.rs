use std::collections::BTreeMap;

use async_trait::async_trait;

use super::KubeCatalog;
use crate::{
    ActionError, CatalogError, ObjectRef, Retry, RunRequest,
    catalog::{
        repository::{Purpose, SecretKey, Specified},
        rules::Override,
    },
    cloner::files,
    crd,
    job::{JobClone, JobCredentials, JobOrigin, JobOrigins, MountedSecret},
    source::git::RepoUri,
};

#[async_trait]
impl JobOrigins for KubeCatalog {
    async fn origin(&self, run: &RunRequest) -> Result<JobOrigin, ActionError> {
        let namespace = &run.key.trigger.namespace;
        let clone_of = |id: &ObjectRef| {
            let spec = self.usable_source(namespace, id)?;
            let mut clone = job_clone(&Specified { id, spec: &spec, namespace })?;
            let known_hosts = &self.0.jobs.config().ssh.known_hosts;
            clone.known_hosts = (clone.auth == Some(crd::AuthType::Ssh) && !known_hosts.is_empty()).then(|| known_hosts.clone());
            Ok(clone)
        };
        let fired = clone_of(&run.key.source).map_err(unusable)?;
        let source_uri = fired.uri.clone();
        let Some(over) = self.overridden(run)? else { return Ok(JobOrigin { source_uri, overridden: None, clone: fired }) };
        let clone = clone_of(&over.source).map_err(unusable)?;
        let source = self.kube_source(namespace, &over.source).await;
        Ok(JobOrigin { source_uri, overridden: Some(over.observe(source).await?), clone })
    }

    async fn credentials(&self, run: &RunRequest, uri: &str) -> Result<BTreeMap<String, Vec<u8>>, ActionError> {
        let namespace = &run.key.trigger.namespace;
        let id = self.overridden(run)?.map_or_else(|| run.key.source.clone(), |over| over.source);
        let spec = self.usable_source(namespace, &id).map_err(unusable)?;
        let specified = Specified { id: &id, spec: &spec, namespace };
        if job_clone(&specified).map_err(unusable)?.uri != uri {
            let message = format!("{id}: it was {uri} when the run was registered, which must not see the credentials of what it is now");
            return Err(ActionError::Unavailable(message.into()));
        }
        let secrets = self.0.secrets.read(&specified).await.map_err(unusable)?;
        let mut files: BTreeMap<_, Vec<u8>> = BTreeMap::new();
        if is_of_an_app(&specified) {
            // The key of an App opens far more than the one repository, and for longer than a Job takes.
            let repository = specified.repository(RepoUri::parse(&spec.repo_uri), &secrets).map_err(unusable)?;
            let token = self.0.git.authorization_for_a_job(&repository).await.map_err(|error| match error.retry() {
                Retry::Never => ActionError::Invalid(format!("{id}: {error}")),
                _ => ActionError::Unavailable(error.into()),
            })?;
            files.insert(files::TOKEN.to_owned(), token.into());
        }
        let values = specified.values(&secrets).map_err(unusable)?;
        files.extend(values.into_iter().filter_map(|(purpose, value)| Some((file(purpose)?.to_owned(), value.into()))));
        Ok(files)
    }
}

impl KubeCatalog {
    fn overridden(&self, run: &RunRequest) -> Result<Option<Override>, ActionError> {
        let namespace = &run.key.trigger.namespace;
        let action = self.0.stores.usable_action(namespace, &run.action).map_err(unusable)?;
        Override::of(namespace, &run.action, &action).map_err(unusable)
    }
}

fn unusable(error: CatalogError) -> ActionError {
    match error.retry() {
        Retry::Never => ActionError::Invalid(error.to_string()),
        _ => ActionError::Unavailable(error.into()),
    }
}

/// How a Job's cloner reaches a repository.
fn job_clone(of: &Specified<'_>) -> Result<JobClone, CatalogError> {
    let crd::Repository { repo_uri, tls_config, auth_config, ssh_config, timeout: _, proxy } = of.spec;
    let uri = RepoUri::parse(repo_uri).map_err(|error| of.invalid(format!("repoUri: {error}")))?;
    let keys = of.secret_keys()?;
    let ca_certificates = keys.iter().any(|key| key.purpose == Purpose::CaCertificates);
    let credentials = match of.id.namespace {
        _ if keys.is_empty() => JobCredentials::None,
        // What is mounted is a token, which is made when the Job begins.
        _ if is_of_an_app(of) => JobCredentials::Own,
        Some(_) => JobCredentials::Mounted(keys.into_iter().filter_map(mounted).collect()),
        // Its Secrets may be of other namespaces, from which a Pod cannot mount any.
        None => JobCredentials::Own,
    };
    Ok(JobClone {
        uri: uri.to_string(),
        no_verify_ssl: tls_config.as_ref().is_some_and(|tls| tls.no_verify_ssl),
        insecure_ignore_host_key: ssh_config.as_ref().is_some_and(|ssh| ssh.insecure_ignore_host_key),
        known_hosts: None,
        auth: auth_config.as_ref().map(|auth| auth.auth_type),
        ca_certificates,
        proxy: proxy.as_ref().map(|proxy| proxy.url.clone()),
        credentials,
    })
}

/// One for each key: two files may have the same one.
fn mounted(SecretKey { purpose, secret: (_, name), key, optional }: SecretKey) -> Option<MountedSecret> {
    Some(MountedSecret { name, files: BTreeMap::from([(key, file(purpose)?.to_owned())]), optional })
}

fn is_of_an_app(of: &Specified<'_>) -> bool {
    of.spec.auth_config.as_ref().is_some_and(|auth| auth.auth_type == crd::AuthType::GithubApp)
}

/// The cloner's name for it; None: the cloner does not get it.
fn file(purpose: Purpose) -> Option<&'static str> {
    Some(match purpose {
        Purpose::AppId | Purpose::InstallationId | Purpose::AppKey => return None,
        Purpose::CaCertificates => files::CA_CERTIFICATES,
        Purpose::Username => files::USERNAME,
        Purpose::Password => files::PASSWORD,
        Purpose::Token => files::TOKEN,
        Purpose::PrivateKey => files::PRIVATE_KEY,
        Purpose::Passphrase => files::PASSPHRASE,
        Purpose::KnownHosts => files::KNOWN_HOSTS,
        Purpose::ProxyUsername => files::PROXY_USERNAME,
        Purpose::ProxyPassword => files::PROXY_PASSWORD,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mounts(spec: serde_json::Value) -> Vec<(String, String, bool)> {
        let (id, spec) = (ObjectRef::namespaced("GitRepo", "default", "app"), serde_json::from_value(spec).unwrap());
        let JobCredentials::Mounted(secrets) = job_clone(&Specified { id: &id, spec: &spec, namespace: "default" }).unwrap().credentials
        else {
            return vec![];
        };
        let files = secrets.into_iter().flat_map(|secret| secret.files.into_iter().map(move |(key, file)| (key, file, secret.optional)));
        files.collect()
    }

    fn mount(key: &str, file: &str, optional: bool) -> (String, String, bool) {
        (key.to_owned(), file.to_owned(), optional)
    }

    #[test]
    fn of_a_key_for_ssh_the_passphrase_and_the_known_hosts_may_be_absent() {
        let auth = json!({ "type": "ssh", "secretRef": { "name": "git" }, "keys": { "knownHosts": "hosts" } });
        let expected = [
            mount("ssh-privatekey", "ssh-privatekey", false),
            mount("passphrase", "passphrase", true),
            mount("hosts", "known_hosts", true),
        ];
        assert_eq!(mounts(json!({ "repoUri": "git@git.example.com:app.git", "authConfig": auth })), expected);
    }

    #[test]
    fn two_files_may_be_of_the_same_key() {
        let keys = json!({ "username": "token", "password": "token" });
        let auth = json!({ "type": "basic", "secretRef": { "name": "git" }, "keys": keys });
        let expected = [mount("token", "username", false), mount("token", "password", false)];
        assert_eq!(mounts(json!({ "repoUri": "https://git.example.com/app.git", "authConfig": auth })), expected);
    }
}
