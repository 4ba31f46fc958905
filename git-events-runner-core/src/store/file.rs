use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    Accepted, Cause, Change, FireRequest, Inbox, Loaded, PendingFull, StateError, StateStore, TriggerId, TriggerState, Version,
    durable::{self, about},
};

/// Keeps the state of triggers as files in a folder: one for each trigger, JSON, replaced in one step by each write.
///
/// Clones share the folder, and nobody else: it is locked until the last clone is dropped, or the process ends.
///
/// # Guarantees
///
/// - What was written is there after a crash at any moment, whole. What was being written is there whole or not at all.
/// - A file that cannot be read is an error that names it; it is never taken for an empty state.
#[derive(Clone, Debug)]
pub struct FileStore {
    content: Arc<Content>,
}

#[derive(Debug)]
struct Content {
    folder: PathBuf,
    /// Held while a file is read and replaced. Reading alone needs no lock, because files are replaced in one step.
    writing: Mutex<()>,
    _lock: durable::Lock,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    trigger: TriggerId,
    generation: i64,
    created: Timestamp,
    writes: u64,
    state: TriggerState,
}

impl FileStore {
    /// Opens a folder, and creates it if it is not there.
    ///
    /// # Errors
    ///
    /// [`StateError::Unavailable`] when another process, or another store of this one, has it open; or when it cannot be written.
    pub fn open(folder: PathBuf) -> Result<Self, StateError> {
        let triggers = folder.join("triggers");
        durable::create_folder(&triggers).map_err(about(&triggers, "created")).map_err(StateError::Unavailable)?;
        let lock_file = folder.join("lock");
        let lock =
            durable::Lock::take(&lock_file).map_err(about(&lock_file, "locked")).map_err(StateError::Unavailable)?.ok_or_else(|| {
                let message = format!("another git-events-runner uses {}: end it, or use another folder for the state", folder.display());
                StateError::Unavailable(message.into())
            })?;
        for of in [&folder, &triggers] {
            remove_temporary(of).map_err(about(of, "cleaned")).map_err(StateError::Unavailable)?;
        }
        Ok(Self { content: Arc::new(Content { folder, writing: Mutex::new(()), _lock: lock }) })
    }

    /// Adds a trigger with an empty state, or gives a known one another generation. A trigger that is known by another uid is
    /// replaced. Answers when the trigger was first added, which is `now` for a new one.
    ///
    /// # Errors
    ///
    /// [`StateError::Unavailable`].
    pub async fn add(&self, id: &TriggerId, generation: i64, now: Timestamp) -> Result<Timestamp, StateError> {
        let id = id.clone();
        self.blocking(move |content| {
            let _writing = content.writing();
            let stored = match content.find(&id)? {
                Some(stored) if stored.generation == generation => return Ok(stored.created),
                Some(stored) => Stored { generation, writes: stored.writes + 1, ..stored },
                None => Stored { trigger: id, generation, created: now, writes: 0, state: TriggerState::default() },
            };
            content.write(&stored).map(|()| stored.created)
        })
        .await
    }

    /// Notes that all firings up to now were handled, for [`last_heartbeat`](Self::last_heartbeat) of the next process.
    ///
    /// # Errors
    ///
    /// [`StateError::Unavailable`].
    pub async fn heartbeat(&self, now: Timestamp) -> Result<(), StateError> {
        self.blocking(move |content| {
            let path = content.folder.join("heartbeat");
            durable::write(&path, now.to_string().as_bytes()).map_err(about(&path, "written")).map_err(StateError::Unavailable)
        })
        .await
    }

