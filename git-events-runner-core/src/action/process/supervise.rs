use std::{
    ffi::OsString,
    fs::{self, File},
    future::pending,
    io::{self, ErrorKind, Read as _, Write as _},
    os::{fd::OwnedFd, unix::process::ExitStatusExt as _},
    path::{Path, PathBuf},
    pin::pin,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use futures_util::future::{Either, select};
use jiff::Timestamp;
use rustix::{
    fs::{FlockOperation, fcntl_lock},
    process::{Signal, chdir, getpid, set_child_subreaper, setsid},
};
use tokio::{
    io::AsyncReadExt as _,
    net::unix::pipe::Receiver,
    process::{Child, Command},
    signal::unix::{self, SignalKind, signal},
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    BEGUN, PASSED_ON,
    folder::{DECISION, Decision, ENDED, Ending, Folder, LOCK, OUTPUT, STARTED, Started, WORKDIR},
    job::Job,
    output::Log,
    runs,
    session::{self, Session, descendants},
};
use crate::{
    Attempts, Cause, Checkout,
    durable::{self, about},
};

/// How long to wait for the rest of the output once all processes are ended: somebody else may have been handed the other end.
const DRAINED_WITHIN: Duration = Duration::from_secs(1);

/// For how long a checkout is tried again that has failed because a server was away, busy or silent.
const TRY_FOR: Duration = Duration::from_secs(120);

/// Supervises one run: checks its files out, runs its command, writes down how that ended.
///
/// To be called in a process of its own, whose only purpose this is, by a runtime with I/O and time: the process leaves its session and
/// its working directory, and every process below it is ended at the end. Its standard input is what
/// [`ProcessAction`](super::ProcessAction) writes to it; `inherited` is its environment, of which the command gets [`PASSED_ON`].
/// `connect` makes a [`Checkout`] of what [`Origins`](super::Origins) gave.
///
/// # Guarantees
///
/// - Of any number of supervisors of a run, at most one starts the command, and only once in all time.
/// - Until the files are checked out it may die at any moment, and the next one begins again.
///
/// # Errors
///
/// When the folder of the run, or the machine, does not let it work. That the run fails is none: that is written down in its folder.
pub async fn supervise(
    folder: &Path,
    inherited: impl IntoIterator<Item = (OsString, OsString)>,
    now: fn() -> Timestamp,
    connect: impl FnOnce(serde_json::Value) -> Result<Arc<dyn Checkout>, Cause>,
) -> Result<(), Cause> {
    setsid().map_err(|error| format!("this process cannot leave its session ({error}): it is to be started by `local` only"))?;
    let mut job = vec![];
    io::stdin().read_to_end(&mut job)?;
    let mut job: Job = serde_json::from_slice(&job)?;
    let workdir = std::path::absolute(folder)?.join(WORKDIR);
    // From here on the folder is found even if it is moved away to be removed.
    chdir(folder).map_err(io::Error::from).map_err(about(folder, "entered"))?;
    let folder = Folder(PathBuf::from("."));
    let mut limits =
        Limits { terminate: signal(SignalKind::terminate())?, deadline: job.deadline.and_then(|time| Instant::now().checked_add(time)) };
    let Some(_lock) = lock(&folder)? else { return Ok(()) };
    if !may_begin(&folder, &job)? {
        return Ok(());
    }
    set_child_subreaper(Some(getpid())).map_err(io::Error::from)?;
    // Who started this process may be gone by now.
    let _ = io::stdout().write_all(BEGUN.as_bytes()).and_then(|()| io::stdout().flush());

    let checked_out = check_out(connect(job.checkout.take()), &job, &workdir, &mut limits).await;
    // Ended from outside before it has begun, another supervisor can begin with it.
    let ended_before = matches!(&checked_out, Err(Outcome { cut: Some(Cut::Asked), .. }));
    if !ended_before && folder.decide(Decision::Begins)? == Decision::Begins {
        let started = Started { at: now(), session: Session::current()? };
        let (outcome, started) = match checked_out {
            Ok(()) => {
                folder.write(STARTED, &started)?;
                (run(&job, inherited, &folder, &mut limits).await, Some(started.at))
            }
            Err(outcome) => (outcome, None),
        };
        folder.write(ENDED, &outcome.into_ending(&job, started, now()))?;
    }
    runs::remove(&folder.file(WORKDIR))
}

/// Locks the run. The file must not be opened again by this process: closing that would end the lock.
fn lock(folder: &Folder) -> Result<Option<File>, Cause> {
    let path = folder.file(LOCK);
    let file = File::options().write(true).open(&path).map_err(about(&path, "opened"))?;
    match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).map_err(io::Error::from) {
        Ok(()) => Ok(Some(file)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::PermissionDenied) => Ok(None),
        Err(error) => Err(about(&path, "locked")(error)),
    }
}

/// To be asked under the lock.
fn may_begin(folder: &Folder, job: &Job) -> Result<bool, Cause> {
    let is_it = folder.registration()?.is_some_and(|registration| registration.uid == job.uid);
    Ok(is_it && !folder.is_there(DECISION)?)
}

/// What ends a run before its time.
struct Limits {
    terminate: unix::Signal,
    deadline: Option<Instant>,
}

#[derive(Clone, Copy)]
enum Cut {
    Deadline,
    Asked,
}

impl Limits {
    async fn reached(&mut self) -> Cut {
        let deadline = async {
            match self.deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => pending().await,
            }
        };
        match select(pin!(deadline), pin!(self.terminate.recv())).await {
            Either::Left(_) => Cut::Deadline,
            Either::Right(_) => Cut::Asked,
        }
    }
}

