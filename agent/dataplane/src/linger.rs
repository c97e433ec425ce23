//! Ends a connection so that what was said last arrives.

use std::{future::poll_fn, pin::pin, time::Duration};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::connection::Connection;

/// What a client may still send after the last word, and for how long.
const LINGER_BYTES: usize = 256 * 1024;
const LINGER: Duration = Duration::from_secs(1);

/// Says that no more comes, and takes in what the client is still sending: bytes that nobody reads would make the kernel
/// reset the connection, and the client might never see the answer (RFC 9112 §9.6) or the alert.
pub(crate) async fn linger<S: AsyncRead + AsyncWrite + Unpin>(connection: &Connection, stream: &mut S) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut buffer = connection.worker().buffers.small();
    let discarding = async {
        let mut left = LINGER_BYTES;
        while let Ok(n @ 1..) = poll_fn(|cx| buffer.poll_fill(cx, stream)).await {
            buffer.consume(n);
            left = left.saturating_sub(n);
            if left == 0 {
                break;
            }
        }
    };
    // Late or not, it is closed now.
    _ = connection.deadline.within(LINGER, pin!(discarding)).await;
}
