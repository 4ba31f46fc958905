use std::{
    fs, io,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    process::Command,
    thread,
};

use anyhow::{Result, bail};
use tempfile::TempDir;

use crate::{
    GitRepo, free_port,
    git_repo::HERMETIC,
    server_process::{ServerProcess, program},
    wait_for,
};

/// `git daemon`, on a port and in a folder of its own. It ends when this is dropped.
pub struct GitDaemon {
    folder: TempDir,
    port: u16,
    _daemon: ServerProcess,
}

impl GitDaemon {
    /// Starts one, and waits until it answers.
    pub fn start() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("git-daemon").tempdir()?;
        let (repos, log) = (folder.path().join("repos"), folder.path().join("daemon.log"));
        fs::create_dir(&repos)?;
        // Between the choice of a port and its use somebody else may take it.
        for _ in 0..10 {
            let port = free_port()?;
            let mut command = program("git", "git")?;
            command.envs(HERMETIC).args(["daemon", "--verbose", "--reuseaddr", "--export-all", "--listen=127.0.0.1"]);
            command.arg(format!("--port={port}")).arg(format!("--base-path={}", repos.display()));
            let mut daemon = ServerProcess::start(command, &log)?;
            let started = wait_for("git daemon", || match daemon.is_running() {
                true => TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok().map(|_| true),
                false => Some(false),
            });
            if started? {
                return Ok(Self { folder, port, _daemon: daemon });
            }
        }
        bail!("git daemon does not start: {}", fs::read_to_string(log).unwrap_or_default())
    }

    /// Makes an empty repository.
    pub fn repo(&self, name: &str) -> Result<GitRepo> {
        GitRepo::create(&self.folder.path().join("repos"), name)
    }

    /// Where a repository is reached.
    pub fn uri(&self, name: &str) -> String {
        format!("git://127.0.0.1:{}/{name}.git", self.port)
    }

    /// Where a repository is reached as from JGit: in version 2 it gives a connection only what its refs point at themselves.
    pub fn jgit_uri(&self, repo: &GitRepo, name: &str) -> Result<String> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let (address, port, bare) = (listener.local_addr()?, self.port, repo.bare().to_owned());
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let bare = bare.clone();
                thread::spawn(move || as_jgit(client, port, &bare));
            }
        });
        Ok(format!("git://{address}/{name}.git"))
    }

    /// Where a repository is reached as on a server that has never heard of version 2.
    pub fn old_uri(&self, name: &str) -> Result<String> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let (address, port) = (listener.local_addr()?, self.port);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                thread::spawn(move || without_version_2(client, port));
            }
        });
        Ok(format!("git://{address}/{name}.git"))
    }
}

/// Passes packets on, up to one that wants what no ref points at.
fn as_jgit(mut client: TcpStream, port: u16, bare: &Path) -> io::Result<()> {
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    let (mut to_client, mut from_server) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut from_server, &mut to_client);
        to_client.shutdown(std::net::Shutdown::Both)
    });
    loop {
        let mut head = [0; 4];
        client.read_exact(&mut head)?;
        let length = usize::from_str_radix(&String::from_utf8_lossy(&head), 16).map_err(io::Error::other)?;
        let mut packet = vec![0; length.saturating_sub(4)];
        client.read_exact(&mut packet)?;
        if let Some(wanted) = String::from_utf8_lossy(&packet).trim().strip_prefix("want ") {
            let mut git = Command::new("git");
            git.envs(HERMETIC).arg("--git-dir").arg(bare).args(["for-each-ref", "--format=%(objectname)"]);
            if !String::from_utf8_lossy(&git.output()?.stdout).lines().any(|id| id == wanted) {
                let refusal = format!("ERR want {wanted} not valid");
                client.write_all(format!("{:04x}{refusal}", refusal.len() + 4).as_bytes())?;
                client.shutdown(std::net::Shutdown::Write)?;
                return io::copy(&mut client, &mut io::sink()).map(drop);
            }
        }
        server.write_all(&head)?;
        server.write_all(&packet)?;
    }
}

/// Passes everything on but the wish for version 2, which is at the end of the first packet.
fn without_version_2(mut client: TcpStream, port: u16) -> io::Result<()> {
    let mut length = [0; 4];
    client.read_exact(&mut length)?;
    let length = usize::from_str_radix(&String::from_utf8_lossy(&length), 16).map_err(io::Error::other)?;
    let mut greeting = vec![0; length - 4];
    client.read_exact(&mut greeting)?;
    let greeting = String::from_utf8_lossy(&greeting).replace("\0version=2\0", "");
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    server.write_all(format!("{:04x}{greeting}", greeting.len() + 4).as_bytes())?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut from_client, &mut to_server);
        to_server.shutdown(std::net::Shutdown::Write)
    });
    io::copy(&mut server, &mut client)?;
    client.shutdown(std::net::Shutdown::Both)
}
