//! ssh: `git-upload-pack` as a command of the server.

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use russh::{
    Channel, ChannelMsg, Preferred,
    client::{AuthResult, Config, DisconnectReason, GexParams, Handle, Handler, Msg},
    kex,
    keys::{Algorithm, HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate},
};

use super::{
    Credentials, GitClient, Repository, error as common, packet, tcp,
    transport::{Phase, Transport},
    uri::Remote,
};
use crate::SourceError;

mod cut_off;
mod error;
#[cfg(feature = "fuzzing")]
pub(super) mod fuzzing;
mod known_hosts;
mod private_key;
mod public_hosts;

use cut_off::{CutOff, Lifeline};
use known_hosts::Known;

/// How much is kept of what the server's command says beside its answer.
const MAX_STDERR: usize = 4096;

/// How long taking leave may take: the result is there already.
const LEAVE: Duration = Duration::from_secs(1);

/// The conversation with a command of the server.
pub(super) struct Ssh<'a> {
    repository: &'a Repository,
    remote: &'a Remote,
    client: &'a GitClient,
    /// None before the start.
    session: Option<Session>,
    phase: Phase,
}

/// A connection with its one command.
struct Session {
    channel: Channel<Msg>,
    connection: Connection,
    /// The command has written all of its answer.
    is_over: bool,
    /// What it says beside its answer.
    stderr: Vec<u8>,
}

struct Connection {
    handle: Handle<Host>,
    closed: Closed,
    // Without it the task of the connection would wait for a silent server for ever.
    _lifeline: Lifeline,
}

/// Why the connection has ended, once it has; clones share it.
#[derive(Clone, Debug, Default)]
struct Closed(Arc<Mutex<Option<End>>>);

#[derive(Clone, Debug)]
enum End {
    /// The server said why.
    Said(String),
    Broken(String),
}

impl Closed {
    fn end(&self) -> Option<End> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn reason(&self) -> Option<String> {
        self.end().map(|(End::Said(why) | End::Broken(why))| why)
    }
}

impl<'a> Ssh<'a> {
    pub(super) fn new(repository: &'a Repository, remote: &'a Remote, client: &'a GitClient, phase: Phase) -> Self {
        Self { repository, remote, client, session: None, phase }
    }

    /// The private key. It is opened once: with a passphrase this takes a tenth of a second.
    async fn key(&self) -> Result<Arc<PrivateKey>, SourceError> {
        let Credentials::Ssh { private_key, passphrase, .. } = &self.repository.credentials else {
            return Err(error::unusable_key(self.repository, "is missing"));
        };
        let key = self.client.private_key(private_key, passphrase.as_ref(), private_key::decode).await;
        key.map_err(|why| error::unusable_key(self.repository, &why))
    }

    async fn connect(&self) -> Result<Connection, SourceError> {
        let (known, ignore) = match &self.repository.credentials {
            Credentials::Ssh { insecure_ignore_host_key: true, .. } => (Known::default(), true),
            Credentials::Ssh { known_hosts, .. } => {
                (Known::of(known_hosts.as_deref().unwrap_or_default(), &self.remote.host, self.remote.port), false)
            }
            _ => (Known::default(), false),
        };
        self.phase.enter("connecting");
        let (stream, lifeline) = CutOff::new(tcp::connect(self.repository, self.remote).await?);
        let closed = Closed::default();
        let config = Arc::new(config(&known));
        let host = Host {
            repository: self.repository.clone(),
            host: self.remote.host.clone(),
            known: (!ignore).then_some(known),
            closed: closed.clone(),
        };
        self.phase.enter("exchanging keys with it");
        let connected = russh::client::connect_stream(config, stream, host).await;
        let handle = connected.map_err(|refused| match refused {
            Refused::Host(error) => *error,
            Refused::Protocol(cause) => error::of_handshake(self.repository, cause),
        })?;
        Ok(Connection { handle, closed, _lifeline: lifeline })
    }

    async fn log_in(&self, connection: &mut Connection, key: Arc<PrivateKey>) -> Result<(), SourceError> {
        self.phase.enter("logging in");
        let closed = connection.closed.clone();
        let broken = |cause| error::broken(self.repository, closed.reason(), cause);
        let mut hash = None;
        if matches!(key.algorithm(), Algorithm::Rsa { .. }) {
            hash = match connection.handle.best_supported_rsa_hash().await {
                Ok(Some(Some(hash))) => Some(hash),
                // It does not say, as old ones do: those that know SHA-2 know this one.
                Ok(None) => Some(HashAlg::Sha256),
                Ok(Some(None)) => return Err(error::rsa_with_sha1_only(self.repository)),
                Err(cause) => return Err(broken(cause)),
            };
        }
        let shown = error::Shown::of(&key);
        let key = PrivateKeyWithHashAlg::new(key, hash);
        let refused = |why| error::refused(self.repository, &self.remote.user, &shown, why);
        match connection.handle.authenticate_publickey(&self.remote.user, key).await {
            Ok(AuthResult::Success) => Ok(()),
            Ok(AuthResult::Failure { partial_success: true, .. }) => Err(error::more_wanted(self.repository)),
            Ok(AuthResult::Failure { .. }) => match closed.end() {
                Some(End::Broken(_)) => Err(broken(russh::Error::Disconnect)),
                Some(End::Said(why)) => Err(refused(Some(why))),
                None => Err(refused(None)),
            },
            Err(cause) => Err(broken(cause)),
        }
    }

