//! What keeps a body from arriving whole.

use http1::BodyError;

use crate::http::stream_limits::Overdue;

/// What kept a body from arriving whole.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::http) enum PumpError {
    /// The sender's connection failed.
    Read,
    /// The sender broke its framing, or closed too early.
    Body(BodyError),
    /// The sender's stream broke the rules of HTTP/2 and has been reset for it.
    Malformed,
    /// A body of gRPC-Web is to be base64, and is not.
    Text,
    /// The receiver's connection failed.
    Write,
    /// Nothing has moved for too long.
    Idle,
    /// The time for the whole request is over.
    Late,
    /// Memory is short, and the receiver takes nothing of what is held for it.
    Untaken,
    /// A limit of the listener has passed.
    Overdue(Overdue),
}

impl PumpError {
    /// Why frames of a body stopped coming.
    pub(in crate::http) fn of_frames(error: &h2::Error) -> Self {
        let is_malformed = error.is_library() && error.reason() == Some(h2::Reason::PROTOCOL_ERROR);
        if is_malformed { Self::Malformed } else { Self::Read }
    }
}
