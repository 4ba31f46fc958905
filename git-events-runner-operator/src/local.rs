//! Local mode: the same manifests from a folder, and actions as processes of this machine.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use git_events_runner_core::{
    Catalog as _, CatalogError, FileStore, ObjectRef, Trigger, TriggerId, crd,
    engine::Memory,
    git::GitClient,
    manifests::{Content, Manifests},
    process::{Runs, Supervisor},
    validate::{Document, Mode, Object},
};
use jiff::Timestamp;
use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tracing::{error, info, warn};

mod agenda;
mod clock;
mod config;
mod driver;
mod hooks;

use agenda::Agenda;
use driver::{Driven, Driver};
use hooks::LocalHooks;

use crate::{args, http, log, manifest_files, stop, webhook};

/// How often it is written down up to where all firings are handled. After a crash, those since then are looked at again.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// How many webhook requests are answered at a time.
const PARALLEL: usize = 256;

/// How often finished runs are looked at, whether they are to be kept any longer.
const CLEAN_UP: Duration = Duration::from_secs(60);

pub fn run(args: args::Local) -> anyhow::Result<ExitCode> {
    let args::Local { dir, once, state, webhooks_address, webhooks_port, log: logs } = args;
    log::start(&logs)?;
    let state = state.unwrap_or_else(|| dir.join(".git-events-runner"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no threads can be started")?;
    runtime.block_on(async {
        let mut local = Local::open(&dir, &state).await?;
        if once {
            return local.run_once().await;
        }
        let listener = match local.hooks.is_empty() {
            true => None,
            false => {
                let flags = "--webhooks-port or --webhooks-address";
                Some(http::bind(&[(webhooks_address, webhooks_port).into()], "webhooks", flags).await?)
            }
        };
        local.run(listener).await
    })
}

/// What is read from the folder, and what is remembered of it.
struct Local {
    dir: PathBuf,
    store: FileStore,
    catalog: Manifests,
    runs: Runs,
    agenda: Agenda,
    hooks: LocalHooks,
    triggers: Vec<Arc<dyn Trigger>>,
    /// The objects that are there and have mistakes.
    unusable: BTreeSet<ObjectRef>,
    mistakes: usize,
    /// Whether the last heartbeat could not be written.
    is_heart_broken: bool,
}

impl Local {
    async fn open(dir: &Path, state: &Path) -> anyhow::Result<Self> {
        anyhow::ensure!(!dir.is_file(), "{} is a file: name the folder that it is in", dir.display());
        let reading = manifest_files::read(&[dir.to_owned()], Mode::Local)?;
        let (config, wrong_configs) = config::runtime_config(&reading.documents);
        let mut content = Content::new(config);
        let (mut schedules, mut webhooks, mut unusable) = (vec![], vec![], BTreeSet::new());
        for Document { file, line, id, object } in reading.documents {
            let folder = Path::new(&file).parent().unwrap_or(dir);
            match object {
                Some(Object::GitRepo(repo)) => content.add_git_repo(*repo, folder),
                Some(Object::ClusterGitRepo(repo)) => content.add_cluster_git_repo(*repo, folder),
                Some(Object::Action(action)) => content.add_action(*action),
                Some(Object::ClusterAction(action)) => content.add_cluster_action(*action),
                Some(Object::Secret(secret)) => content.add_secret(*secret),
                Some(Object::ConfigMap(map)) => content.add_config_map(*map),
                Some(Object::ScheduleTrigger(trigger)) => schedules.push((format!("{file}:{line}"), trigger)),
                Some(Object::WebhookTrigger(trigger)) => webhooks.push((format!("{file}:{line}"), trigger)),
                None => drop(unusable.insert(id)),
            }
        }
        reading.mistakes.iter().for_each(|mistake| error!("{mistake}"));
        wrong_configs.iter().for_each(|mistake| error!("{mistake}"));
        let mut local = Self::new(dir, content, state, unusable)?;
        local.mistakes = reading.mistakes.len() + wrong_configs.len();
        for (place, trigger) in schedules {
            let policy = trigger.policy(local_id(trigger.id()));
            local.add(&place, policy).await;
        }
        for (place, trigger) in webhooks {
            let policy = trigger.policy(local_id(trigger.id()));
            let Some(policy) = local.add(&place, policy).await else { continue };
            if let Some(why) = local.hooks.add(&policy, &trigger.spec.webhook, &local.catalog).await {
                local.mistake(&place, policy.id(), &format!("answers every request with 503: {why}"));
            }
        }
        Ok(local)
    }

    fn new(dir: &Path, content: Content, state: &Path, unusable: BTreeSet<ObjectRef>) -> anyhow::Result<Self> {
        let store = FileStore::open(state.to_owned())?;
        keep_out_of_git(state)?;
        let program = std::env::current_exe().context("the path of this program is not known")?;
        let supervisor = Supervisor { program, args: vec!["supervise".to_owned()] };
        let max_running = content.config().action.max_running_jobs.try_into().unwrap_or(usize::MAX);
        let runs = Runs::open(&state.join("runs"), supervisor, Timestamp::now)?.with_max_running(max_running);
        let catalog = Manifests::new(content, GitClient::default(), runs.clone());
        let agenda = Agenda::default();
        let hooks = LocalHooks::new(agenda.clone());
        let dir = dir.to_owned();
        Ok(Self { dir, store, catalog, runs, agenda, hooks, triggers: vec![], unusable, mistakes: 0, is_heart_broken: false })
    }

    /// Adds a trigger, if all that it names can be used.
    async fn add<T: Trigger + Clone + 'static>(&mut self, place: &str, policy: Result<T, crd::InvalidSpec>) -> Option<T> {
        let policy = match policy {
            Ok(policy) => policy,
            Err(error) => {
                self.mistakes += 1;
                error!("{place}: {error}");
                return None;
            }
        };
        let missing = self.missing(&policy).await;
        for message in &missing {
            self.mistake(place, policy.id(), &format!("does not start: {message}"));
        }
        if !missing.is_empty() {
            return None;
        }
        self.triggers.push(Arc::new(policy.clone()));
        Some(policy)
    }

    fn mistake(&mut self, place: &str, id: &TriggerId, message: &str) {
        self.mistakes += 1;
        error!("{place}: {id}: {message}");
    }

    /// What of all that a trigger names cannot be used.
    async fn missing(&self, trigger: &dyn Trigger) -> Vec<String> {
        let (id, plan) = (trigger.id(), trigger.plan());
        let mut errors = vec![];
        for source in &plan.sources {
            errors.extend(self.catalog.source(id, source).await.err());
        }
        errors.extend(self.catalog.action(id, &plan.action).await.err());
        let explain = |error| match error {
            CatalogError::NotFound(id) if self.unusable.contains(&id) => format!("{id} has mistakes"),
            other => other.to_string(),
        };
        errors.into_iter().map(explain).collect()
    }

    fn driver(&self) -> Driver {
        Driver::new(self.store.clone(), self.catalog.clone(), self.runs.clone(), self.agenda.clone())
    }

    /// The triggers, each with the instant up to which its firings are handled.
    async fn driven(&self) -> anyhow::Result<Vec<Driven>> {
        anyhow::ensure!(!self.triggers.is_empty(), "there is nothing to watch: {} has no trigger that can be used", self.dir.display());
        let now = Timestamp::now();
        let heartbeat = self.store.last_heartbeat().await?;
        let mut driven = vec![];
        for trigger in &self.triggers {
            let created = self.store.add(trigger.id(), trigger.plan().generation, now).await?;
            let handled = heartbeat.map_or(created, |heartbeat| heartbeat.max(created));
            driven.push(Driven { trigger: Arc::clone(trigger), memory: Memory::new(handled) });
        }
        Ok(driven)
    }

    async fn run_once(&mut self) -> anyhow::Result<ExitCode> {
        let driver = self.driver();
        driver.adopt().await?;
        let begun = Timestamp::now();
        let mut triggers = self.driven().await?;
        for driven in &mut triggers {
            // What runs on change is checked, due or not.
            if driven.trigger.plan().on_change_only {
                driven.memory = Memory::new(Timestamp::UNIX_EPOCH);
            }
        }
        let mut stop = stop::signal()?;
        tokio::select! {
            () = driver.evaluate_once(triggers, begun) => {}
            () = stop::requested(&mut stop) => {
                warn!("ended before everything was done");
                return Ok(ExitCode::FAILURE);
            }
        }
        self.clean_up().await;
        if driver.failures() == 0 {
            // What could not be evaluated is still to be handled.
            self.store.heartbeat(begun).await?;
        }
        info!(triggers = self.triggers.len(), "checked; nothing is due, and nothing runs");
        Ok(if driver.failures() + self.mistakes == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    async fn run(mut self, listener: Option<TcpListener>) -> anyhow::Result<ExitCode> {
        let mut stop = stop::signal()?;
        let driver = self.driver();
        driver.adopt().await?;
        let mut tasks = JoinSet::new();
        let triggers = self.driven().await?;
        info!(triggers = triggers.len(), "watching");
        let now = Timestamp::now();
        for driven in triggers {
            let wake = self.agenda.add(driven.trigger.id(), now);
            tasks.spawn(driver.clone().drive(driven, wake));
        }
        tasks.spawn(driver.clone().give_turns());
        let mut clock = clock::start(self.agenda.clone()).await?;
        let serving = listener.map(|listener| self.serve(listener, stop.clone())).transpose()?;
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        let mut clean_up = tokio::time::interval(CLEAN_UP);
        loop {
            tokio::select! {
                () = stop::requested(&mut stop) => break,
                Some(ended) = tasks.join_next() => {
                    let why = ended.err().map(|error| error.to_string()).unwrap_or_default();
                    anyhow::bail!("what evaluates a trigger has ended, which it must not: {why}");
                }
                _ = heartbeat.tick() => self.beat().await,
                _ = clean_up.tick() => self.clean_up().await,
            }
        }
        clock.shutdown().await?;
        if let Some(serving) = serving {
            serving.await.context("the webhook listener panicked")?;
        }
        // An evaluation may be dropped at any point.
        tasks.shutdown().await;
        self.beat().await;
        match driver.running() {
            0 => info!("ended"),
            1 => info!("ended; one run goes on, and the next start follows it"),
            running => info!("ended; {running} runs go on, and the next start follows them"),
        }
        Ok(ExitCode::SUCCESS)
    }

    fn serve(&mut self, listener: TcpListener, stop: watch::Receiver<bool>) -> anyhow::Result<tokio::task::JoinHandle<()>> {
        let address = listener.local_addr().context("the address of the port is not known")?;
        for path in self.hooks.paths() {
            info!("webhook: POST http://{address}{path}");
        }
        let hooks = std::mem::replace(&mut self.hooks, LocalHooks::new(self.agenda.clone()));
        let routes = webhook::routes(Arc::new(hooks), Arc::new(self.store.clone()), Arc::default(), PARALLEL);
        Ok(tokio::spawn(http::serve(listener, None, routes, stop)))
    }

    async fn beat(&mut self) {
        let beaten = self.store.heartbeat(self.agenda.handled(Timestamp::now())).await;
        match &beaten {
            // Once is enough: it is tried every few seconds.
            Err(error) if !self.is_heart_broken => warn!("it cannot be written down what is handled: {error}"),
            Ok(()) if self.is_heart_broken => info!("it is written down again what is handled"),
            _ => {}
        }
        self.is_heart_broken = beaten.is_err();
    }

    async fn clean_up(&self) {
        let catalog = self.catalog.clone();
        if let Err(error) = self.runs.remove_finished(move |action| catalog.kept_for(action), Timestamp::now()).await {
            warn!("finished runs cannot be removed: {error}");
        }
    }
}

/// Where there is no API server, a trigger is known by its name.
fn local_id(id: TriggerId) -> TriggerId {
    TriggerId { uid: format!("{}/{}/{}", id.kind, id.namespace, id.name), ..id }
}

/// The folder of the state is in a repository, mostly, and does not belong into it.
fn keep_out_of_git(state: &Path) -> anyhow::Result<()> {
    let file: PathBuf = state.join(".gitignore");
    if !file.exists() {
        std::fs::write(&file, "*\n").with_context(|| format!("{} cannot be written", file.display()))?;
    }
    Ok(())
}
