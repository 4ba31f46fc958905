use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::wait_for;

/// A running `git-events-runner local`. It is killed when this is dropped.
pub struct LocalMode {
    child: Child,
    output: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
}

/// An answer of the webhook listener.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: String,
    pub body: serde_json::Value,
}

impl LocalMode {
    /// Starts the program on a folder of manifests, with these arguments and variables besides.
    pub fn start(program: &str, folder: &Path, args: &[&str], variables: &[(&str, &OsStr)]) -> Result<Self> {
        let mut command = Command::new(program);
        command.arg("local").arg(folder).args(args).envs(variables.iter().copied()).stdin(Stdio::null());
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().with_context(|| format!("{program} cannot be started"))?;
        let output = Arc::new(Mutex::new(vec![]));
        let (stdout, stderr) = (child.stdout.take().context("no stdout")?, child.stderr.take().context("no stderr")?);
        let readers = vec![collect(stdout, &output), collect(stderr, &output)];
        Ok(Self { child, output, readers })
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

    /// Asks it to end, and waits until it has.
    pub fn end(mut self, signal: Signal) -> Result<(ExitStatus, Vec<String>)> {
        kill_process(Pid::from_child(&self.child), signal)?;
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

impl Drop for LocalMode {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(stream: impl std::io::Read + Send + 'static, into: &Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    let into = Arc::clone(into);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            into.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
    })
}

/// A port that nothing listens on now.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Sends a request with a body to a port of this machine, and reads the answer.
pub fn send(port: u16, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    // A server that refuses a large body closes before all of it is sent.
    let _ = stream.write_all(body);
    let mut answer = vec![];
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { bail!("no answer, only: {answer:?}") };
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).with_context(|| format!("no status in: {head}"))?;
    Ok(Answer { status, headers: head.to_owned(), body: serde_json::from_str(body).with_context(|| format!("no JSON: {body}"))? })
}
