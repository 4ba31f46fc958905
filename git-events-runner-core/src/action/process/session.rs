//! Processes as `/proc` shows them, and how they are ended.

use std::{
    collections::BTreeSet,
    fs, io,
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// How long to wait for processes that were killed, which only the kernel can hold up.
const KILLED_WITHIN: Duration = Duration::from_secs(10);

/// How often to look whether processes have ended.
pub const LOOK: Duration = Duration::from_millis(10);

/// A process, and which one: ids are used again, and not with the same start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pid: i32,
    parent: i32,
    session: i32,
    /// In clock ticks since the start of the machine.
    start: u64,
    ended: bool,
}

impl Process {
    fn find(pid: i32) -> Option<Self> {
        Self::parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(pid: i32, stat: &str) -> Option<Self> {
        // The second field is the program's name in brackets, with whatever the name holds.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        let id = |index: usize| number(index).and_then(|number| i32::try_from(number).ok());
        Some(Self { pid, parent: id(1)?, session: id(3)?, start: number(19)?, ended: matches!(fields[0], "Z" | "X") })
    }

    fn all() -> io::Result<Vec<Self>> {
        let pids = fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        Ok(pids.filter_map(Self::find).filter(|process| !process.ended).collect())
    }

    /// Sends a signal to this process, and to no later one with its id. One that has ended is no error.
    pub fn signal(&self, signal: Signal) {
        let Some(pid) = Pid::from_raw(self.pid) else { return };
        if let Ok(handle) = pidfd_open(pid, PidfdFlags::empty())
            && Self::find(self.pid).is_some_and(|now| now.start == self.start)
        {
            let _ = pidfd_send_signal(handle, signal);
        }
    }
}

/// The session of a supervisor: the supervisor, and what it has started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    leader: i32,
    start: u64,
    boot: String,
}

impl Session {
    /// The session that this process leads.
    pub fn current() -> io::Result<Self> {
        let leader = rustix::process::getpid().as_raw_nonzero().get();
        let process = Process::find(leader).ok_or_else(|| io::Error::other("this process is not in /proc"))?;
        Ok(Self { leader, start: process.start, boot: boot()? })
    }

    /// What is left of it: all its processes that run.
    pub fn processes(&self) -> io::Result<Vec<Process>> {
        let leads_another = Process::find(self.leader).is_some_and(|process| process.start != self.start);
        if leads_another || boot()? != self.boot {
            return Ok(vec![]);
        }
        let mut processes = Process::all()?;
        processes.retain(|process| process.session == self.leader && process.start >= self.start);
        Ok(processes)
    }
}

/// Which start of the machine this is.
fn boot() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// All processes below one, at any depth.
pub fn descendants(of: Pid) -> io::Result<Vec<Process>> {
    let (mut found, mut rest) = (vec![], Process::all()?);
    let mut pids = BTreeSet::from([of.as_raw_nonzero().get()]);
    loop {
        let children: Vec<_> = rest.extract_if(.., |process| pids.contains(&process.parent)).collect();
        if children.is_empty() {
            return Ok(found);
        }
        pids.extend(children.iter().map(|process| process.pid));
        found.extend(children);
    }
}

/// Kills processes until there are none: those that they start meanwhile as well.
///
/// # Errors
///
/// When they cannot be listed, or the kernel does not let them end.
pub fn kill(processes: impl Fn() -> io::Result<Vec<Process>>) -> io::Result<()> {
    let give_up = Instant::now() + KILLED_WITHIN;
    loop {
        let left = processes()?;
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() >= give_up {
            let pids: Vec<_> = left.iter().map(|process| process.pid.to_string()).collect();
            return Err(io::Error::other(format!("processes {} do not end although they were killed", pids.join(", "))));
        }
        left.iter().for_each(|process| process.signal(Signal::KILL));
        sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_program_does_not_confuse() {
        let stat = "7 (a) R 1 b) S 5 6 3 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 4242 0 0";
        assert_eq!(Process::parse(7, stat), Some(Process { pid: 7, parent: 5, session: 3, start: 4242, ended: false }));
        assert_eq!(Process::parse(7, "nonsense"), None);
    }

    #[test]
    fn a_session_of_another_process_with_the_same_id_is_not_touched() {
        let session = Session::current().unwrap();
        let earlier = Session { start: session.start.wrapping_sub(1), ..session.clone() };
        assert_eq!(earlier.processes().unwrap(), []);
        let before_the_machine_was_started_again = Session { boot: "another".to_owned(), ..session };
        assert_eq!(before_the_machine_was_started_again.processes().unwrap(), []);
    }
}
