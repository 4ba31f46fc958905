//! What a check and an evaluation cost on this machine, as Markdown tables. `make bench` runs it; docs/performance.md explains it.

use anyhow::{Context as _, Result};

#[path = "checks/clones.rs"]
mod clones;
#[path = "checks/engine.rs"]
mod engine;
#[path = "checks/files.rs"]
mod files;
#[path = "checks/git.rs"]
mod git;
#[path = "checks/measure.rs"]
mod measure;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    println!("{}\n", machine()?);
    git::print().await?;
    println!();
    files::print().await?;
    println!();
    clones::print().await?;
    println!();
    engine::print().await
}

/// What all this was measured on.
fn machine() -> Result<String> {
    let processors = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unknown processor", |(_, model)| model);
    let cores = std::thread::available_parallelism()?;
    let versions = [version("git", "--version")?, version("nginx", "-v")?, version("rustc", "--version")?];
    let load = std::fs::read_to_string("/proc/loadavg")?;
    let load = load.split(' ').next().unwrap_or_default();
    Ok(format!("{cores} cores ({model}), {}. Before it began, {load} processes wanted to run (mean of a minute).", versions.join(", ")))
}

/// The line in which a program tells its version.
fn version(program: &str, flag: &str) -> Result<String> {
    let places = ["/usr/sbin", "/usr/local/sbin"].map(|folder| format!("{folder}/{program}")).into_iter();
    let told =
        [program.to_owned()].into_iter().chain(places).find_map(|program| std::process::Command::new(program).arg(flag).output().ok());
    let told = told.with_context(|| format!("{program} is not installed"))?;
    // nginx tells it as an error.
    let told = [told.stdout, told.stderr].concat();
    Ok(String::from_utf8_lossy(&told).lines().next().unwrap_or_default().trim_start_matches("nginx version: ").to_owned())
}