    /// When [`heartbeat`](Self::heartbeat) was last called, by this process or an earlier one; None if it never was.
    ///
    /// # Errors
    ///
    /// [`StateError::Unavailable`].
    pub async fn last_heartbeat(&self) -> Result<Option<Timestamp>, StateError> {
        self.blocking(|content| {
            let path = content.folder.join("heartbeat");
            let Some(text) = durable::read(&path).map_err(about(&path, "read")).map_err(StateError::Unavailable)? else {
                return Ok(None);
            };
            let parsed = str::from_utf8(&text).map_err(Cause::from).and_then(|text| Ok(text.parse()?));
            parsed.map(Some).map_err(|error| {
                let message = format!("{} is not an instant ({error}): remove it, and missed firings are not caught up", path.display());
                StateError::Unavailable(message.into())
            })
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Content) -> Result<T, StateError> + Send + 'static,
    ) -> Result<T, StateError> {
        let content = Arc::clone(&self.content);
        durable::blocking(move || Ok(work(&content))).await.map_err(StateError::Unavailable)?
    }
}

#[async_trait]
impl StateStore for FileStore {
    async fn load(&self, id: &TriggerId) -> Result<Loaded, StateError> {
        let id = id.clone();
        self.blocking(move |content| {
            let Stored { state, writes, generation, .. } = content.get(&id)?;
            Ok(Loaded { state, version: Version(writes.to_string()), generation })
        })
        .await
    }

    async fn record(&self, id: &TriggerId, version: &Version, change: &Change) -> Result<(), StateError> {
        let (id, version, change) = (id.clone(), version.clone(), change.clone());
        self.blocking(move |content| {
            let _writing = content.writing();
            let mut stored = content.get(&id)?;
            if version.0 != stored.writes.to_string() {
                return Err(StateError::Conflict);
            }
            change.apply(&mut stored.state);
            stored.writes += 1;
            content.write(&stored)
        })
        .await
    }
}

#[async_trait]
impl Inbox for FileStore {
    async fn request_all(&self, id: &TriggerId, requests: &[FireRequest]) -> Result<Vec<Result<Accepted, PendingFull>>, StateError> {
        let (id, requests) = (id.clone(), requests.to_vec());
        self.blocking(move |content| {
            let _writing = content.writing();
            let mut stored = content.get(&id)?;
            let accepted: Vec<_> = requests.iter().map(|request| stored.state.accept(request)).collect();
            if accepted.contains(&Ok(Accepted::Recorded)) {
                stored.writes += 1;
                content.write(&stored)?;
            }
            Ok(accepted)
        })
        .await
    }
}

impl Content {
    fn writing(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is stored of this life of a trigger.
    fn find(&self, id: &TriggerId) -> Result<Option<Stored>, StateError> {
        let path = self.path(id);
        let Some(text) = durable::read(&path).map_err(about(&path, "read")).map_err(StateError::Unavailable)? else {
            return Ok(None);
        };
        let stored: Stored = serde_json::from_slice(&text).map_err(|error| {
            let (path, advice) = (path.display(), "restore it from a copy, or remove it, and its trigger begins anew");
            StateError::Malformed(format!("{path} does not hold the state of a trigger ({error}): {advice}"))
        })?;
        Ok(Some(stored).filter(|stored| stored.trigger == *id))
    }

    fn get(&self, id: &TriggerId) -> Result<Stored, StateError> {
        self.find(id)?.ok_or_else(|| StateError::NotFound(id.clone()))
    }

    fn write(&self, stored: &Stored) -> Result<(), StateError> {
        let path = self.path(&stored.trigger);
        let text = serde_json::to_vec_pretty(stored).map_err(|error| StateError::Unavailable(error.into()))?;
        durable::write(&path, &text).map_err(about(&path, "written")).map_err(StateError::Unavailable)
    }

    /// A file of a trigger's own, however it is named: what can be read of the name, and a hash of the rest.
    fn path(&self, id: &TriggerId) -> PathBuf {
        let mut hash = Sha256::new();
        for part in [&id.kind, &id.namespace, &id.name] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let hash: String = hash.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        let readable: String = id.name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(64).collect();
        self.folder.join("triggers").join(format!("{readable}.{hash}.json"))
    }
}

/// Removes what a crash has left half-written.
fn remove_temporary(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension() == Some(OsStr::new(durable::TEMPORARY)) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}