    async fn run(&self, connection: &Connection) -> Result<Channel<Msg>, russh::Error> {
        self.phase.enter("waiting for its answer to the first request");
        let channel = connection.handle.channel_open_session().await?;
        // Servers that do not take the variable answer in version 0.
        channel.set_env(false, "GIT_PROTOCOL", "version=2").await?;
        channel.exec(true, command(&self.remote.path)).await?;
        Ok(channel)
    }
}

/// The command line as Git has it: the path in quotes, as servers without a shell read it, too.
fn command(path: &str) -> String {
    let mut quoted = String::from("git-upload-pack '");
    for letter in path.chars() {
        match letter {
            '\'' | '!' => quoted.extend(["'\\", letter.encode_utf8(&mut [0; 4]), "'"]),
            letter => quoted.push(letter),
        }
    }
    quoted + "'"
}

/// How the connection is made.
fn config(known: &Known) -> Config {
    // Not the groups of 6144 and 8192 bits: a server that takes those would keep us computing.
    let kex = Preferred::DEFAULT.kex.iter().filter(|name| ![kex::DH_G17_SHA512, kex::DH_G18_SHA512].contains(name)).copied();
    Config {
        preferred: Preferred {
            kex: Cow::Owned(kex.collect()),
            key: Cow::Owned(known.algorithms()),
            host_key_certificates: Cow::Owned(known.certificate_algorithms()),
            ..Preferred::DEFAULT
        },
        gex: GexParams::new(2048, 3072, 4096).unwrap_or_default(),
        ..Config::default()
    }
}

/// Sees to it that the host is the one that is known.
struct Host {
    repository: Repository,
    host: String,
    /// None: any host key is taken.
    known: Option<Known>,
    closed: Closed,
}

/// Why no connection comes up.
#[derive(Debug)]
enum Refused {
    Host(Box<SourceError>),
    Protocol(russh::Error),
}

impl From<russh::Error> for Refused {
    fn from(error: russh::Error) -> Self {
        Self::Protocol(error)
    }
}

impl Handler for Host {
    type Error = Refused;

    async fn check_server_key(&mut self, presented: &PublicKeyOrCertificate) -> Result<bool, Refused> {
        let Some(known) = &self.known else { return Ok(true) };
        let now = u64::try_from(Timestamp::now().as_second()).unwrap_or_default();
        match known.check(presented, &self.host, now) {
            Ok(()) => Ok(true),
            Err(why) => Err(Refused::Host(Box::new(error::host_key(&self.repository, &why, presented, known)))),
        }
    }

    async fn disconnected(&mut self, reason: DisconnectReason<Refused>) -> Result<(), Refused> {
        let end = match reason {
            DisconnectReason::ReceivedDisconnect(info) => End::Said(packet::printable(info.message.as_bytes())),
            DisconnectReason::Error(Refused::Protocol(cause)) => End::Broken(error::in_words(&cause)),
            DisconnectReason::Error(Refused::Host(error)) => End::Broken(error.to_string()),
        };
        *self.closed.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
        Ok(())
    }
}

#[async_trait]
impl Transport for Ssh<'_> {
    async fn start(&mut self) -> Result<(), SourceError> {
        self.phase.enter("opening the private key");
        let key = self.key().await?;
        let mut connection = self.connect().await?;
        self.log_in(&mut connection, key).await?;
        let channel = self.run(&connection).await.map_err(|cause| error::no_command(self.repository, connection.closed.reason(), cause))?;
        self.session = Some(Session { channel, connection, is_over: false, stderr: vec![] });
        Ok(())
    }

    async fn ask(&mut self, request: Vec<u8>) -> Result<(), SourceError> {
        let Some(session) = &self.session else { return Err(common::cut_off(self.repository)) };
        let sent = session.channel.data_bytes(request).await;
        sent.map_err(|cause| error::broken(self.repository, session.connection.closed.reason(), cause))
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, SourceError> {
        let repository = self.repository;
        let Some(session) = &mut self.session else { return Ok(None) };
        loop {
            let message = session.channel.wait();
            // What the command says last may still be on its way when its answer has come to its end.
            let message = if session.is_over { tokio::time::timeout(LEAVE, message).await.unwrap_or(None) } else { message.await };
            match message {
                Some(ChannelMsg::Data { data }) => return Ok(Some(data)),
                Some(ChannelMsg::ExtendedData { data, .. }) => {
                    let room = MAX_STDERR.saturating_sub(session.stderr.len());
                    session.stderr.extend_from_slice(&data[..room.min(data.len())]);
                }
                Some(ChannelMsg::Failure) => return Err(error::command_refused(repository)),
                Some(ChannelMsg::Eof) => session.is_over = true,
                Some(ChannelMsg::Close) | None => break,
                Some(_) => {}
            }
        }
        let said = packet::printable(&session.stderr);
        match session.connection.closed.reason() {
            _ if !said.is_empty() => Err(common::reported(repository, &said)),
            Some(why) => Err(error::broken(repository, Some(why), russh::Error::Disconnect)),
            None => Ok(None),
        }
    }

    async fn close(&mut self) {
        let Some(mut session) = self.session.take() else { return };
        let leave = async {
            let _ = session.channel.data_bytes(tcp::FLUSH).await;
            let _ = session.connection.handle.disconnect(russh::Disconnect::ByApplication, "", "").await;
            let _ = (&mut session.connection.handle).await;
        };
        let _ = tokio::time::timeout(LEAVE, leave).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_is_more_than_one_word_of_the_command() {
        assert_eq!(command("/a b.git"), "git-upload-pack '/a b.git'");
        assert_eq!(command("it's; rm -rf /"), r"git-upload-pack 'it'\''s; rm -rf /'");
        assert_eq!(command("a!b"), r"git-upload-pack 'a'\!'b'");
    }
}
