//! `git-events-runner`: the operator, and local mode.

use std::process::ExitCode;

use clap::Parser;

mod args;
mod crds;
mod http;
mod local;
mod log;
mod manifest_files;
mod supervise;
mod validate;
mod webhook;

fn main() -> ExitCode {
    let done = match args::Cli::parse().command {
        args::Command::Crds => crds::run().map(|()| ExitCode::SUCCESS),
        args::Command::Local(args) => local::run(args),
        args::Command::Supervise(args) => supervise::run(args).map(|()| ExitCode::SUCCESS),
        args::Command::Validate(args) => validate::run(args),
    };
    done.unwrap_or_else(|error| {
        eprintln!("git-events-runner: {error:#}");
        ExitCode::FAILURE
    })
}
