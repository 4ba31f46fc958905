//! The folder of one run: what is in it, and what that says.

use std::{fs::File, io, path::PathBuf};

use jiff::Timestamp;
use rustix::process::{Flock, FlockOffsetType, FlockType, Pid, fcntl_getlk};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::session::{self, Session};
use crate::{
    Cause, RunPhase, RunRequest,
    durable::{self, about},
};

/// What was registered; there from the first moment, and never changed.
pub const REGISTERED: &str = "request.json";
/// Locked by the supervisor for as long as it lives. It is a lock that can be looked at without taking it.
pub const LOCK: &str = "lock";
/// Whether the run begins: created once, by whoever is first.
pub const DECISION: &str = "decision.json";
/// There when the command may have been started, to find what it has started.
pub const STARTED: &str = "started.json";
/// How it ended.
pub const ENDED: &str = "exit.json";
/// The checked-out files, removed as soon as the run has ended.
pub const WORKDIR: &str = "workdir";
/// What the command wrote.
pub const OUTPUT: &str = "output.log";
/// What a supervisor has to say of itself.
pub const SUPERVISOR_LOG: &str = "supervisor.log";

/// Content of [`REGISTERED`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Registration {
    pub uid: String,
    pub request: RunRequest,
}

/// Content of [`DECISION`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decision {
    /// It has begun, if only with its checkout: it is not begun again.
    Begins,
    /// It was withdrawn.
    NeverBegins,
}

/// Content of [`STARTED`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Started {
    pub at: Timestamp,
    pub session: Session,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// The exit code of its command, if it came to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// The number of the signal that ended its command, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// What went wrong, but for a code or a signal of the command's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When its command was started; None when it never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// When it ended.
    pub finished: Timestamp,
}

impl Ending {
    /// Succeeded or Failed.
    pub fn phase(&self) -> RunPhase {
        if self.code == Some(0) && self.message.is_none() { RunPhase::Succeeded } else { RunPhase::Failed }
    }
}

/// How far a run is.
#[derive(Debug)]
pub enum Stage {
    /// Nobody has begun with it, or only a supervisor that died before the command could begin.
    Registered,
    /// A supervisor checks its files out; should it die, another one begins again.
    Preparing,
    Running,
    /// Its supervisor died, and its command may go on.
    Interrupted,
    Withdrawn,
    Ended(Ending),
}

/// The folder of a run, by its path.
#[derive(Clone, Debug)]
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn is_there(&self, name: &str) -> Result<bool, Cause> {
        let path = self.file(name);
        path.try_exists().map_err(about(&path, "read"))
    }

    pub fn registration(&self) -> Result<Option<Registration>, Cause> {
        self.read(REGISTERED)
    }

    /// How far the run is, at some moment during the call, however many supervisors start and end meanwhile.
    pub fn stage(&self) -> Result<Stage, Cause> {
        // In this order: a supervisor begins only while there is no decision, and writes the ending before it lets go of the lock.
        // So when there was a decision and the lock is free after that, there is an ending, or there will never be one.
        let decision: Option<Decision> = self.read(DECISION)?;
        let supervised = self.supervisor()?.is_some();
        let ended: Option<Ending> = self.read(ENDED)?;
        Ok(match (ended, decision, supervised) {
            (Some(ending), ..) => Stage::Ended(ending),
            (None, Some(Decision::NeverBegins), _) => Stage::Withdrawn,
            (None, Some(Decision::Begins), true) => Stage::Running,
            (None, Some(Decision::Begins), false) => Stage::Interrupted,
            (None, None, true) => Stage::Preparing,
            (None, None, false) => Stage::Registered,
        })
    }

    /// Decides whether the run begins, unless that is decided. Answers what holds now.
    pub fn decide(&self, decision: Decision) -> Result<Decision, Cause> {
        let path = self.file(DECISION);
        durable::create(&path, &serde_json::to_vec(&decision)?).map_err(about(&path, "written"))?;
        self.read(DECISION)?.ok_or_else(|| format!("{} was removed", path.display()).into())
    }

    /// Ends what a run without a supervisor has started, which must not go on unseen. Answers when it was started.
    pub fn end_interrupted(&self) -> Result<Option<Timestamp>, Cause> {
        let Some(Started { at, session }) = self.read(STARTED)? else { return Ok(None) };
        session::kill(|| session.processes()).map_err(about(&self.0, "ended"))?;
        Ok(Some(at))
    }

    /// Who holds the lock.
    pub fn supervisor(&self) -> Result<Option<Pid>, Cause> {
        let path = self.file(LOCK);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(about(&path, "read")(error)),
        };
        let lock = Flock { start: 0, length: 0, pid: None, typ: FlockType::WriteLock, offset_type: FlockOffsetType::Set };
        let holder = fcntl_getlk(file, &lock).map_err(io::Error::from).map_err(about(&path, "looked at"))?;
        Ok(holder.and_then(|lock| lock.pid))
    }

    pub fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Cause> {
        let path = self.file(name);
        let Some(text) = durable::read(&path).map_err(about(&path, "read"))? else { return Ok(None) };
        let parsed = serde_json::from_slice(&text);
        parsed
            .map(Some)
            .map_err(|error| format!("{} is damaged ({error}): remove its folder, and its run is forgotten", path.display()).into())
    }

    pub fn write(&self, name: &str, content: &impl Serialize) -> Result<(), Cause> {
        let path = self.file(name);
        durable::write(&path, &serde_json::to_vec_pretty(content)?).map_err(about(&path, "written"))
    }
}
