use std::{
    ffi::OsStr,
    fs,
    path::Path,
    process::{Command, ExitStatus},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use rustix::{param::clock_ticks_per_second, process::Signal};

use crate::{Answer, Program, free_port, http::exchange, send, wait_for};

/// A running `git-events-runner run`: one replica. It is killed when this is dropped; if that is because a test fails, its log is printed.
pub struct Operator {
    program: Program,
    identity: String,
    webhooks_port: u16,
    utility_port: u16,
}

impl Operator {
    /// Starts the program as a replica in this namespace, with what the kubeconfig may do, and with these arguments and variables besides.
    pub fn start(program: &str, kubeconfig: &Path, namespace: &str, args: &[&str], variables: &[(&str, &OsStr)]) -> Result<Self> {
        let (webhooks_port, utility_port) = (free_port()?, free_port()?);
        let identity = format!("git-events-runner-{utility_port}");
        let mut command = Command::new(program);
        command.args(["run", "--webhooks-port", &webhooks_port.to_string(), "--utility-port", &utility_port.to_string()]).args(args);
        command.env("KUBECONFIG", kubeconfig).env("POD_NAMESPACE", namespace).env("POD_NAME", &identity);
        command.envs(variables.iter().copied());
        Ok(Self { program: Program::start(command)?, identity, webhooks_port, utility_port })
    }

    /// The name that it holds the lease under.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Where it listens for webhook requests.
    pub fn webhooks_port(&self) -> u16 {
        self.webhooks_port
    }

    /// Waits until it says that it is ready.
    pub fn wait_until_ready(&self) -> Result<()> {
        let ready = || self.utility("/ready").ok().filter(|(status, _)| *status == 200);
        wait_for("the operator's /ready", ready).map(drop)
    }

    /// All lines that it has logged so far.
    pub fn logs(&self) -> Vec<String> {
        self.program.output()
    }

    /// Waits for a line of its log with this text.
    pub fn wait_for_line(&self, text: &str) -> Result<String> {
        self.program.wait_for_line(text)
    }

    /// Posts an empty webhook request with this header.
    pub fn webhook(&self, path: &str, header: (&str, &str)) -> Result<Answer> {
        send(self.webhooks_port, "POST", path, &[header, ("Content-Type", "application/json")], b"{}")
    }

    /// What its utility port answers: a status and a text.
    pub fn utility(&self, path: &str) -> Result<(u16, String)> {
        let (status, _, text) = exchange(self.utility_port, "GET", path, &[], b"")?;
        Ok((status, text))
    }

    /// Its metrics, in the text format of Prometheus.
    pub fn metrics(&self) -> Result<String> {
        let (status, metrics) = self.utility("/metrics")?;
        ensure!(status == 200, "/metrics answers {status}: {metrics}");
        Ok(metrics)
    }

    /// The memory that it has resident, in bytes.
    pub fn rss(&self) -> Result<u64> {
        self.program.rss()
    }

    /// The time of processors that it has taken so far.
    pub fn cpu(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.program.id()))?;
        let (_, fields) = stat.rsplit_once(") ").context("/proc/PID/stat has another form")?;
        // utime and stime; the first field here is the third of the line.
        let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<u32>).sum::<Result<u32, _>>()?;
        Ok(Duration::from_secs(1) * ticks / u32::try_from(clock_ticks_per_second())?)
    }

    /// Kills it as a crash would.
    pub fn kill(&mut self) -> Result<()> {
        self.program.kill()
    }

    /// Whether it has ended, as at a fail point.
    pub fn has_ended(&mut self) -> Result<bool> {
        self.program.has_ended()
    }

    /// Asks it to end as a kubelet would.
    pub fn ask_to_end(&self) -> Result<()> {
        self.program.ask_to_end(Signal::TERM)
    }

    /// Asks it to end as a kubelet would, and waits until it has; answers all that it logged.
    pub fn terminate(self) -> Result<(ExitStatus, Vec<String>)> {
        self.program.end(Signal::TERM)
    }

    /// Waits until it has ended by itself, as at a fail point.
    pub fn finish(self) -> Result<(ExitStatus, Vec<String>)> {
        self.program.finish()
    }
}
