//! What is told on the way: a line for each phase, and one every few seconds in those that take long.

use std::{
    io::Write as _,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use git_events_runner_core::{Revision, SourceError, git::Step};

/// How often it is told how much has come.
const INTERVAL: Duration = Duration::from_secs(5);

pub struct Report {
    debug: bool,
    started: Instant,
    /// When it was last told how much has come.
    told: Mutex<Instant>,
}

impl Report {
    pub fn start(debug: bool) -> Self {
        let now = Instant::now();
        Self { debug, started: now, told: Mutex::new(now) }
    }

    pub fn begin(&self, revision: &Revision) {
        if self.debug {
            let version = env!("CARGO_PKG_VERSION");
            let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
            self.say(&format!(
                "git-events-runner-cloner {version}, as user {user} and group {group}; {} was seen at {}",
                revision.commit, revision.reference
            ));
        }
    }

    pub fn step(&self, step: &Step) {
        match step {
            Step::Fetch { submodule: None, uri, commit } => self.say(&format!("fetching {commit} from {uri}")),
            Step::Fetch { submodule: Some(path), uri, commit } => {
                self.say(&format!("fetching {commit} from {uri} for the submodule {path}"));
            }
            Step::Received { bytes } if self.is_time() => self.say(&format!("received {}", size(*bytes))),
            Step::Write => self.say("writing its files"),
            Step::Written { files, bytes, lfs_pointers } => {
                self.say(&format!("checked out {files} files, {}", size(*bytes)));
                if *lfs_pointers > 0 {
                    self.say(&format!(
                        "{lfs_pointers} of them are pointers of Git LFS, and left as they are: their content is not fetched"
                    ));
                }
            }
            _ => {}
        }
    }

    pub fn again(&self, error: &SourceError, wait: Duration) {
        self.say(&format!("{error}; it is tried again in {} s", wait.as_secs()));
    }

    fn is_time(&self) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_time = told.elapsed() >= INTERVAL;
        if is_time {
            *told = Instant::now();
        }
        is_time
    }

    fn say(&self, line: &str) {
        // Nobody may listen any more. That is no reason to stop.
        let mut stderr = std::io::stderr().lock();
        let _ =
            if self.debug { writeln!(stderr, "{:.1} s: {line}", self.started.elapsed().as_secs_f64()) } else { writeln!(stderr, "{line}") };
    }
}

fn size(bytes: u64) -> String {
    let mut rest = bytes as f64;
    for unit in ["bytes", "KiB", "MiB"] {
        if rest < 1024.0 {
            return if unit == "bytes" { format!("{bytes} {unit}") } else { format!("{rest:.1} {unit}") };
        }
        rest /= 1024.0;
    }
    format!("{rest:.1} GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_told_in_the_unit_that_fits() {
        let told = [0, 1023, 1024, 1_500_000, 5 << 30, 5 << 40].map(size);
        assert_eq!(told, ["0 bytes", "1023 bytes", "1.0 KiB", "1.4 MiB", "5.0 GiB", "5120.0 GiB"]);
    }
}