/// What came of a run.
#[derive(Default)]
struct Outcome {
    status: Option<ExitStatus>,
    cut: Option<Cut>,
    failure: Option<String>,
}

impl Outcome {
    fn failed(message: String) -> Self {
        Self { failure: Some(message), ..Self::default() }
    }

    fn into_ending(self, job: &Job, started: Option<Timestamp>, finished: Timestamp) -> Ending {
        let cut = self.cut.map(|cut| match cut {
            Cut::Deadline => format!("ended at its deadline, after {:?}", job.deadline.unwrap_or_default()),
            Cut::Asked => "ended from outside".to_owned(),
        });
        let (code, signal) = (self.status.and_then(|status| status.code()), self.status.and_then(|status| status.signal()));
        Ending { code, signal, message: self.failure.or(cut), started, finished }
    }
}

async fn check_out(checkout: Result<Arc<dyn Checkout>, Cause>, job: &Job, workdir: &Path, limits: &mut Limits) -> Result<(), Outcome> {
    let failed = |error: &dyn std::fmt::Display| Outcome::failed(format!("its files cannot be checked out: {error}"));
    let checkout = checkout.map_err(|error| failed(&error))?;
    let checked_out = pin!(async {
        let mut attempts = Attempts::new(TRY_FOR);
        loop {
            // There may be files of a supervisor that died, or of an attempt that has failed.
            runs::remove(workdir).map_err(|error| failed(&error))?;
            durable::create_folder(workdir).map_err(|error| failed(&error))?;
            let Err(error) = checkout.checkout(&job.revision, workdir).await else { return Ok(()) };
            sleep(attempts.again(&error).ok_or_else(|| failed(&error))?).await;
        }
    });
    match select(checked_out, pin!(limits.reached())).await {
        Either::Left((checked_out, _)) => checked_out,
        Either::Right((cut, _)) => Err(Outcome { cut: Some(cut), ..Outcome::default() }),
    }
}

/// Runs the command, keeps its output, and ends what it leaves behind.
async fn run(job: &Job, inherited: impl IntoIterator<Item = (OsString, OsString)>, folder: &Folder, limits: &mut Limits) -> Outcome {
    let Some((program, args)) = job.argv.split_first() else { return Outcome::failed("there is no command".to_owned()) };
    let spawned = Log::create(&folder.file(OUTPUT)).and_then(|log| {
        let (reader, writer) = io::pipe()?;
        let mut command = Command::new(program);
        command.args(args).current_dir(folder.file(WORKDIR)).process_group(0);
        command.env_clear().envs(inherited.into_iter().filter(|(name, _)| PASSED_ON.iter().any(|passed| name == *passed)));
        command.envs(&job.environment).stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        // The command goes out of scope, and with it our own writing ends of the pipe.
        Ok((command.spawn()?, Receiver::from_owned_fd(OwnedFd::from(reader))?, log))
    });
    let (mut child, output, log) = match spawned {
        Ok(spawned) => spawned,
        Err(error) => return Outcome::failed(why_not_started(program, &folder.file(WORKDIR), &error)),
    };
    let copied = pin!(keep(output, log));
    match select(copied, pin!(wait(&mut child, job.grace, limits))).await {
        Either::Left(((), waited)) => waited.await,
        Either::Right((outcome, copied)) => {
            let _ = timeout(DRAINED_WITHIN, copied).await;
            outcome
        }
    }
}

/// Waits for the end of the command, and sees to it that nothing goes on after it, as nothing would in a container.
async fn wait(child: &mut Child, grace: Duration, limits: &mut Limits) -> Outcome {
    let below = || descendants(getpid());
    let cut = match select(pin!(child.wait()), pin!(limits.reached())).await {
        Either::Left(_) => None,
        Either::Right((cut, _)) => Some(cut),
    };
    if cut.is_some() {
        below().unwrap_or_default().iter().for_each(|process| process.signal(Signal::TERM));
        let _ = timeout(grace, child.wait()).await;
    }
    let ended = match session::kill(below) {
        Ok(()) => child.wait().await.map(Some),
        Err(error) => Err(error),
    };
    match ended {
        Ok(status) => Outcome { status, cut, failure: None },
        Err(error) => Outcome { cut, ..Outcome::failed(format!("what it has started cannot be ended: {error}")) },
    }
}

/// Copies output to its file. If that fails there is nowhere to say so but the supervisor's own log; the command goes on.
async fn keep(mut output: Receiver, mut log: Log) {
    let mut chunk = vec![0; 64 << 10];
    let mut written = Ok(());
    loop {
        match output.read(&mut chunk).await {
            Ok(read) if read > 0 => written = written.and_then(|()| log.write(&chunk[..read])),
            _ => break,
        }
    }
    if let Err(error) = written.and_then(|()| log.finish()) {
        let _ = writeln!(io::stderr(), "the output cannot be kept: {error}");
    }
}

/// Says what is wrong with a program that cannot be started.
fn why_not_started(program: &str, workdir: &Path, error: &io::Error) -> String {
    let is_there = program.contains('/') && fs::exists(workdir.join(program)).unwrap_or(false);
    match error.kind() {
        ErrorKind::NotFound if is_there => format!("`{program}` cannot be started: what its first line names is not there"),
        ErrorKind::NotFound if program.contains('/') => format!("`{program}` is not among the checked-out files"),
        ErrorKind::NotFound => format!("`{program}` is not in PATH; a file of the repository is `./{program}`"),
        ErrorKind::PermissionDenied => format!("`{program}` is not executable: `git update-index --chmod=+x` makes it so"),
        _ => format!("`{program}` cannot be started: {error}"),
    }
}
