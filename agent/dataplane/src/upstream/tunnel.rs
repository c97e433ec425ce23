//! Opaque connections through a proxy at the endpoint that speaks HTTP/1.1 (DestinationRule `tunnel`): it is asked for the
//! far end. From its consent to a `CONNECT` on the connection is the client's; a `POST` goes on with the client's bytes.
//! Nothing of the client is sent before the consent, as in Envoy.

use std::io;

use http1::{BodyDecoder, HeaderSlots, Limits};
use snapshot::{Tunnel, TunnelMethod};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{ConnectError, UpstreamStream};

/// What an answer's head may take.
const LIMITS: Limits = Limits { head_bytes: 8 * 1024, fields: 100 };
/// Interim answers before the final one.
pub(super) const MOST_INTERIM: usize = 8;

/// Asks the endpoint for the far end. Returns what takes the framing off its answer, where the answer goes on.
///
/// # Errors
/// It does not speak HTTP/1.1, or does not consent.
pub(super) async fn open(
    stream: &mut UpstreamStream,
    tunnel: &Tunnel,
) -> Result<Option<BodyDecoder>, ConnectError> {
    let Tunnel { far_end, method } = tunnel;
    let request = match method {
        TunnelMethod::Connect => format!("CONNECT {far_end} HTTP/1.1\r\nhost: {far_end}\r\n\r\n"),
        TunnelMethod::Post => {
            format!("POST / HTTP/1.1\r\nhost: {far_end}\r\ntransfer-encoding: chunked\r\n\r\n")
        }
    };
    stream.write_all(request.as_bytes()).await?;
    for _ in 0..=MOST_INTERIM {
        match answer(stream, *method).await? {
            (200..=299, body) => return Ok((*method == TunnelMethod::Post).then_some(body)),
            (100 | 102..=199, _) => {}
            (status, _) => return Err(ConnectError::TunnelAnswered(status)),
        }
    }
    Err(ConnectError::TunnelRefused("interim answers without end".to_owned()))
}

/// The status of the next answer, and what its body is. Read byte by byte, for what follows is not ours and must stay where it is.
async fn answer(
    stream: &mut UpstreamStream,
    method: TunnelMethod,
) -> Result<(u16, BodyDecoder), ConnectError> {
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
    match http1::parse_response(&head, &LIMITS, method.as_str(), &mut slots) {
        Ok(Some(answer)) => Ok((answer.status, BodyDecoder::new(answer.body))),
        Ok(None) => Err(ConnectError::TunnelRefused("an answer that does not end".to_owned())),
        Err(error) => Err(ConnectError::TunnelRefused(format!("an answer that is not HTTP/1.1: {error}"))),
    }
}
