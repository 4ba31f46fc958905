use std::{
    ffi::OsStr,
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::wait_for;

/// How many lines of a program a failing test prints.
const LAST_LINES: usize = 100;

/// A running program of ours. It is killed when this is dropped; if that is because a test fails, what it has written last is printed.
pub struct Program {
    child: Child,
    output: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Program {
    /// Starts it, without input.
    pub fn start(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("{} cannot be started", command.get_program().display()))?;
        let output = Arc::new(Mutex::new(vec![]));
        let (stdout, stderr) = (child.stdout.take().context("no stdout")?, child.stderr.take().context("no stderr")?);
        let readers = vec![collect(stdout, &output), collect(stderr, &output)];
        Ok(Self { child, output, readers })
    }

    /// Starts `git-events-runner local` on a folder of manifests, with these arguments and variables besides.
    pub fn local_mode(program: &str, folder: &Path, args: &[&str], variables: &[(&str, &OsStr)]) -> Result<Self> {
        let mut command = Command::new(program);
        command.arg("local").arg(folder).args(args).envs(variables.iter().copied());
        Self::start(command)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The memory that it has resident, in bytes.
    pub fn rss(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS: it has ended")?;
        Ok(line.trim_end_matches("kB").trim().parse::<u64>()? * 1024)
    }

    /// All lines that it has written so far.
    pub fn output(&self) -> Vec<String> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a line with this text.
    pub fn wait_for_line(&self, text: &str) -> Result<String> {
        wait_for(&format!("a line with `{text}`"), || self.output().into_iter().find(|line| line.contains(text)))
            .with_context(|| format!("it has written:\n{}", self.output().join("\n")))
    }

    /// Kills it as a crash would.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        self.readers.drain(..).for_each(|reader| drop(reader.join()));
        Ok(())
    }

    /// Whether it has ended, by itself or otherwise.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Asks it to end.
    pub fn ask_to_end(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// Asks it to end, and waits until it has.
    pub fn end(mut self, signal: Signal) -> Result<(ExitStatus, Vec<String>)> {
        self.ask_to_end(signal)?;
        self.wait()
    }

    /// Waits until it has ended by itself.
    pub fn finish(mut self) -> Result<(ExitStatus, Vec<String>)> {
        self.wait()
    }

    fn wait(&mut self) -> Result<(ExitStatus, Vec<String>)> {
        let status = wait_for("the end of the process", || self.child.try_wait().transpose())
            .with_context(|| format!("it has written:\n{}", self.output().join("\n")))??;
        self.readers.drain(..).for_each(|reader| drop(reader.join()));
        Ok((status, self.output()))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let output = self.output();
            eprintln!("--- process {} has written\n{}", self.id(), output[output.len().saturating_sub(LAST_LINES)..].join("\n"));
        }
    }
}

fn collect(stream: impl std::io::Read + Send + 'static, into: &Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    let into = Arc::clone(into);
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            into.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
    })
}
