use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use uuid::Uuid;

use super::{
    Ending, Output, Supervisor,
    folder::{Decision, ENDED, Folder, LOCK, OUTPUT, REGISTERED, Registration, SUPERVISOR_LOG, Stage, WORKDIR},
    session,
};
use crate::{
    ActionError, Cause, ObjectRef, Registered, RunPhase, RunRef, RunRequest, RunStatus, TriggerId, Withdrawn,
    durable::{self, Lock, about},
};

/// Runs being registered and removed have names of this kind; no run has.
const NEW: &str = ".new-";
const GONE: &str = ".gone-";

/// What is being registered or removed for longer than this was left behind by a crash.
const LEFT_BEHIND: SignedDuration = SignedDuration::from_secs(60);

/// How often to look for output and for the end of a run.
const POLL: Duration = Duration::from_millis(100);

/// How much longer than the grace to wait for a supervisor that is to end its run.
const SUPERVISOR_ENDS_WITHIN: Duration = Duration::from_secs(10);

/// The folder in which the runs of all actions and triggers are, each in a folder of its own. Clones share it.
#[derive(Clone, Debug)]
pub struct Runs {
    folder: Arc<Path>,
    pub(super) supervisor: Arc<Supervisor>,
    max_running: usize,
    pub(super) grace: Duration,
    now: fn() -> Timestamp,
}

/// A run, and all that can be said of it.
#[derive(Clone, Debug)]
pub struct RunReport {
    /// What was registered, and how far it is.
    pub status: RunStatus,
    /// How it ended, if it did.
    pub ending: Option<Ending>,
    /// The file with its output, if there is any.
    pub output: PathBuf,
}

/// A run as it is read from its folder.
#[derive(Clone, Debug)]
pub struct Entry {
    pub folder: Folder,
    pub run: RunRef,
    pub request: RunRequest,
}

/// Whether a run may begin.
pub enum Turn {
    Gone,
    Begun,
    Preparing,
    Waiting,
    Now(Box<Entry>),
}

impl Runs {
    /// Opens a folder, and creates it if it is not there. At most 16 runs are unfinished at a time, and one that is ended has five
    /// seconds to end by itself.
    ///
    /// # Errors
    ///
    /// [`ActionError::Unavailable`] when the folder cannot be created.
    pub fn open(folder: &Path, supervisor: Supervisor, now: fn() -> Timestamp) -> Result<Self, ActionError> {
        let created = std::path::absolute(folder).and_then(|folder| durable::create_folder(&folder).map(|()| folder));
        let folder = created.map_err(about(folder, "created")).map_err(ActionError::Unavailable)?;
        Ok(Self { folder: folder.into(), supervisor: supervisor.into(), max_running: 16, grace: Duration::from_secs(5), now })
    }

    /// The same runs, of which only so many may have begun and not ended, over all actions and triggers.
    #[must_use]
    pub fn with_max_running(self, max_running: usize) -> Self {
        Self { max_running, ..self }
    }

