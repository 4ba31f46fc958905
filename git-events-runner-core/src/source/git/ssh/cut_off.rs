//! A connection that ends with whoever uses it, whatever its own task is waiting for.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
};

/// Keeps a connection open: dropped, it cuts it off.
#[derive(Debug)]
pub(super) struct Lifeline(#[expect(dead_code, reason = "it is there to be dropped")] oneshot::Sender<()>);

/// A connection that can be cut off. Both of its directions have to be used by the same task.
#[derive(Debug)]
pub(super) struct CutOff<S> {
    stream: S,
    lifeline: oneshot::Receiver<()>,
}

impl<S> CutOff<S> {
    pub(super) fn new(stream: S) -> (Self, Lifeline) {
        let (sender, lifeline) = oneshot::channel();
        (Self { stream, lifeline }, Lifeline(sender))
    }

    /// Whether it is cut off; if not, the task is woken when it is.
    fn is_cut(&mut self, context: &mut Context<'_>) -> bool {
        // The channel cannot be asked again once it has answered.
        self.lifeline.is_terminated() || Pin::new(&mut self.lifeline).poll(context).is_ready()
    }
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "nobody waits for it any more")
}

impl<S: AsyncRead + Unpin> AsyncRead for CutOff<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.is_cut(context) { Poll::Ready(Err(cut())) } else { Pin::new(&mut self.stream).poll_read(context, buffer) }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for CutOff<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_cut(context) { Poll::Ready(Err(cut())) } else { Pin::new(&mut self.stream).poll_write(context, bytes) }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_cut(context) { Poll::Ready(Err(cut())) } else { Pin::new(&mut self.stream).poll_flush(context) }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn it_is_a_connection_as_any_other_until_it_is_cut_off() {
        let (ours, mut theirs) = duplex(4);
        let (mut stream, lifeline) = CutOff::new(ours);
        stream.write_all(b"ping").await.unwrap();
        let mut received = [0; 4];
        theirs.read_exact(&mut received).await.unwrap();
        theirs.write_all(&received).await.unwrap();
        assert_eq!((stream.read(&mut received).await.unwrap(), &received), (4, b"ping"));

        let task = tokio::spawn(async move {
            let read = stream.read(&mut [0; 4]).await.unwrap_err();
            // And it stays so.
            (read, stream.write(b"more").await.unwrap_err(), stream.flush().await.unwrap_err())
        });
        tokio::task::yield_now().await;
        assert!(!task.is_finished());
        drop(lifeline);
        let (read, write, flush) = task.await.unwrap();
        assert!([read, write, flush].iter().all(|error| error.kind() == io::ErrorKind::ConnectionAborted));
    }

    #[tokio::test]
    async fn one_that_waits_for_the_other_side_to_read_is_cut_off_as_well() {
        let (ours, _theirs) = duplex(4);
        let (mut stream, lifeline) = CutOff::new(ours);
        let task = tokio::spawn(async move { stream.write_all(b"more than fits").await });
        tokio::task::yield_now().await;
        drop(lifeline);
        assert!(task.await.unwrap().is_err());
    }
}
