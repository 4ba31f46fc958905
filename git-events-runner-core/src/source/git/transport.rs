//! What carries a conversation with `git-upload-pack`.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::capabilities::Capabilities;
use crate::SourceError;

/// A conversation with a server's `git-upload-pack`: it begins with what the server says of itself, and then each request has its answer.
///
/// All of it ends with this value: dropped at any moment, it leaves no connection and no task behind.
#[async_trait]
pub(super) trait Transport: Send {
    /// What is known of the server from earlier: with that, it need not be started, and can be asked at once.
    fn recall(&mut self) -> Option<Capabilities> {
        None
    }

    /// Keeps what the server can do for later, if that spares anything then.
    fn remember(&self, _capabilities: &Capabilities) {}

    /// Whether what is known from earlier leads elsewhere than the repository's own URI.
    fn leads_elsewhere(&self) -> bool {
        false
    }

    /// What is known of the server from earlier is wrong.
    fn forget(&mut self) {}

    /// Connects, and has the server say what it can do; the answer comes by [`Transport::chunk`].
    async fn start(&mut self) -> Result<(), SourceError>;

    /// Sends a request; the answer comes by [`Transport::chunk`].
    async fn ask(&mut self, request: Vec<u8>) -> Result<(), SourceError>;

    /// The next piece of an answer; None when nothing more can come.
    async fn chunk(&mut self) -> Result<Option<Bytes>, SourceError>;

    /// Sees that nothing follows an answer that has come to its end.
    async fn end_answer(&mut self) -> Result<(), SourceError> {
        Ok(())
    }

    /// Takes leave, so that the server does not log an error. The result is there already: nothing that fails here matters.
    async fn close(&mut self) {}
}

/// What is being waited for, in words; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Phase(Arc<Mutex<&'static str>>);

impl Default for Phase {
    fn default() -> Self {
        Self(Arc::new(Mutex::new("connecting")))
    }
}

impl Phase {
    pub(super) fn get(&self) -> &'static str {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn enter(&self, phase: &'static str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }
}
