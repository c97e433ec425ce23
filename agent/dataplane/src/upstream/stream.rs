//! The byte stream to an endpoint.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, ReadBuf},
    net::TcpStream,
};

use crate::transport::{MaybeTls, Transport};

/// Bytes to and from an endpoint.
pub(crate) type UpstreamStream = MaybeTls<TcpStream>;

impl UpstreamStream {
    /// Whether the peer has neither sent anything nor closed.
    ///
    /// What a server sends after its handshake, such as tickets, is taken in by the way.
    pub(super) fn is_quiet(&mut self) -> bool {
        match self {
            Self::Tcp(stream) => {
                let mut byte = [0];
                matches!(stream.try_read(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
            }
            Self::Tls(stream) => {
                let mut byte = [0];
                let mut cx = Context::from_waker(std::task::Waker::noop());
                Pin::new(&mut **stream).poll_read(&mut cx, &mut ReadBuf::new(&mut byte)).is_pending()
            }
        }
    }

    /// Ready when the peer has said something or closed; nothing is taken.
    pub(crate) fn poll_spoken(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Tcp(stream) => stream.poll_peek(cx, &mut ReadBuf::new(&mut [0])).map(|_| ()),
            Self::Tls(stream) => stream.poll_readable(cx).map(|_| ()),
        }
    }
}
