//! What the data plane asks of a connection, encrypted or not.

mod maybe_tls;

use std::{
    future::Future,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};

use crate::{buffer::PooledBuffer, sys};

pub(crate) use self::maybe_tls::MaybeTls;

/// Bytes to and from a client: those of a hello that was looked at are read again by TLS.
pub(crate) type DownstreamStream = MaybeTls<Prefixed<TcpStream>>;

/// A byte stream that can tell that there is something to read before a buffer is taken for it.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Unpin {
    /// Ready when a read would not have to wait, or might not.
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// The socket, when its bytes are the stream's bytes, so that the kernel may move them by itself.
    fn as_tcp(&self) -> Option<&TcpStream> {
        None
    }

    /// Has the connection end with a reset when it is dropped, and not as if everything had been said. What waits to be
    /// sent is lost.
    fn reset_on_close(&self);

    /// Whether the peer has closed its side, or the connection has failed, as far as the kernel has told: what the peer
    /// sent before may still wait to be read.
    fn has_ended(&self) -> bool;

    /// Bytes that were written and that the peer has not acknowledged, as far as the kernel knows of them.
    fn unacknowledged(&self) -> u32;
}

impl Transport for TcpStream {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }

    fn as_tcp(&self) -> Option<&TcpStream> {
        Some(self)
    }

    fn reset_on_close(&self) {
        // It fails only for a connection that has ended already.
        _ = self.set_zero_linger();
    }

    fn has_ended(&self) -> bool {
        // The runtime remembers what the kernel has told, so that this never waits and costs no system call.
        let mut ready = pin!(self.ready(Interest::READABLE));
        let told = ready.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        matches!(told, Poll::Ready(Ok(ready)) if ready.is_read_closed())
    }

    fn unacknowledged(&self) -> u32 {
        sys::unacknowledged(self)
    }
}

/// A stream some of whose bytes have been read already.
pub(crate) struct Prefixed<S> {
    first: Option<PooledBuffer>,
    stream: S,
}

impl<S> Prefixed<S> {
    /// `first` is read before anything else of `stream`.
    pub(crate) fn new(first: Option<PooledBuffer>, stream: S) -> Self {
        Self { first, stream }
    }
}

impl<S: Transport> Transport for Prefixed<S> {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.first {
            Some(first) if !first.is_empty() => Poll::Ready(Ok(())),
            _ => self.stream.poll_readable(cx),
        }
    }

    fn reset_on_close(&self) {
        self.stream.reset_on_close();
    }

    fn has_ended(&self) -> bool {
        self.stream.has_ended()
    }

    fn unacknowledged(&self) -> u32 {
        self.stream.unacknowledged()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(first) = self.first.as_mut().filter(|first| !first.is_empty()) else {
            self.first = None;
            return Pin::new(&mut self.stream).poll_read(cx, into);
        };
        let n = into.remaining().min(first.filled().len());
        into.put_slice(&first.filled()[..n]);
        first.consume(n);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
