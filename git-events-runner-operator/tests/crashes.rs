//! Kills local mode, at random moments while pushes and requests go on, and as soon as it has accepted a request, and checks that nothing was
//! lost and nothing has run twice.
//!
//! `KILLS` says how often, `SEED` at which moments.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use git_events_runner_core::CommitId;
use git_events_runner_tests::{GitRepo, Program, Random, free_port, post_and, send, wait_for, wait_within};
use rustix::process::Signal;
use tempfile::TempDir;

/// How much later than its answer the process may be killed, in microseconds.
const LATER: usize = 20_000;

const SOURCES: [&str; 2] = ["a", "b"];

/// Two triggers that run on change, one by schedule and one by webhook, and one that runs for each request.
const MANIFESTS: &str = r#"
apiVersion: git-events-runner.rs/v1alpha1
kind: GitRepo
metadata: {name: a}
spec: {repoUri: ../repos/a.git}
---
apiVersion: git-events-runner.rs/v1alpha1
kind: GitRepo
metadata: {name: b}
spec: {repoUri: ../repos/b.git}
---
apiVersion: git-events-runner.rs/v1alpha1
kind: Action
metadata: {name: note}
spec:
  actionJob:
    ttlSecondsAfterFinished: 30
    command: [sh, -c]
    args: ['echo "$TRIGGER_NAME $TRIGGER_SOURCE_NAME $(basename "$(dirname "$WORKDIR")") $TRIGGER_SOURCE_COMMIT $TRIGGER_SOURCE_PREVIOUS_COMMIT, $TRIGGER_REQUEST_ID" >>"$HOME/runs"']
---
apiVersion: git-events-runner.rs/v1alpha1
kind: ScheduleTrigger
metadata: {name: schedule}
spec:
  sources: {names: [a, b]}
  schedule: {interval: 1s}
  action: {kind: Action, name: note}
---
apiVersion: git-events-runner.rs/v1alpha1
kind: WebhookTrigger
metadata: {name: change}
spec:
  sources: {names: [a, b]}
  webhook: {multiSource: true, allowUnauthenticated: true}
  action: {kind: Action, name: note}
---
apiVersion: git-events-runner.rs/v1alpha1
kind: WebhookTrigger
metadata: {name: always}
spec:
  sources: {names: [a, b], watchOn: {onChangeOnly: false}}
  webhook: {multiSource: true, allowUnauthenticated: true}
  action: {kind: Action, name: note}
"#;

/// One line of the file that the action writes to.
struct Run {
    trigger: String,
    source: String,
    name: String,
    commit: String,
    previous: String,
    request: String,
}

struct World {
    folder: TempDir,
    repos: Vec<GitRepo>,
    port: u16,
    /// The ids of requests that were answered with 202.
    accepted: Mutex<Vec<String>>,
    over: AtomicBool,
}

