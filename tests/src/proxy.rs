use std::{
    fs,
    net::TcpStream,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::{free_port, wait_for};

/// A proxy on a port of its own. It ends when this is dropped.
pub struct ProxyServer {
    folder: TempDir,
    process: Child,
    port: u16,
}

impl ProxyServer {
    /// tinyproxy, which speaks http. With credentials it lets nobody else in.
    pub fn http(credentials: Option<(&str, &str)>) -> Result<Self> {
        let (folder, port) = (tempfile::tempdir()?, free_port()?);
        let auth = credentials.map(|(user, password)| format!("BasicAuth {user} {password}\n")).unwrap_or_default();
        let (log, config) = (folder.path().join("log"), folder.path().join("tinyproxy.conf"));
        fs::write(&config, format!("Port {port}\nListen 127.0.0.1\nTimeout 30\nMaxClients 20\nLogLevel Connect\n{auth}"))?;
        let mut command = Command::new("tinyproxy");
        command.args(["-d", "-c"]).arg(config);
        Self::start(command, folder, &log, port, "tinyproxy is not installed: apt-get install tinyproxy-bin")
    }

    /// microsocks, which speaks socks5.
    pub fn socks5(credentials: Option<(&str, &str)>) -> Result<Self> {
        let (folder, port) = (tempfile::tempdir()?, free_port()?);
        let log = folder.path().join("log");
        let mut command = Command::new("microsocks");
        command.args(["-i", "127.0.0.1", "-p", &port.to_string()]);
        if let Some((user, password)) = credentials {
            command.args(["-u", user, "-P", password]);
        }
        Self::start(command, folder, &log, port, "microsocks is not installed: apt-get install microsocks")
    }

    fn start(mut command: Command, folder: TempDir, log: &std::path::Path, port: u16, missing: &'static str) -> Result<Self> {
        let log = fs::File::create(log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let process = command.spawn().context(missing)?;
        let proxy = Self { folder, process, port };
        wait_for("a proxy", || TcpStream::connect(("127.0.0.1", port)).ok())?;
        Ok(proxy)
    }

    /// Host and port.
    pub fn authority(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What it has logged so far.
    pub fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.folder.path().join("log"))?)
    }
}

impl Drop for ProxyServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