    /// The same runs, which have this long to end by themselves when they are ended; after that they are killed.
    #[must_use]
    pub fn with_grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }

    /// All runs that exist.
    ///
    /// # Errors
    ///
    /// [`ActionError::Unavailable`].
    pub async fn all(&self) -> Result<Vec<RunReport>, ActionError> {
        self.blocking(|runs| runs.entries()?.iter().map(|entry| runs.report(entry)).collect()).await
    }

    /// How far a run is; None when there is no such run any more.
    ///
    /// # Errors
    ///
    /// [`ActionError::Unavailable`].
    pub async fn get(&self, run: &RunRef) -> Result<Option<RunReport>, ActionError> {
        let run = run.clone();
        self.blocking(move |runs| runs.find(&run)?.map(|entry| runs.report(&entry)).transpose()).await
    }

    /// The output of a run from its beginning, whether it is finished, goes on or has not begun.
    pub fn output(&self, run: &RunRef) -> Output {
        Output::new(self.folder.join(&run.name).join(OUTPUT))
    }

    /// Hands on each line of the output until the run has ended, or is removed (None). It does not matter which process has started
    /// the run.
    ///
    /// # Errors
    ///
    /// [`ActionError::Unavailable`].
    pub async fn follow(
        &self,
        run: &RunRef,
        mut output: Output,
        mut line: impl FnMut(&str) + Send,
    ) -> Result<Option<RunReport>, ActionError> {
        loop {
            // In this order: what is written before the end is read after it.
            let report = self.get(run).await?;
            let ended = report.as_ref().is_none_or(|report| report.ending.is_some());
            loop {
                let unreadable = |error| ActionError::Unavailable(format!("the output of {run} cannot be read: {error}").into());
                let lines = output.read_new_lines().map_err(unreadable)?;
                if lines.is_empty() {
                    break;
                }
                lines.iter().for_each(|text| line(text));
            }
            if ended {
                return Ok(report);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Removes runs that have ended as long ago as `keep` says for their action, and what crashes have left behind.
    ///
    /// # Errors
    ///
    /// [`ActionError::Unavailable`]; the next call goes on.
    pub async fn remove_finished(&self, keep: impl Fn(&ObjectRef) -> Duration + Send + 'static, now: Timestamp) -> Result<(), ActionError> {
        self.blocking(move |runs| {
            for entry in runs.entries()? {
                let ended = runs.report(&entry)?.ending;
                let over = ended.is_some_and(|ending| now.duration_since(ending.finished).unsigned_abs() >= keep(&entry.request.action));
                if over {
                    runs.stop(&entry.run)?;
                } else if entry.folder.is_there(ENDED)? {
                    remove(&entry.folder.file(WORKDIR))?;
                }
            }
            runs.remove_left_behind(now)
        })
        .await
    }

    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, Cause> + Send + 'static,
    ) -> Result<T, ActionError> {
        let runs = self.clone();
        durable::blocking(move || work(&runs)).await.map_err(ActionError::Unavailable)
    }

    /// Held while a run is registered, begun or removed, so that what is decided on is still so.
    pub(super) fn lock(&self) -> Result<Lock, Cause> {
        let path = self.folder.join(".lock");
        Lock::wait_for(&path).map_err(about(&path, "locked"))
    }

    /// Registers a run, None if another one has its name.
    pub(super) fn register(&self, request: &RunRequest) -> Result<Option<Registered>, Cause> {
        let name = request.key.name();
        let path = self.folder.join(&name);
        let _lock = self.lock()?;
        if path.try_exists().map_err(about(&path, "read"))? {
            let Some(entry) = self.entry(&name)?.filter(|entry| entry.request.key == request.key) else { return Ok(None) };
            return Ok(Some(Registered::Existing(Box::new(self.report(&entry)?.status))));
        }
        let uid = Uuid::new_v4().to_string();
        let new = Folder(self.folder.join(format!("{NEW}{uid}")));
        let write = || {
            durable::create_folder(&new.0)?;
            durable::write_new(&new.file(LOCK), b"")?;
            let registration = Registration { uid: uid.clone(), request: request.clone() };
            durable::write_new(&new.file(REGISTERED), &serde_json::to_vec_pretty(&registration)?)?;
            durable::sync_folder(&new.0)?;
            fs::rename(&new.0, &path)?;
            durable::sync_folder(&self.folder)
        };
        write().map_err(about(&path, "created")).inspect_err(|_| drop(remove(&new.0)))?;
        Ok(Some(Registered::New(RunRef { name, uid })))
    }

    /// Whether this run may begin now. The answer holds for as long as [`lock`](Self::lock) is held.
    pub(super) fn turn(&self, run: &RunRef) -> Result<Turn, Cause> {
        let Some(entry) = self.find(run)? else { return Ok(Turn::Gone) };
        match entry.folder.stage()? {
            Stage::Registered => {}
            Stage::Withdrawn => return Ok(Turn::Gone),
            Stage::Preparing => return Ok(Turn::Preparing),
            Stage::Running | Stage::Interrupted | Stage::Ended(_) => return Ok(Turn::Begun),
        }
        let mut running = 0;
        for other in self.entries_without_end()? {
            running += usize::from(matches!(other.folder.stage()?, Stage::Preparing | Stage::Running));
        }
        Ok(if running >= self.max_running { Turn::Waiting } else { Turn::Now(Box::new(entry)) })
    }

    /// The runs of a trigger that have not ended.
    pub(super) fn unfinished(&self, trigger: &TriggerId) -> Result<Vec<RunStatus>, Cause> {
        let mut unfinished = vec![];
        for entry in self.entries_without_end()?.iter().filter(|entry| entry.request.key.trigger == *trigger) {
            unfinished.extend(Some(self.report(entry)?.status).filter(|status| !status.phase.has_ended()));
        }
        Ok(unfinished)
    }

    /// Every run that is there, in the order of their names. What has no registration is not a run.
    fn entries(&self) -> Result<Vec<Entry>, Cause> {
        self.names()?.iter().filter_map(|name| self.entry(name).transpose()).collect()
    }

    /// The same without those of which an end is written down: they may be thousands, and nothing is read of them.
    fn entries_without_end(&self) -> Result<Vec<Entry>, Cause> {
        let mut entries = vec![];
        for name in self.names()?.iter().filter(|name| is_name(name)) {
            if !Folder(self.folder.join(name)).is_there(ENDED)? {
                entries.extend(self.entry(name)?);
            }
        }
        Ok(entries)
    }

    /// What is in the folder, whatever it is.
    fn names(&self) -> Result<Vec<String>, Cause> {
        let mut names = vec![];
        for entry in fs::read_dir(&self.folder).map_err(about(&self.folder, "read"))? {
            names.extend(entry.map_err(about(&self.folder, "read"))?.file_name().into_string());
        }
        names.sort_unstable();
        Ok(names)
    }

    /// The run of this name.
    fn entry(&self, name: &str) -> Result<Option<Entry>, Cause> {
        if !is_name(name) {
            return Ok(None);
        }
        let folder = Folder(self.folder.join(name));
        let Some(Registration { uid, request }) = folder.registration()? else { return Ok(None) };
        Ok(Some(Entry { folder, run: RunRef { name: name.to_owned(), uid }, request }))
    }

    fn find(&self, run: &RunRef) -> Result<Option<Entry>, Cause> {
        Ok(self.entry(&run.name)?.filter(|entry| entry.run == *run))
    }

    /// How far a run is. One whose supervisor has died is ended first: what it has started must not go on unseen.
    fn report(&self, entry: &Entry) -> Result<RunReport, Cause> {
        let mut stage = entry.folder.stage()?;
        if matches!(stage, Stage::Interrupted) {
            let started = entry.folder.end_interrupted()?;
            let message = Some("interrupted: its supervisor was killed, or the machine stopped".to_owned());
            let ending = Ending { code: None, signal: None, message, started, finished: (self.now)() };
            match entry.folder.write(ENDED, &ending) {
                // Removed by somebody else meanwhile.
                Err(_) if !entry.folder.is_there(REGISTERED)? => {}
                written => written?,
            }
            stage = Stage::Ended(ending);
        }
        let (phase, ending) = match stage {
            Stage::Registered | Stage::Preparing => (RunPhase::Waiting, None),
            Stage::Withdrawn => (RunPhase::Deleted, None),
            Stage::Running | Stage::Interrupted => (RunPhase::Running, None),
            Stage::Ended(ending) => (ending.phase(), Some(ending)),
        };
        let finished = ending.as_ref().map(|ending| ending.finished);
        let status = RunStatus { run: entry.run.clone(), request: entry.request.clone(), phase, finished };
        Ok(RunReport { status, ending, output: entry.folder.file(OUTPUT) })
    }

    /// Keeps a run from beginning, unless it has begun. A checkout that goes on is a beginning, and from then on counts as one.
    pub(super) fn withdraw(&self, run: &RunRef) -> Result<Withdrawn, Cause> {
        let _lock = self.lock()?;
        let Some(entry) = self.find(run)? else { return Ok(Withdrawn::TooLate) };
        let decision = if entry.folder.supervisor()?.is_some() { Decision::Begins } else { Decision::NeverBegins };
        Ok(match entry.folder.decide(decision)? {
            Decision::Begins => Withdrawn::TooLate,
            Decision::NeverBegins => Withdrawn::NeverBegins,
        })
    }

    /// Ends a run and removes it.
    pub(super) fn stop(&self, run: &RunRef) -> Result<(), Cause> {
        {
            let _lock = self.lock()?;
            let Some(entry) = self.find(run)? else { return Ok(()) };
            entry.folder.decide(Decision::NeverBegins)?;
        }
        // Without the lock, because this can take as long as the grace.
        let folder = Folder(self.folder.join(&run.name));
        self.end_supervisor(&folder)?;
        folder.end_interrupted()?;
        let gone = self.folder.join(format!("{GONE}{}", run.uid));
        {
            let _lock = self.lock()?;
            let Some(entry) = self.find(run)? else { return Ok(()) };
            let renamed = fs::rename(&entry.folder.0, &gone).and_then(|()| durable::sync_folder(&self.folder));
            renamed.map_err(about(&entry.folder.0, "removed"))?;
        }
        remove(&gone)
    }

    /// Lets the supervisor of a run end it, and kills one that does not.
    fn end_supervisor(&self, folder: &Folder) -> Result<(), Cause> {
        let begun = Instant::now();
        let mut signal = Some(Signal::TERM);
        while let Some(pid) = folder.supervisor()? {
            let patience = self.grace + SUPERVISOR_ENDS_WITHIN;
            if begun.elapsed() >= 2 * patience {
                return Err(format!("the supervisor of {} does not end although it was killed", folder.0.display()).into());
            }
            if begun.elapsed() >= patience {
                signal = Some(Signal::KILL);
            }
            if let Ok(handle) = pidfd_open(pid, PidfdFlags::empty())
                && let Some(signal) = signal
                && folder.supervisor()? == Some(pid)
            {
                let _ = pidfd_send_signal(handle, signal);
            }
            signal = None;
            sleep(session::LOOK);
        }
        Ok(())
    }

    fn remove_left_behind(&self, now: Timestamp) -> Result<(), Cause> {
        for entry in fs::read_dir(&self.folder).map_err(about(&self.folder, "read"))? {
            let path = entry.map_err(about(&self.folder, "read"))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let left_behind = |metadata: fs::Metadata| {
                let changed = metadata.modified().ok().and_then(|time| Timestamp::try_from(time).ok());
                changed.is_some_and(|changed| now.duration_since(changed) >= LEFT_BEHIND)
            };
            if (name.starts_with(NEW) || name.starts_with(GONE)) && fs::metadata(&path).is_ok_and(left_behind) {
                remove(&path)?;
            }
        }
        Ok(())
    }
}

impl Entry {
    /// What the supervisor had to say, for an error.
    pub fn supervisor_log(&self) -> String {
        let log = durable::read(&self.folder.file(SUPERVISOR_LOG)).ok().flatten().unwrap_or_default();
        String::from_utf8_lossy(&log).trim().to_owned()
    }
}

/// True for what can be the name of a run, and leads nowhere else as the name of a folder.
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// Removes a folder with all that is in it, if it is there.
pub fn remove(folder: &Path) -> Result<(), Cause> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            // A command may have taken the right to write away from itself.
            make_writable(folder).and_then(|()| fs::remove_dir_all(folder)).map_err(about(folder, "removed"))
        }
        Err(error) if error.kind() != ErrorKind::NotFound => Err(about(folder, "removed")(error)),
        _ => Ok(()),
    }
}

fn make_writable(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            make_writable(&entry.path())?;
        }
    }
    Ok(())
}
