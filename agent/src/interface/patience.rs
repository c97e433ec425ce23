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
    net::TcpStream,
    time::{Sleep, sleep},
};

use super::running::Progress;

/// A connection whose peer has so long to take an answer, from when it first made us wait. It is reset if it ends while
/// an answer is on its way: to clients of HTTP/1.0 the end of the connection is that of the text.
pub(super) struct Patient<S: Reset> {
    stream: S,
    limit: Duration,
    progress: Arc<Progress>,
    waiting: Option<Pin<Box<Sleep>>>,
}

/// A stream that can be reset.
pub(super) trait Reset {
    /// Once it is closed, its peer is told of a reset instead of an end.
    fn reset_on_close(&self);
}

impl Reset for TcpStream {
    fn reset_on_close(&self) {
        // One that cannot be is gone.
        _ = self.set_zero_linger();
    }
}

impl<S: Reset> Drop for Patient<S> {
    fn drop(&mut self) {
        if self.progress.is_sending() {
            self.stream.reset_on_close();
        }
    }
}

impl<S: Reset> Patient<S> {
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

impl<S: AsyncRead + Reset + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Reset + Unpin> AsyncWrite for Patient<S> {
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
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        net::TcpListener,
    };

    use super::*;

    impl Reset for DuplexStream {
        fn reset_on_close(&self) {}
    }

    #[tokio::test]
    async fn a_connection_that_ends_within_an_answer_is_reset() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        for (is_taken, expected) in [(false, Some(io::ErrorKind::ConnectionReset)), (true, None)] {
            let progress = Arc::<Progress>::default();
            let mut far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (near, _) = listener.accept().await.unwrap();
            let mut near = Patient::new(near, Duration::from_secs(3600), Arc::clone(&progress));
            progress.answered();
            near.write_all(b"a").await.unwrap();
            if is_taken {
                progress.taken();
            }
            near.flush().await.unwrap();
            assert_eq!(far.read_u8().await.unwrap(), b'a');
            drop(near);
            let end = far.read(&mut [0]).await;
            assert_eq!(end.err().map(|error| error.kind()), expected);
        }
    }

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
