//! A connection after its handshake, ours or the endpoint's.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::transport::Transport;

/// A connection after its handshake. What was written is with the peer only after a flush. One that ends without the
/// peer saying so (RFC 8446 §6.1), as many do, fails with [`io::ErrorKind::UnexpectedEof`]: anybody on the way may have cut
/// it.
pub(crate) struct TlsStream<S>(tokio_rustls::TlsStream<S>);

impl<S> TlsStream<S> {
    pub(super) fn new(stream: impl Into<tokio_rustls::TlsStream<S>>) -> Self {
        Self(stream.into())
    }
}

impl<S: Transport> Transport for TlsStream<S> {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What is still to be written must not wait until somebody writes again.
        if self.0.get_ref().1.wants_write() {
            _ = Pin::new(&mut self.0).poll_flush(cx)?;
        }
        let (stream, session) = self.0.get_mut();
        // Without a wish to read there are decrypted bytes, or the peer has said that it ends.
        if !session.wants_read() && !session.wants_write() {
            return Poll::Ready(Ok(()));
        }
        stream.poll_readable(cx)
    }

    fn reset_on_close(&self) {
        self.0.get_ref().0.reset_on_close();
    }

    fn has_ended(&self) -> bool {
        self.0.get_ref().0.has_ended()
    }

    fn unacknowledged(&self) -> u32 {
        self.0.get_ref().0.unacknowledged()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.0.get_ref().1.wants_write() {
            _ = Pin::new(&mut self.0).poll_flush(cx)?;
        }
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
