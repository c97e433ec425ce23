//! An HTTP/2 stream as the connection it stands for once both sides speak another protocol on it (RFC 9113 §8.5).

use std::{
    borrow::BorrowMut,
    cell::Cell,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    flow_control::{poll_room, release},
    frames::FRAME,
};
use crate::transport::Transport;

/// Both directions of a stream: data frames are its bytes, END_STREAM is the end of a direction, a reset is a reset.
pub(crate) struct StreamBytes<S: BorrowMut<SendStream<Bytes>>, R> {
    to: S,
    from: R,
    /// What has arrived and was not read.
    unread: Bytes,
    /// Whether the end of our direction is said.
    ended: bool,
    cut: Cell<bool>,
}

impl<S: BorrowMut<SendStream<Bytes>>, R: BorrowMut<RecvStream>> StreamBytes<S, R> {
    pub(crate) fn new(to: S, from: R) -> Self {
        Self { to, from, unread: Bytes::new(), ended: false, cut: Cell::new(false) }
    }

    /// Whether there is something to read; false at the end.
    fn poll_arrived(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        while self.unread.is_empty() {
            let from = self.from.borrow_mut();
            match ready!(from.poll_data(cx)) {
                Some(Ok(data)) => {
                    release(from, data.len());
                    self.unread = data;
                }
                // Whatever the reason, it was not said that this is all: the codec keeps an end that came before a reset.
                Some(Err(_)) => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                None => return Poll::Ready(Ok(false)),
            }
        }
        Poll::Ready(Ok(true))
    }
}

impl<S, R> Transport for StreamBytes<S, R>
where
    S: BorrowMut<SendStream<Bytes>> + Unpin,
    R: BorrowMut<RecvStream> + Unpin,
{
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_arrived(cx).map_ok(|_| ())
    }

    fn reset_on_close(&self) {
        self.cut.set(true);
    }

    fn has_ended(&self) -> bool {
        self.from.borrow().is_end_stream()
    }

    /// Of its connection others are written, too: what it takes shows by the bytes that move.
    fn unacknowledged(&self) -> u32 {
        0
    }
}

impl<S, R> AsyncRead for StreamBytes<S, R>
where
    S: BorrowMut<SendStream<Bytes>> + Unpin,
    R: BorrowMut<RecvStream> + Unpin,
{
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if ready!(self.poll_arrived(cx))? {
            let n = into.remaining().min(self.unread.len());
            into.put_slice(&self.unread[..n]);
            self.unread.advance(n);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S, R> AsyncWrite for StreamBytes<S, R>
where
    S: BorrowMut<SendStream<Bytes>> + Unpin,
    R: Unpin,
{
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let to = self.to.borrow_mut();
        ready!(poll_room(cx, to)).map_err(|_| io::ErrorKind::ConnectionReset)?;
        let piece = &bytes[..bytes.len().min(FRAME)];
        let sent = to.send_data(Bytes::copy_from_slice(piece), false);
        Poll::Ready(sent.map(|()| piece.len()).map_err(|_| io::ErrorKind::ConnectionReset.into()))
    }

    /// What was written leaves by itself; a peer that has reset the stream is noticed also while it is only read from.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.to.borrow_mut().poll_reset(cx) {
            Poll::Ready(Ok(reason)) if reason != Reason::NO_ERROR => {
                Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            }
            _ => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if std::mem::replace(&mut self.ended, true) {
            return Poll::Ready(Ok(()));
        }
        let sent = self.to.borrow_mut().send_data(Bytes::new(), true);
        Poll::Ready(sent.map_err(|_| io::ErrorKind::ConnectionReset.into()))
    }
}

impl<S: BorrowMut<SendStream<Bytes>>, R> Drop for StreamBytes<S, R> {
    fn drop(&mut self) {
        if self.cut.get() {
            self.to.borrow_mut().send_reset(Reason::CONNECT_ERROR);
        }
    }
}
