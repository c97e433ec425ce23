//! Trailers as they arrive over HTTP/2.

use std::task::{Context, Poll, ready};

use ::http::{HeaderMap, HeaderValue};
use h2::RecvStream;

use super::pump::PumpError;

/// What frames and routes a message is said in its head. Whoever believed it behind a body would be deceived (RFC 9110
/// §6.5.1).
const OF_HEADS: [&str; 2] = ["content-length", "host"];

/// The trailers of a body whose data is through, as they may go on.
pub(super) fn poll_trailers(
    from: &mut RecvStream,
    cx: &mut Context<'_>,
) -> Poll<Result<Option<HeaderMap>, PumpError>> {
    let received = ready!(from.poll_trailers(cx)).map_err(|error| PumpError::of_frames(&error))?;
    Poll::Ready(Ok(received.map(cleaned)))
}

/// Without what has no place there, and without the blanks around values for which strict peers end the connection (RFC
/// 9113 §8.2.1).
fn cleaned(mut trailers: HeaderMap) -> HeaderMap {
    for name in OF_HEADS {
        trailers.remove(name);
    }
    for value in trailers.values_mut() {
        let trimmed = value.as_bytes().trim_ascii();
        if trimmed.len() < value.len() {
            *value = HeaderValue::from_bytes(trimmed).expect("a part of a value is one");
        }
    }
    trailers
}
