//! A folder for runs, an action, and what tests want to know of them.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use git_events_runner_core::{
    process::{CommandLine, Origin, Origins, ProcessAction, RunReport, Runs, Supervisor},
    *,
};
use jiff::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(60);

pub struct Machine {
    pub folder: TempDir,
    pub supervisor: Supervisor,
    pub runs: Runs,
    pub command: CommandLine,
    pub origin: Origin,
    pub action: ProcessAction,
}

struct Fixed(Origin);

#[async_trait]
impl Origins for Fixed {
    async fn origin(&self, _: &RunRequest) -> Result<Origin, ActionError> {
        Ok(self.0.clone())
    }
}

pub fn request() -> RunRequest {
    RunRequest::new(
        RunKey {
            trigger: TriggerId { kind: "ScheduleTrigger".into(), namespace: "default".into(), name: "app".into(), uid: "1".into() },
            source: ObjectRef::namespaced("GitRepo", "default", "app"),
            reference: Reference::Branch("main".into()),
            sequence: 0,
        },
        ObjectRef::namespaced("Action", "default", "deploy"),
        CommitId::from_bytes([1; 20]),
        Timestamp::UNIX_EPOCH,
    )
}

impl Machine {
    /// An action with this command, which finds a folder for its marks in `FILES`.
    pub fn new(argv: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let supervisor = Supervisor { program: env!("CARGO_BIN_EXE_test-supervisor").into(), args: vec![] };
        let runs = Runs::open(&folder.path().join("runs"), supervisor.clone(), Timestamp::now).unwrap();
        let runs = runs.with_grace(Duration::from_millis(300));
        let files = ("FILES".to_owned(), folder.path().to_str().unwrap().to_owned());
        let argv = argv.iter().map(|&arg| arg.to_owned()).collect();
        let command = CommandLine { argv, environment: vec![files], prefix: "ACTION_JOB_".into(), deadline: None };
        let origin = Origin { checkout: json!({}), source_uri: "https://git.example.com/app.git".into(), overridden: None };
        let action = action(&runs, &command, &origin);
        Self { folder, supervisor, runs, command, origin, action }
    }

    /// An action that runs a shell script.
    pub fn script(script: &str) -> Self {
        Self::new(&["sh", "-c", script])
    }

    pub fn with_files(mut self, files: Value) -> Self {
        self.origin.checkout["files"] = files;
        self.restart();
        self
    }

    pub fn with_checkout(mut self, checkout: Value) -> Self {
        self.origin.checkout = checkout;
        self.restart();
        self
    }

    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.command.deadline = Some(deadline);
        self.restart();
        self
    }

    pub fn with_grace(mut self, grace: Duration) -> Self {
        self.runs = self.runs.clone().with_grace(grace);
        self.restart();
        self
    }

    /// Forgets everything that is not in the folder.
    pub fn restart(&mut self) {
        self.action = action(&self.runs, &self.command, &self.origin);
    }

    /// Opens the runs again, with the supervisor that is set now.
    pub fn reopen(&mut self) {
        self.runs = Runs::open(&self.folder.path().join("runs"), self.supervisor.clone(), Timestamp::now).unwrap();
        self.restart();
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn folder_of(&self, run: &RunRef) -> PathBuf {
        self.file("runs").join(&run.name)
    }

    /// The lines of a file beside the runs; none if it is not there.
    pub fn lines_of(&self, name: &str) -> Vec<String> {
        fs::read_to_string(self.file(name)).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    pub async fn register(&self, request: &RunRequest) -> RunRef {
        match self.action.register(request).await.unwrap() {
            Registered::New(run) => run,
            other => panic!("{other:?}"),
        }
    }

    /// Registers and releases a run.
    pub async fn begin(&self) -> RunRef {
        let run = self.register(&request()).await;
        self.release(&run).await;
        run
    }

    /// Releases a run that may begin.
    pub async fn release(&self, run: &RunRef) {
        let released = self.action.release(run).await.unwrap();
        assert!(matches!(released, Released::Begun | Released::Preparing), "{released:?}");
    }

    /// Runs the action to its end. Answers with the lines of the output.
    pub async fn run(&self) -> (RunReport, Vec<String>) {
        let run = self.begin().await;
        self.end(&run).await
    }

    /// Waits for the end of a run.
    pub async fn end(&self, run: &RunRef) -> (RunReport, Vec<String>) {
        let mut lines = vec![];
        let follow = self.runs.follow(run, self.runs.output(run), |line| lines.push(line.to_owned()));
        let report = tokio::time::timeout(DEADLINE, follow).await.expect("the run ends").unwrap();
        (report.expect("the run is there"), lines)
    }

    pub async fn phase(&self, run: &RunRef) -> RunPhase {
        self.runs.get(run).await.unwrap().unwrap().status.phase
    }

    pub fn variables(lines: &[String]) -> BTreeMap<String, String> {
        lines.iter().filter_map(|line| line.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// The process that supervises a run, when it has started its command.
    pub async fn supervisor_of(&self, run: &RunRef) -> i32 {
        let started = self.folder_of(run).join("started.json");
        let text = eventually("the run is started", async || fs::read(&started).ok()).await;
        let started: Value = serde_json::from_slice(&text).unwrap();
        started["session"]["leader"].as_i64().unwrap().try_into().unwrap()
    }
}

impl Drop for Machine {
    /// Ends what still runs, also when a test fails.
    fn drop(&mut self) {
        let Ok(runs) = fs::read_dir(self.file("runs")) else { return };
        let locks: Vec<_> = runs.flatten().map(|run| run.path().join("lock")).collect();
        for pid in locks.iter().filter_map(|lock| holder(lock)).filter_map(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let end = Instant::now() + Duration::from_secs(5);
        while locks.iter().any(|lock| holder(lock).is_some()) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn action(runs: &Runs, command: &CommandLine, origin: &Origin) -> ProcessAction {
    ProcessAction::new(request().action, runs.clone(), command.clone(), Arc::new(Fixed(origin.clone())))
}

/// Waits until a condition answers with something.
pub async fn eventually<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = condition().await {
            return found;
        }
        assert!(Instant::now() < end, "still not: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether a process is there and does not merely wait to be collected.
pub fn runs(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

pub fn kill(pid: i32) {
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL).unwrap();
}

/// Who holds a lock, as the kernel lists it.
pub fn holder(lock: &Path) -> Option<i32> {
    let inode = format!(":{}", fs::metadata(lock).ok()?.ino());
    let locks = fs::read_to_string("/proc/locks").unwrap();
    let mut fields = locks.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    fields.find(|fields| fields[1] == "POSIX" && fields[5].ends_with(&inode)).map(|fields| fields[4].parse().unwrap())
}
