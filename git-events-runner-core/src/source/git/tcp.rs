//! `git://`: the server of `git daemon`, which shows everybody what it has.

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    Repository,
    client::CONNECT_TIMEOUT,
    error,
    transport::{Phase, Transport},
    uri::Remote,
};
use crate::SourceError;

/// How much is read at once.
const PIECE: usize = 64 * 1024;

/// A packet without content, by which a client says that it asks for nothing more.
pub(super) const FLUSH: &[u8] = b"0000";

/// Connects, trying all addresses of the host.
pub(super) async fn connect(repository: &Repository, remote: &Remote) -> Result<TcpStream, SourceError> {
    let connecting = TcpStream::connect((remote.host.as_str(), remote.port));
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await.map_err(|_| error::no_connection_in_time(repository))?;
    let stream = connected.map_err(|error| error::no_connection(repository, error))?;
    // Requests are small, and each waits for the answer to the one before.
    stream.set_nodelay(true).map_err(|error| error::broken(repository, error))?;
    Ok(stream)
}

/// The conversation over a connection without any encryption.
pub(super) struct Tcp<'a> {
    repository: &'a Repository,
    remote: &'a Remote,
    /// None before the start.
    stream: Option<TcpStream>,
    buffer: BytesMut,
    phase: Phase,
}

impl<'a> Tcp<'a> {
    pub(super) fn new(repository: &'a Repository, remote: &'a Remote, phase: Phase) -> Self {
        Self { repository, remote, stream: None, buffer: BytesMut::new(), phase }
    }

    /// Asks for the repository, and for version 2 where Git looks for what the server may not know.
    fn greeting(&self) -> Vec<u8> {
        let Remote { host, port, path, .. } = self.remote;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let text = format!("git-upload-pack {path}\0host={host}:{port}\0\0version=2\0");
        format!("{:04x}{text}", text.len() + 4).into_bytes()
    }
}

#[async_trait]
impl Transport for Tcp<'_> {
    async fn start(&mut self) -> Result<(), SourceError> {
        self.phase.enter("connecting");
        self.stream = Some(connect(self.repository, self.remote).await?);
        self.phase.enter("waiting for its answer to the first request");
        self.ask(self.greeting()).await
    }

    async fn ask(&mut self, request: Vec<u8>) -> Result<(), SourceError> {
        let stream = self.stream.as_mut().ok_or_else(|| error::cut_off(self.repository))?;
        stream.write_all(&request).await.map_err(|error| error::broken(self.repository, error))
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, SourceError> {
        let Some(stream) = &mut self.stream else { return Ok(None) };
        self.buffer.reserve(PIECE);
        let count = stream.read_buf(&mut self.buffer).await.map_err(|error| error::broken(self.repository, error))?;
        Ok((count > 0).then(|| self.buffer.split().freeze()))
    }

    async fn close(&mut self) {
        let _ = self.ask(FLUSH.to_vec()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::git::{RepoUri, uri::Reach};

    #[test]
    fn the_greeting_names_path_and_host_and_asks_for_version_2() {
        for (uri, expected) in [
            ("git://Example.com/a%20b.git", "003egit-upload-pack /a b.git\0host=example.com:9418\0\0version=2\0"),
            ("git://[::1]:9/~me/a", "0032git-upload-pack ~me/a\0host=[::1]:9\0\0version=2\0"),
        ] {
            let repository = Repository::new(RepoUri::parse(uri).unwrap());
            let Reach::Git(remote) = repository.uri.reach() else { panic!() };
            let greeting = Tcp::new(&repository, remote, Phase::default()).greeting();
            assert_eq!(String::from_utf8(greeting).unwrap(), expected);
        }
    }
}
