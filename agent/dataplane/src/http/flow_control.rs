//! Flow control of HTTP/2 streams.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{RecvStream, SendStream};

use super::pump::PumpError;

/// Lets the sender send as much again. What was received is handed on at once, or not asked for.
pub(super) fn release(from: &mut RecvStream, len: usize) {
    // Fails only for more than was received.
    _ = from.flow_control().release_capacity(len);
}

/// Ready when the receiver takes something more. Fails when it does not want the rest, which it may also say while
/// there is room.
pub(super) fn poll_room(cx: &mut Context<'_>, to: &mut SendStream<Bytes>) -> Poll<Result<(), PumpError>> {
    if to.poll_reset(cx).is_ready() {
        return Poll::Ready(Err(PumpError::Write));
    }
    to.reserve_capacity(1);
    while to.capacity() == 0 {
        match ready!(to.poll_capacity(cx)) {
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Poll::Ready(Err(PumpError::Write)),
        }
    }
    Poll::Ready(Ok(()))
}
