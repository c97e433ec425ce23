//! A connection that takes what is sent to it in time, or ends.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use super::running::Progress;

/// A connection whose peer has so long to take an answer, from when it first made us wait.
pub(super) struct Patient<S> {
    stream: S,
    limit: Duration,
    progress: Arc<Progress>,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    pub(super) fn new(stream: S, limit: Duration, progress: Arc<Progress>) -> Self {
        Self { stream, limit, progress, waiting: None }
    }

    /// What a write came to; an error when it has to wait and there is no time left.
    fn within<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_pending() {
            let limit = self.limit;
            let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(limit)));
            ready!(waiting.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.within(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.within(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Asked for when all that is there of an answer is written.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.progress.flushed() {
            self.waiting = None;
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn a_peer_that_takes_little_by_little_has_no_more_time() {
        let (near, mut far) = duplex(16);
        let reading = tokio::spawn(async move {
            loop {
                sleep(Duration::from_millis(20)).await;
                if far.read_u8().await.is_err() {
                    return;
                }
            }
        });
        let mut near = Patient::new(near, Duration::from_millis(200), Arc::default());
        // All of it would take it 200 seconds.
        let error = near.write_all(&[0; 10_000]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(near);
        reading.await.unwrap();
    }

    #[tokio::test]
    async fn every_answer_has_the_whole_time() {
        let (near, mut far) = duplex(16);
        let progress = Arc::<Progress>::default();
        let mut near = Patient::new(near, Duration::from_secs(3600), Arc::clone(&progress));
        let taken = tokio::spawn(async move { far.read_exact(&mut [0; 100]).await.map(|_| far) });
        near.write_all(&[0; 100]).await.unwrap();
        assert!(near.waiting.is_some(), "it had to wait");
        near.flush().await.unwrap();
        assert!(near.waiting.is_some(), "more of it may come");
        progress.taken();
        near.flush().await.unwrap();
        assert!(near.waiting.is_none());
        taken.await.unwrap().unwrap();
    }
}
