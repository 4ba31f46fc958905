//! `git-events-runner-cloner`: checks one commit out. The init container of a Job.

use std::{path::Path, process::ExitCode, sync::Arc};

use clap::Parser as _;
use git_events_runner_core::{
    Attempts, Checkout as _, ObjectRef,
    git::{GitClient, GitSource},
};
use rustix::{fs::Mode, process::umask};
use tokio::signal::unix::{SignalKind, signal};

mod args;
mod credentials;
mod destination;
mod exit;
mod report;

use exit::{Exit, Failure};
use report::Report;

fn main() -> ExitCode {
    let args = match args::Cli::try_parse() {
        Ok(args) => args,
        Err(error) => return exit::of_command_line(&error),
    };
    let termination_log = args.termination_log.clone();
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(&termination_log),
    }
}

fn run(args: args::Cli) -> Result<(), Failure> {
    git_events_runner_core::git::set_up().map_err(|error| Failure::unexpected(error.to_string()))?;
    // Which user the worker runs as is not known here: each may read and change what is written.
    umask(Mode::empty());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::unexpected(format!("no runtime can be started: {error}")))?;
    let done = runtime.block_on(async {
        let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
        tokio::select! {
            _ = terminate.recv() => Err(Failure::new(Exit::Terminated, "it was ended by SIGTERM before it was done")),
            _ = interrupt.recv() => Err(Failure::new(Exit::Interrupted, "it was interrupted before it was done")),
            done = check_out(args) => done,
        }
    });
    // What still writes on a thread of its own ends with the process.
    runtime.shutdown_background();
    done
}

/// The first process of a container gets only the signals that it listens to.
fn listen(kind: SignalKind) -> Result<tokio::signal::unix::Signal, Failure> {
    signal(kind).map_err(|error| Failure::unexpected(format!("signals cannot be listened to: {error}")))
}

async fn check_out(args: args::Cli) -> Result<(), Failure> {
    let report = Arc::new(Report::start(args.debug));
    let (repository, revision) = (credentials::repository(&args)?, args.revision()?);
    let destination = args.destination;
    prepare(&destination, args.empty_destination).await?;
    report.begin(&revision);
    let told = Arc::clone(&report);
    let source = GitSource::new(ObjectRef::cluster("Repository", "cloned"), repository, GitClient::default());
    let source =
        source.keep_git_folder(args.preserve_git_folder).depth(args.depth).submodules(args.submodules).tell(move |step| told.step(&step));
    let mut attempts = Attempts::new(args.try_for);
    loop {
        let Err(error) = source.checkout(&revision, &destination).await else { return Ok(()) };
        let Some(wait) = attempts.again(&error) else {
            // It was empty, and the same command is to work again; why it has failed matters more than whether this does.
            let _ = prepare(&destination, true).await;
            return Err(error.into());
        };
        report.again(&error, wait);
        tokio::time::sleep(wait).await;
        prepare(&destination, true).await?;
    }
}

/// Makes the folder that is written to, or empties it.
async fn prepare(destination: &Path, empty: bool) -> Result<(), Failure> {
    let destination = destination.to_owned();
    let prepared = tokio::task::spawn_blocking(move || destination::prepare(&destination, empty));
    prepared.await.map_err(|error| Failure::unexpected(error.to_string()))?
}