impl World {
    fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let repos = SOURCES.map(|name| GitRepo::create(&folder.path().join("repos"), name));
        let repos = repos.into_iter().collect::<Result<Vec<_>>>()?;
        for repo in &repos {
            repo.push("main", &[("file", "0")])?;
        }
        fs::create_dir(folder.path().join("manifests"))?;
        fs::write(folder.path().join("manifests/all.yaml"), MANIFESTS)?;
        Ok(Self { folder, repos, port: free_port()?, accepted: Mutex::default(), over: AtomicBool::new(false) })
    }

    fn start(&self) -> Result<Program> {
        let port = self.port.to_string();
        let args = ["--webhooks-port", &port, "--log-level", "debug"];
        let variables = [("HOME", self.folder.path().as_os_str())];
        Program::local_mode(env!("CARGO_BIN_EXE_git-events-runner"), &self.folder.path().join("manifests"), &args, &variables)
    }

    /// Pushes new commits, and now and then goes back to an older one, until it is over.
    fn push(&self, mut random: Random) -> Result<()> {
        let mut number = 0;
        while !self.over.load(Ordering::Relaxed) {
            let repo = &self.repos[random.below(2)];
            if random.below(5) == 0 {
                repo.force("main", repo.commit(&format!("{}~1", tip(repo)?)).or_else(|_| tip(repo))?)?;
            } else {
                number += 1;
                repo.push("main", &[("file", &number.to_string())])?;
            }
            thread::sleep(Duration::from_millis(random.below(100) as u64));
        }
        Ok(())
    }

    /// Sends requests until it is over; those that find nobody are not accepted.
    fn request(&self, mut random: Random) {
        while !self.over.load(Ordering::Relaxed) {
            let always = random.below(2) == 0;
            let path = if always { "/default/always" } else { "/default/change" };
            if let Ok(answer) = send(self.port, "POST", path, &[], b"")
                && answer.status == 202
                && always
            {
                let id = answer.body["task_id"].as_str().unwrap_or_default().to_owned();
                self.accepted.lock().expect("nobody panics with it").push(id);
            }
            thread::sleep(Duration::from_millis(random.below(150) as u64));
        }
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("manifests/.git-events-runner")
    }

    fn runs(&self) -> Result<Vec<Run>> {
        let text = fs::read_to_string(self.folder.path().join("runs")).unwrap_or_default();
        let parse = |line: &str| {
            let parts: Vec<_> = line.split(' ').map(str::to_owned).collect();
            let [trigger, source, name, commit, previous, request] =
                parts.try_into().ok().with_context(|| format!("`{line}` is no run"))?;
            Ok(Run { trigger, source, name, commit, previous: previous.trim_end_matches(',').to_owned(), request })
        };
        text.lines().map(parse).collect()
    }

    /// Lets local mode work until there is nothing left to do.
    fn come_to_rest(&self) -> Result<()> {
        let local = self.start()?;
        let state = self.state();
        // A request on change for each source has it looked at, whatever was last seen.
        let asked = wait_for("the last request is accepted", || send(self.port, "POST", "/default/change", &[], b"").ok());
        ensure!(asked?.status == 202);
        for source in SOURCES {
            local.wait_for_line(&format!("nothing new trigger=ScheduleTrigger default/schedule source=\"{source}\""))?;
        }
        // After many kills there is some left.
        wait_within(Duration::from_secs(180), "nothing is left to do", || is_at_rest(&state).ok().filter(|at_rest| *at_rest))?;
        local.end(Signal::TERM).map(drop)
    }

    fn check(&self) -> Result<usize> {
        let runs = self.runs()?;
        let mut names = BTreeSet::new();
        for run in &runs {
            ensure!(names.insert(&run.name), "{} has run twice", run.name);
        }
        for run in runs.iter().filter(|run| run.trigger != "always") {
            ensure!(run.commit != run.previous, "{} has run for the commit of the run before", run.name);
        }
        for trigger in ["schedule", "change"] {
            let state = state_of(&self.state(), trigger)?;
            for (name, repo) in SOURCES.iter().zip(&self.repos) {
                // Runs go on side by side: the last one by number may have ended before an earlier one.
                let last = state["sources"][name]["lastRun"]["name"].as_str();
                let tip = tip(repo)?.to_string();
                let is_last = |run: &&Run| last == Some(&run.name) && run.commit == tip;
                ensure!(runs.iter().any(|run| is_last(&run)), "the last run of {trigger} for {name} is not of its tip {tip}");
            }
        }
        let mut by_request = BTreeMap::<_, usize>::new();
        for run in runs.iter().filter(|run| run.trigger == "always") {
            *by_request.entry((run.request.as_str(), run.source.as_str())).or_default() += 1;
        }
        ensure!(by_request.values().all(|runs| *runs == 1), "a request is on two runs of a source: {by_request:?}");
        let accepted = self.accepted.lock().expect("nobody panics with it");
        for id in accepted.iter() {
            for source in SOURCES {
                ensure!(by_request.contains_key(&(id, source)), "request {id} was accepted, and is on no run of {source}");
            }
        }
        Ok(runs.len())
    }
}

/// What the branch points at, which may be older than what it pointed at before.
fn tip(repo: &GitRepo) -> Result<CommitId> {
    let bare = repo.bare().display().to_string();
    Ok(repo.git(&["--git-dir", &bare, "rev-parse", "main"])?.parse()?)
}

/// What is remembered of a trigger.
fn state_of(state: &Path, trigger: &str) -> Result<serde_json::Value> {
    let mut files = fs::read_dir(state.join("triggers"))?.collect::<Result<Vec<_>, _>>()?.into_iter().map(|file| file.path());
    let begins = format!("{trigger}.");
    let file = files.find(|file| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&begins)));
    let mut stored: serde_json::Value = serde_json::from_slice(&fs::read(file.context("no state")?)?)?;
    Ok(stored["state"].take())
}

