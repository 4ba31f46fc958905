use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddrV4},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, bail, ensure};

use crate::free_port;

pub(super) const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/cluster");

/// Programs of a Kubernetes, run by `tests/cluster/up`. They end when this is dropped, and also when the process ends without that.
#[derive(Debug)]
pub(super) struct Programs {
    up: Mutex<Child>,
    /// What they were built into.
    pub(super) built: PathBuf,
    /// Their state, credentials and logs.
    pub(super) folder: PathBuf,
    /// The API server's address.
    pub(super) address: SocketAddrV4,
    /// The port of etcd, if it is within reach.
    pub(super) etcd: Option<u16>,
    /// Of a node, the number of its network.
    pub(super) network: Option<u8>,
}

impl Programs {
    /// Makes sure that these programs are there, and readies a folder to run them in. The first time on a machine takes minutes.
    pub(super) fn prepare(programs: &[&str]) -> anyhow::Result<Self> {
        let (built, folder) = (Self::build(programs)?, folder()?);
        let [port, etcd, peer] = [free_port()?, free_port()?, free_port()?];
        let mut up = Command::new(Path::new(SCRIPTS).join("up"));
        up.args([&built, &folder]).args([port, etcd, peer].map(|port| port.to_string()));
        let up = up.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("cannot run tests/cluster/up: it needs bash")?;
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        Ok(Self { up: Mutex::new(up), built, folder, address, etcd: Some(etcd), network: None })
    }

    /// The same for programs that a node is among.
    pub(super) fn prepare_node(programs: &[&str]) -> anyhow::Result<Self> {
        let (built, folder) = (Self::build(programs)?, folder()?);
        let mut up = Command::new(Path::new(SCRIPTS).join("node/up"));
        up.args([&built, &folder]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut up = up.spawn().context("cannot run tests/cluster/node/up: it needs bash")?;
        let mut line = [0; 4];
        let read = up.stdout.as_mut().context("no stdout")?.read_exact(&mut line);
        read.context("tests/cluster/node/up has failed: see above")?;
        let network: u8 = str::from_utf8(&line)?.trim_end().parse()?;
        let address = SocketAddrV4::new(Ipv4Addr::new(198, 19, network, 2), 443);
        Ok(Self { up: Mutex::new(up), built, folder, address, etcd: None, network: Some(network) })
    }

    /// Makes sure that programs are there, and answers where.
    pub(super) fn build(programs: &[&str]) -> anyhow::Result<PathBuf> {
        let built = Command::new(Path::new(SCRIPTS).join("build")).args(programs).stderr(Stdio::inherit()).output();
        let built = built.context("cannot run tests/cluster/build: it needs bash, flock (util-linux) and Go 1.26 or later")?;
        ensure!(
            built.status.success(),
            "tests/cluster/build has failed: see above; it needs bash, flock (util-linux) and Go 1.26 or later"
        );
        Ok(PathBuf::from(String::from_utf8(built.stdout)?.trim_end()))
    }

    /// Starts a program; it is not ready yet.
    pub(super) fn start(&self, program: &str) -> anyhow::Result<()> {
        self.tell("start", program)
    }

    /// Kills a program as a crash would, and waits for its end.
    pub(super) fn stop(&self, program: &str) -> anyhow::Result<()> {
        self.tell("stop", program)
    }

    fn tell(&self, verb: &str, program: &str) -> anyhow::Result<()> {
        let line = format!("{verb} {program}\n");
        let told = || {
            let mut up = self.up.lock().unwrap_or_else(PoisonError::into_inner);
            up.stdin.as_mut().context("no stdin")?.write_all(line.as_bytes())?;
            let mut answer = vec![0; line.len()];
            up.stdout.as_mut().context("no stdout")?.read_exact(&mut answer)?;
            ensure!(answer == line.as_bytes(), "tests/cluster/up has answered {}", String::from_utf8_lossy(&answer));
            Ok(())
        };
        told().with_context(|| format!("cannot {verb} {program}\n{}", self.logs()))
    }

    /// Fails if one of them has ended by itself.
    pub(super) fn ensure_running(&self) -> anyhow::Result<()> {
        let ended = self.up.lock().unwrap_or_else(PoisonError::into_inner).try_wait()?;
        if ended.is_some() { bail!("a program of the cluster has ended\n{}", self.logs()) } else { Ok(()) }
    }

    /// What they have logged last.
    pub(super) fn logs(&self) -> String {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut logs: Vec<_> = entries.filter(|file| file.extension().is_some_and(|extension| extension == "log")).collect();
        logs.sort();
        let tail = |file: &PathBuf| {
            let text = fs::read(file).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<_> = text.lines().collect();
            format!("--- {}\n{}\n", file.display(), lines[lines.len().saturating_sub(20)..].join("\n"))
        };
        logs.iter().map(tail).collect()
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        let up = self.up.get_mut().unwrap_or_else(PoisonError::into_inner);
        drop(up.stdin.take());
        let _ = up.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A folder that is not for others of the machine: the administrator's token is in it.
fn folder() -> anyhow::Result<PathBuf> {
    Ok(tempfile::Builder::new().prefix("cluster-").permissions(fs::Permissions::from_mode(0o700)).tempdir()?.keep())
}
