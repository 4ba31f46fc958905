//! Runs as local processes: an [`Action`](crate::Action) for machines without a cluster. Needs Linux.
//!
//! A run is a folder. [`ProcessAction::register`](crate::Action::register) creates it, with everything that has to be known of the
//! run; `release` starts a supervisor, which is a small process in a session of its own. It checks the files out, marks the run as
//! started, runs the command, and writes down how it ended. It outlives the process that has started it, and whoever comes after
//! that finds its runs in their folders: those that go on, those that have ended, and those whose supervisor has died.
//!
//! ```text
//! runs/deploy-3f9a2k7c1d/
//!     request.json     what was registered
//!     lock             locked for as long as a supervisor lives
//!     workdir/         the checked-out files, while it runs
//!     decision.json    from here on, the run is never begun again, or never at all
//!     started.json     when the command was started, and by whom
//!     output.log       what the command wrote
//!     exit.json        how it ended
//! ```

use std::{fs::File, process::Stdio, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::Command,
    time::timeout,
};

use crate::{
    Action, ActionError, Cause, ObjectRef, Registered, Released, Revision, RunRef, RunRequest, RunStatus, TriggerId, Withdrawn,
    durable::about, environment,
};

mod folder;
mod job;
mod output;
mod runs;
mod session;
mod supervise;

pub use folder::Ending;
pub use job::{PASSED_ON, Supervisor};
pub use output::Output;
pub use runs::{RunReport, Runs};
pub use supervise::supervise;

use folder::{SUPERVISOR_LOG, WORKDIR};
use job::Job;
use runs::{Entry, Turn};

/// What a supervisor writes when the run is its own.
const BEGUN: &str = "begun\n";

/// How long a supervisor may take until then.
const BEGINS_WITHIN: Duration = Duration::from_secs(30);

/// Starts a command in the files of the source that fired, as a local process.
///
/// The command gets the variables of [`environment()`](crate::environment()), each with the prefix and without, those of the action,
/// and [`PASSED_ON`]. Where names are the same, those with the prefix win over the action's own, and these over those without.
#[derive(Clone)]
pub struct ProcessAction {
    id: ObjectRef,
    runs: Runs,
    command: CommandLine,
    origins: Arc<dyn Origins>,
}

/// What to start.
#[derive(Clone, Default)]
pub struct CommandLine {
    /// The program, and its arguments. A program with a slash in it is one of the checked-out files, or an absolute path; others are
    /// looked for in `PATH`.
    pub argv: Vec<String>,
    /// Variables of the action's own. They may be secret.
    pub environment: Vec<(String, String)>,
    /// What comes before the documented names of variables.
    pub prefix: String,
    /// How long a run may take, checkout included. Then everything it has started is ended.
    pub deadline: Option<Duration>,
}

/// Says what the files of a run are checked out of, when the run is about to begin.
#[async_trait]
pub trait Origins: Send + Sync {
    /// The origin of the files of this run.
    async fn origin(&self, run: &RunRequest) -> Result<Origin, ActionError>;
}

/// What the files of a run are checked out of.
#[derive(Clone, Default)]
pub struct Origin {
    /// What the program that supervises makes a [`Checkout`](crate::Checkout) of. It may hold credentials: it goes through a pipe only.
    pub checkout: serde_json::Value,
    /// Where the source of the trigger is. It holds no credentials.
    pub source_uri: String,
    /// What is checked out instead of the source that fired, if the action says so.
    pub overridden: Option<(ObjectRef, Revision)>,
}

impl ProcessAction {
    /// An action whose runs are among these.
    pub fn new(id: ObjectRef, runs: Runs, command: CommandLine, origins: Arc<dyn Origins>) -> Self {
        Self { id, runs, command, origins }
    }

    async fn job(&self, entry: &Entry) -> Result<Job, ActionError> {
        let Origin { checkout, source_uri, overridden } = self.origins.origin(&entry.request).await?;
        let workdir = entry.folder.file(WORKDIR);
        let told = environment(&entry.request, &workdir.to_string_lossy(), &source_uri, overridden.as_ref());
        let CommandLine { argv, environment: own, prefix, deadline } = &self.command;
        let without_prefix = told.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        let with_prefix = told.iter().map(|(name, value)| (format!("{prefix}{name}"), value.clone()));
        Ok(Job {
            uid: entry.run.uid.clone(),
            argv: argv.clone(),
            environment: without_prefix.chain(own.iter().cloned()).chain(with_prefix).collect(),
            checkout,
            revision: overridden.map_or_else(|| entry.request.revision(), |(_, revision)| revision),
            deadline: *deadline,
            grace: self.runs.grace,
        })
    }

