use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::{ActionError, ObjectRef, Revision, RunRequest, crd};

/// What a Job checks out, and with which credentials.
#[async_trait]
pub trait JobOrigins: Send + Sync {
    /// Asked when a run is registered. If the action checks out another source than the trigger's, this finds out which commit.
    ///
    /// # Errors
    ///
    /// [`ActionError::Invalid`] when it cannot work before somebody changes something, else [`ActionError::Unavailable`].
    async fn origin(&self, run: &RunRequest) -> Result<JobOrigin, ActionError>;

    /// Asked when a run begins whose Job has a Secret of its own ([`JobCredentials::Own`]): the files of that Secret. `uri` is the repository
    /// that the Job was made for.
    ///
    /// # Errors
    ///
    /// As [`origin`](Self::origin); also when the credentials are by now those of another repository than `uri`, which must not see them.
    async fn credentials(&self, run: &RunRequest, uri: &str) -> Result<BTreeMap<String, Vec<u8>>, ActionError>;
}

/// What a Job checks out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobOrigin {
    /// The URI of the trigger's source.
    pub source_uri: String,
    /// What is checked out instead of the trigger's source, if the action says so.
    pub overridden: Option<(ObjectRef, Revision)>,
    /// How the cloner reaches the repository that is checked out.
    pub clone: JobClone,
}

impl JobOrigin {
    /// The trigger's source, with no credentials.
    pub fn of_uri(uri: &str) -> Self {
        let clone = JobClone { uri: uri.to_owned(), ..JobClone::default() };
        Self { source_uri: uri.to_owned(), overridden: None, clone }
    }
}

/// How the cloner reaches a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobClone {
    /// The repository, without credentials.
    pub uri: String,
    /// The server's certificate is not verified.
    pub no_verify_ssl: bool,
    /// The key of the SSH host is not verified.
    pub insecure_ignore_host_key: bool,
    /// Host keys that are trusted besides those among the files of `credentials`, in the form of `known_hosts`. They are no secret.
    pub known_hosts: Option<String>,
    /// How to authenticate, with the files of `credentials`.
    pub auth: Option<crd::AuthType>,
    /// There are certificates of authorities among the files of `credentials`.
    pub ca_certificates: bool,
    /// A proxy, without credentials.
    pub proxy: Option<String>,
    /// The files that the cloner reads.
    pub credentials: JobCredentials,
}

/// Where the files that the cloner reads are. Their names are those of [`files`](crate::cloner::files).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum JobCredentials {
    /// There are none.
    #[default]
    None,
    /// In Secrets of the Job's namespace.
    Mounted(Vec<MountedSecret>),
    /// In a Secret that is made for the Job when it begins, belongs to it, and has its name.
    Own,
}

/// A Secret of which some keys are files for the cloner. A Secret with keys that may be absent is named twice: once for these, once for the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountedSecret {
    /// The Secret.
    pub name: String,
    /// The name of the file, by the key in the Secret.
    pub files: BTreeMap<String, String>,
    /// It does no harm if the Secret or one of the keys is absent.
    pub optional: bool,
}
