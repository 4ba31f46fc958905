//! `git-events-runner`: the operator, and local mode.

use std::process::ExitCode;

use clap::Parser;

mod args;
mod http;
mod local;
mod webhook;

fn main() -> ExitCode {
    match args::Cli::parse().command {
        args::Command::Local(_) | args::Command::Validate(_) | args::Command::Crds | args::Command::Supervise(_) => ExitCode::FAILURE,
    }
}