    async fn turn(&self, run: &RunRef) -> Result<Turn, ActionError> {
        let run = run.clone();
        self.runs.blocking(move |runs| runs.turn(&run)).await
    }

    /// Starts a supervisor, and waits until it has the run, or has found that it does not need it.
    async fn start(&self, entry: &Entry, job: &Job) -> Result<(), Cause> {
        let Supervisor { program, args } = &*self.runs.supervisor;
        let log = entry.folder.file(SUPERVISOR_LOG);
        let mut child = Command::new(program)
            .args(args)
            .arg(&entry.folder.0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).map_err(about(&log, "created"))?)
            .spawn()
            .map_err(about(program, "started"))?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let begin = async {
            if let Some(mut stdin) = stdin {
                // One that ends without reading it all is found by its answer.
                let _ = stdin.write_all(&serde_json::to_vec(job)?).await;
            }
            let mut answer = String::new();
            if let Some(stdout) = stdout {
                BufReader::new(stdout).read_line(&mut answer).await?;
            }
            Ok::<_, Cause>(answer)
        };
        let answer = timeout(BEGINS_WITHIN, begin).await.map_err(|_| format!("its supervisor does not begin: see {}", log.display()))??;
        if answer != BEGUN {
            child.wait().await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Action for ProcessAction {
    fn id(&self) -> &ObjectRef {
        &self.id
    }

    fn queue(&self) -> String {
        "processes".to_owned()
    }

    async fn register(&self, run: &RunRequest) -> Result<Registered, ActionError> {
        if self.command.argv.is_empty() {
            return Err(ActionError::Invalid(format!(
                "{} has neither `command` nor `args`: there is no image to start by itself",
                self.id
            )));
        }
        let name = run.key.name();
        if !runs::is_name(&name) {
            return Err(ActionError::Invalid(format!("`{name}` cannot be the name of a folder: rename {}", run.key.trigger)));
        }
        let request = run.clone();
        let registered = self.runs.blocking(move |runs| runs.register(&request)).await?;
        registered.ok_or_else(|| ActionError::NotOurs(Box::new(run.key.clone())))
    }

    async fn release(&self, run: &RunRef) -> Result<Released, ActionError> {
        // Once without the lock, because the origin may have to be asked, which takes time.
        let job = match self.turn(run).await? {
            Turn::Now(entry) => self.job(&entry).await?,
            other => return Ok(other.into()),
        };
        let _lock = self.runs.blocking(|runs| runs.lock()).await?;
        let entry = match self.turn(run).await? {
            Turn::Now(entry) => entry,
            other => return Ok(other.into()),
        };
        self.start(&entry, &job).await.map_err(|error| ActionError::Unavailable(format!("{run} cannot begin: {error}").into()))?;
        match self.turn(run).await? {
            Turn::Now(entry) => {
                let message = format!("{run} has not begun: its supervisor ended, and said: {}", entry.supervisor_log());
                Err(ActionError::Unavailable(message.into()))
            }
            other => Ok(other.into()),
        }
    }

    async fn get(&self, run: &RunRef) -> Result<Option<RunStatus>, ActionError> {
        Ok(self.runs.get(run).await?.map(|report| report.status))
    }

    async fn unfinished(&self, of: &TriggerId) -> Result<Vec<RunStatus>, ActionError> {
        let of = of.clone();
        self.runs.blocking(move |runs| runs.unfinished(&of)).await
    }

    async fn withdraw(&self, run: &RunRef) -> Result<Withdrawn, ActionError> {
        let run = run.clone();
        self.runs.blocking(move |runs| runs.withdraw(&run)).await
    }

    async fn stop(&self, run: &RunRef) -> Result<(), ActionError> {
        let run = run.clone();
        self.runs.blocking(move |runs| runs.stop(&run)).await
    }
}

impl From<Turn> for Released {
    fn from(turn: Turn) -> Self {
        match turn {
            Turn::Gone => Self::Gone,
            Turn::Begun => Self::Begun,
            Turn::Preparing => Self::Preparing,
            Turn::Waiting | Turn::Now(_) => Self::Waiting,
        }
    }
}
