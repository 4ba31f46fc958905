//! What a process holds, by what the kernel says of it.

use std::fs;

use git_events_runner_tests::wait_for;
use tokio::runtime::Runtime;

/// How many files and threads there are.
#[derive(Debug)]
pub struct Held {
    files: usize,
    threads: usize,
}

impl Held {
    pub fn now() -> Self {
        Self { files: count("/proc/self/fd"), threads: count("/proc/self/task") }
    }

    /// Waits until there is nothing more than this, no task of the runtime, and no connection to any of these ports.
    pub fn wait_for_no_more(&self, what: &str, runtime: &Runtime, ports: &[u16]) {
        let mut held = String::new();
        let all_gone = wait_for(what, || {
            let (now, tasks, connections) = (Self::now(), runtime.metrics().num_alive_tasks(), connections(ports));
            held = format!("{tasks} tasks, {} connections, {now:?} and not {self:?}: {connections:#?}", connections.len());
            (tasks == 0 && connections.is_empty() && now.files <= self.files && now.threads <= self.threads).then_some(())
        });
        assert!(all_gone.is_ok(), "{what}: {held}");
    }
}

fn count(folder: &str) -> usize {
    fs::read_dir(folder).unwrap().count()
}

/// The ends of connections that either side still has to close, or to send something through.
fn connections(ports: &[u16]) -> Vec<String> {
    const TIME_WAIT: &str = "06";
    const LISTEN: &str = "0A";
    let port = |address: &str| address.rsplit_once(':').and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
    let table = fs::read_to_string("/proc/self/net/tcp").unwrap();
    let of_ours = |line: &&str| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let ends = [fields.next(), fields.next()].map(|address| address.and_then(port));
        let state = fields.next().unwrap_or_default();
        ![TIME_WAIT, LISTEN].contains(&state) && ends.into_iter().flatten().any(|port| ports.contains(&port))
    };
    table.lines().skip(1).filter(of_ours).map(str::to_owned).collect()
}

/// How many bytes of memory the process has.
pub fn memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().trim().parse::<u64>().unwrap() * 1024
}
