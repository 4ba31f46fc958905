use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use crate::{Checkout, CommitId, FilesDigest, ObjectRef, Observation, Reason, Reference, Retry, Revision, Source, SourceError, Watch};

/// A repository in memory. Clones share it.
///
/// It is stricter than Git: patterns are plain paths, and anything else in one is an error.
#[derive(Clone, Debug)]
pub struct InMemorySource {
    id: ObjectRef,
    content: Arc<Mutex<Content>>,
}

type Files = BTreeMap<String, String>;

#[derive(Debug, Default)]
struct Content {
    commits: BTreeMap<CommitId, Files>,
    references: BTreeMap<Reference, CommitId>,
    failure: Option<String>,
}

impl InMemorySource {
    /// An empty repository.
    pub fn new(id: ObjectRef) -> Self {
        Self { id, content: Arc::default() }
    }

    /// Lets a branch or tag point at a commit with these files, by path. The same files are the same commit.
    pub fn push(&self, reference: &Reference, files: &[(&str, &str)]) -> CommitId {
        let files: Files = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        let commit = CommitId::digest_of(format!("{files:?}"));
        let mut content = self.lock();
        content.commits.insert(commit, files);
        content.references.insert(reference.clone(), commit);
        commit
    }

    /// Deletes a branch or tag.
    pub fn delete(&self, reference: &Reference) {
        self.lock().references.remove(reference);
    }

    /// From now on every look fails with this message; None ends that.
    pub fn fail_with(&self, message: Option<&str>) {
        self.lock().failure = message.map(str::to_owned);
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn files_of(&self, commit: &CommitId) -> Result<Files, SourceError> {
        let content = self.lock();
        if let Some(message) = &content.failure {
            return Err(SourceError::new(Reason::Unreachable, Retry::Backoff, message));
        }
        let files = content.commits.get(commit).cloned();
        files.ok_or_else(|| SourceError::reference_not_found(&Reference::Commit(*commit), &self.id.to_string()))
    }
}

#[async_trait]
impl Source for InMemorySource {
    fn id(&self) -> &ObjectRef {
        &self.id
    }

    async fn observe(&self, watch: &Watch) -> Result<Observation, SourceError> {
        let commit = match &watch.reference {
            Reference::Commit(commit) => Some(*commit),
            named => self.lock().references.get(named).copied(),
        };
        let commit = commit.ok_or_else(|| SourceError::reference_not_found(&watch.reference, &self.id.to_string()))?;
        let files = self.files_of(&commit)?;
        let digest = if watch.files.is_empty() { None } else { Some(digest(&watch.files, files)?) };
        Ok(Observation { commit, tag: None, files: digest })
    }
}

#[async_trait]
impl Checkout for InMemorySource {
    async fn checkout(&self, revision: &Revision, into: &Path) -> Result<(), SourceError> {
        for (path, text) in self.files_of(&revision.commit)? {
            let file = into.join(path);
            file.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&file, text)).map_err(|error| {
                let message = format!("{} cannot be written: {error}", file.display());
                SourceError::new(Reason::Unreachable, Retry::Backoff, message).caused_by(error)
            })?;
        }
        Ok(())
    }
}

fn digest(patterns: &[String], mut files: Files) -> Result<FilesDigest, SourceError> {
    if let Some(pattern) = patterns.iter().find(|pattern| pattern.contains(['*', '?', '[', '!', '\\'])) {
        let message = format!("`{pattern}`: a source in memory compares plain paths only");
        return Err(SourceError::new(Reason::InvalidSpec, Retry::Never, message));
    }
    files.retain(|path, _| patterns.contains(path));
    Ok(FilesDigest {
        patterns: CommitId::digest_of(format!("{patterns:?}")).to_string(),
        files: (!files.is_empty()).then(|| CommitId::digest_of(format!("{files:?}")).to_string()),
    })
}
