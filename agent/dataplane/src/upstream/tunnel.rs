//! Opaque connections through a proxy at the endpoint (DestinationRule `tunnel`): it is asked for the far end by an
//! HTTP/1.1 `CONNECT`, and from its consent on the connection is the client's.

use std::io;

use http1::{HeaderSlots, Limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{ConnectError, UpstreamStream};

/// What an answer's head may take.
const LIMITS: Limits = Limits { head_bytes: 8 * 1024, fields: 100 };
/// Interim answers before the final one.
const MOST_INTERIM: usize = 8;

/// Asks the endpoint for `far_end`, `<host>:<port>`.
///
/// # Errors
/// It does not speak HTTP/1.1, or does not consent.
pub(super) async fn open(stream: &mut UpstreamStream, far_end: &str) -> Result<(), ConnectError> {
    let request = format!("CONNECT {far_end} HTTP/1.1\r\nhost: {far_end}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    for _ in 0..=MOST_INTERIM {
        match answer(stream).await? {
            200..=299 => return Ok(()),
            100 | 102..=199 => {}
            status => return Err(ConnectError::TunnelRefused(status.to_string())),
        }
    }
    Err(ConnectError::TunnelRefused("interim answers without end".to_owned()))
}

/// The status of the next answer. Read byte by byte, for what follows is not ours and must stay where it is.
async fn answer(stream: &mut UpstreamStream) -> Result<u16, ConnectError> {
    let mut head = Vec::with_capacity(128);
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= LIMITS.head_bytes {
            return Err(ConnectError::TunnelRefused("an answer that is too large".to_owned()));
        }
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(ConnectError::TunnelRefused("it closed the connection".to_owned()));
            }
            Err(error) => return Err(error.into()),
        }
    }
    let mut slots = HeaderSlots::new();
    match http1::parse_response(&head, &LIMITS, "CONNECT", &mut slots) {
        Ok(Some(answer)) => Ok(answer.status),
        Ok(None) => Err(ConnectError::TunnelRefused("an answer that does not end".to_owned())),
        Err(error) => Err(ConnectError::TunnelRefused(format!("an answer that is not HTTP/1.1: {error}"))),
    }
}
