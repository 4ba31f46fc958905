//! `git://`: the server of `git daemon`, which shows everybody what it has.

use std::{io, net::SocketAddr, time::Duration};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, lookup_host},
    time::timeout,
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

/// How long an address of a host is waited for before the next one is tried as well.
const NEXT_AFTER: Duration = Duration::from_millis(300);

/// Connects to the host, by whichever of its addresses answers first.
pub(super) async fn connect(repository: &Repository, remote: &Remote) -> Result<TcpStream, SourceError> {
    let connecting = async { connect_to(lookup_host((remote.host.as_str(), remote.port)).await?).await };
    let connected = timeout(CONNECT_TIMEOUT, connecting).await.map_err(|_| error::no_connection_in_time(repository))?;
    let stream = connected.map_err(|error| error::no_connection(repository, error))?;
    // Requests are small, and each waits for the answer to the one before.
    stream.set_nodelay(true).map_err(|error| error::broken(repository, error))?;
    Ok(stream)
}

/// One after the other, and none has to be given up first: one that is silent would take all the time that there is.
async fn connect_to(mut addresses: impl Iterator<Item = SocketAddr>) -> io::Result<TcpStream> {
    let mut tried = FuturesUnordered::new();
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "its host has no address");
    loop {
        let next = addresses.next();
        let longest = if next.is_some() { NEXT_AFTER } else { CONNECT_TIMEOUT };
        tried.extend(next.map(TcpStream::connect));
        match timeout(longest, tried.next()).await {
            Ok(Some(Ok(stream))) => return Ok(stream),
            Ok(Some(Err(error))) => failed = error,
            Ok(None) => return Err(failed),
            // The others go on.
            Err(_) => {}
        }
    }
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
    use std::net::Ipv4Addr;

    use tokio::net::{TcpListener, TcpSocket};

    use super::*;
    use crate::source::git::{RepoUri, uri::Reach};

    /// An address that takes no connection and refuses none, for as long as this is kept.
    async fn silent() -> (SocketAddr, TcpListener, Vec<TcpStream>) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let listener = socket.listen(0).unwrap();
        let (address, mut waiting) = (listener.local_addr().unwrap(), vec![]);
        while let Ok(stream) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
            waiting.push(stream.unwrap());
        }
        (address, listener, waiting)
    }

    #[tokio::test]
    async fn an_address_that_is_silent_keeps_nobody_from_the_others() {
        let (silent, _listener, _waiting) = silent().await;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let answers = listener.local_addr().unwrap();
        let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
        let connected = timeout(CONNECT_TIMEOUT / 2, connect_to([silent, nobody, answers].into_iter())).await;
        assert_eq!(connected.expect("in time").unwrap().peer_addr().unwrap(), answers);
        let refused = connect_to([nobody].into_iter()).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        connect_to([].into_iter()).await.unwrap_err();
    }

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