/// Nothing is pending or waiting, and every run has ended.
fn is_at_rest(state: &Path) -> Result<bool> {
    for trigger in ["schedule", "change", "always"] {
        let state = state_of(state, trigger)?;
        let is_empty = |field: &str| state[field].as_object().is_none_or(serde_json::Map::is_empty);
        let mut sources = state["sources"].as_object().into_iter().flat_map(serde_json::Map::values);
        let has_ended = |source: &serde_json::Value| source["lastRun"]["result"] != "Waiting" && source["lastRun"]["result"] != "Running";
        if !is_empty("pending") || !is_empty("waiting") || !sources.all(has_ended) {
            return Ok(false);
        }
    }
    let runs = fs::read_dir(state.join("runs"))?.filter_map(Result::ok).map(|run| run.path());
    let mut begun = runs.filter(|run| run.join("decision.json").exists());
    Ok(begun.all(|run| run.join("exit.json").exists()))
}

/// Everything that a finished check saw as new was announced; this is what was.
fn announced(output: &[String]) -> impl Iterator<Item = &str> {
    output.iter().filter_map(|line| line.split("fired: run ").nth(1)?.split(' ').next())
}

fn number(name: &str, default: u64) -> Result<u64> {
    std::env::var(name).map_or(Ok(default), |text| text.parse().context(text))
}

#[test]
fn what_was_answered_with_202_has_run_though_the_process_is_killed_at_once() -> Result<()> {
    let (kills, mut random) = (number("KILLS", 25)?, Random::new(number("SEED", 1)?));
    let (world, began) = (World::new()?, Instant::now());
    for _ in 0..kills {
        let mut local = world.start()?;
        let later = if random.below(2) == 0 { 0 } else { random.below(LATER) };
        let accepted = wait_for("a request is accepted", || {
            let answer = post_and(world.port, "/default/always", |status| {
                if status == 202 {
                    thread::sleep(Duration::from_micros(later as u64));
                    local.kill()?;
                }
                Ok(())
            });
            answer.ok().filter(|answer| answer.status == 202)
        });
        let id = accepted?.body["task_id"].as_str().context("no task_id")?.to_owned();
        world.accepted.lock().expect("nobody panics with it").push(id);
        ensure!(!local.output().iter().any(|line| line.contains("panicked")), "it has panicked: {:#?}", local.output());
    }
    println!("{kills} kills after {:.1?}", began.elapsed());
    world.come_to_rest()?;
    println!("{} runs after {:.1?}", world.check()?, began.elapsed());
    Ok(())
}

#[test]
fn nothing_is_lost_and_nothing_runs_twice_through_kills_at_random_moments() -> Result<()> {
    let (kills, seed) = (number("KILLS", 25)?, number("SEED", 1)?);
    let world = Arc::new(World::new()?);
    let mut random = Random::new(seed);
    let (for_pushes, for_requests) = (random.fork(), random.fork());
    let pushing = thread::spawn({
        let world = Arc::clone(&world);
        move || world.push(for_pushes)
    });
    let requesting = thread::spawn({
        let world = Arc::clone(&world);
        move || world.request(for_requests)
    });
    let mut output = vec![];
    for _ in 0..kills {
        let mut local = world.start()?;
        thread::sleep(Duration::from_millis(5 + random.below(600) as u64));
        local.kill()?;
        output.extend(local.output());
    }
    world.over.store(true, Ordering::Relaxed);
    pushing.join().expect("pushing does not panic")?;
    requesting.join().expect("requesting does not panic");
    world.come_to_rest()?;
    let count = world.check()?;
    let runs = world.runs()?;
    let names: BTreeSet<_> = runs.iter().map(|run| run.name.as_str()).collect();
    for run in announced(&output) {
        ensure!(names.contains(run), "{run} was announced, and has not run");
    }
    ensure!(!output.iter().any(|line| line.contains("panicked")), "it has panicked");
    println!("{kills} kills, {count} runs, {} requests accepted", world.accepted.lock().expect("nobody panics with it").len());
    Ok(())
}
