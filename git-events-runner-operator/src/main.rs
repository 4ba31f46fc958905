//! `git-events-runner`: the operator, and local mode.

use std::{io::Write as _, process::ExitCode};

use clap::Parser;

mod args;
mod client;
mod config;
mod crds;
#[cfg(test)]
mod docs;
mod events;
mod http;
mod leader;
mod local;
mod log;
mod manifest_files;
mod metrics;
mod overview;
mod rate_limit;
mod run;
mod runtime_config;
mod stdout;
mod stop;
mod supervise;
mod tls;
mod trigger;
mod utility;
mod validate;
mod webhook;

fn main() -> ExitCode {
    // Until the process ends, fail points do what the variable FAILPOINTS says.
    #[cfg(feature = "failpoints")]
    let _scenario = fail::FailScenario::setup();
    start(args::Cli::parse().command).unwrap_or_else(|error| {
        // There may be nobody to tell.
        let _ = writeln!(std::io::stderr(), "git-events-runner: {}", told(&error));
        ExitCode::FAILURE
    })
}

fn start(command: args::Command) -> anyhow::Result<ExitCode> {
    git_events_runner_core::git::set_up()?;
    match command {
        args::Command::Config(args) => config::run(args).map(|()| ExitCode::SUCCESS),
        args::Command::Crds => crds::run().map(|()| ExitCode::SUCCESS),
        args::Command::Local(args) => local::run(args),
        args::Command::Run(args) => run::run(args),
        args::Command::Status(args) => overview::run(args).map(|()| ExitCode::SUCCESS),
        args::Command::Supervise(args) => supervise::run(args).map(|()| ExitCode::SUCCESS),
        args::Command::Trigger(args) => trigger::run(args),
        args::Command::Validate(args) => validate::run(args),
    }
}

/// An error and its causes, without those that the error has named itself.
fn told(error: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in error.chain().map(ToString::to_string).filter(|cause| !cause.is_empty()) {
        if told.is_empty() {
            told = cause;
        } else if !told.contains(&cause) {
            told = format!("{told}: {cause}");
        }
    }
    told
}
