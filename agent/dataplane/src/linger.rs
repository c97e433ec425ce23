//! Ends a connection so that what was said last arrives.

use std::{future::poll_fn, pin::pin};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::{bounds, buffer::PooledBuffer, connection::Connection, timer::Deadline};

/// Says that no more comes, and takes in what the client is still sending: bytes that nobody reads would make the kernel
/// reset the connection, and the client might never see the answer (RFC 9112 §9.6) or the alert.
pub(crate) async fn linger<S: AsyncRead + AsyncWrite + Unpin>(connection: &Connection, stream: &mut S) {
    close(&connection.deadline, connection.worker().buffers.small(), stream).await;
}

async fn close<S: AsyncRead + AsyncWrite + Unpin>(
    deadline: &Deadline,
    mut buffer: PooledBuffer,
    stream: &mut S,
) {
    let closing = async {
        // Over TLS that is one more record, which waits for as long as the client does not read.
        if stream.shutdown().await.is_err() {
            return;
        }
        let mut left = bounds::LINGER_BYTES;
        while let Ok(n @ 1..) = poll_fn(|cx| buffer.poll_fill(cx, stream)).await {
            buffer.consume(n);
            left = left.saturating_sub(n);
            if left == 0 {
                break;
            }
        }
    };
    // Late or not, it is closed now.
    _ = deadline.within(bounds::LINGER_TIME, pin!(closing)).await;
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        pin::Pin,
        rc::Rc,
        task::{Context, Poll, Waker},
    };

    use tokio::io::ReadBuf;

    use super::*;
    use crate::{buffer::BufferPool, timer::Timers};

    /// A client that reads no more, so that the last word stays with us.
    struct Deaf;

    impl AsyncRead for Deaf {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Deaf {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    #[test]
    fn a_client_that_does_not_take_the_last_word_is_not_waited_for_longer_than_others() {
        let (timers, buffers) = (Timers::default(), Rc::new(BufferPool::default()));
        let (deadline, mut deaf) = (timers.register(), Deaf);
        let mut closing = pin!(close(&deadline, buffers.small(), &mut deaf));
        let mut is_closed = || closing.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
        assert!(!is_closed());
        (0..4).for_each(|_| timers.tick());
        assert!(is_closed());
    }
}
