//! Learns from the first bytes of a connection what it speaks, without ever making a server-first protocol wait for
//! a client that says nothing.

use std::{
    cell::RefCell,
    future::{Future, pending, poll_fn},
    io,
    pin::pin,
    rc::Rc,
    task::Poll,
    time::Duration,
};

use snapshot::{Application, Transport as TransportProtocol};

use crate::{
    alarm,
    buffer::{BufferPool, PooledBuffer},
    timer::Deadline,
    tls::{Hello, MalformedHello},
    transport::Transport,
    upstream::OpaqueUpstream,
};

/// What the first bytes told.
pub(crate) struct Inspected<E> {
    pub(crate) transport: TransportProtocol,
    pub(crate) application: Application,
    /// What the client has sent so far.
    pub(crate) first: Option<PooledBuffer>,
    /// The connection dialled while the client was silent, if the bytes turned out to be opaque.
    pub(crate) early: Option<E>,
}

/// How long a client may be silent before the server is dialled too. Clients that speak first are not delayed by it.
const SILENCE: Duration = Duration::from_millis(50);
/// How long a silent client is listened to after the server could not be dialled. It may be slow to speak HTTP, which
/// goes elsewhere.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// How long a client may take.
#[derive(Clone, Copy)]
pub(crate) struct InspectionTimeouts {
    /// Without having said anything.
    pub(crate) silent: Duration,
    /// Once it has begun what looks like a TLS record.
    pub(crate) record: Duration,
    /// Once it has begun what looks like a request line.
    pub(crate) request_line: Duration,
}

impl InspectionTimeouts {
    fn once_begun(self, first: &[u8]) -> Duration {
        if first.first() == Some(&TLS_HANDSHAKE) { self.record } else { self.request_line }
    }
}

/// Reads until the client's protocol is clear, or until the server has spoken first.
///
/// After a short silence `dial` connects to where opaque bytes would go; whoever speaks first then decides. When
/// dialling fails the client is still listened to for a while: it may speak HTTP, which goes elsewhere. Where opaque
/// bytes go nowhere no server could speak first, and a client may take its time.
///
/// # Errors
/// The client's connection failed, or it took longer than `patience` allows.
pub(crate) async fn inspect<S, E, D>(
    stream: &mut S,
    pool: &Rc<BufferPool>,
    (deadline, timeouts): (&Deadline, InspectionTimeouts),
    dial: impl FnOnce() -> Option<D>,
) -> io::Result<Inspected<E>>
where
    S: Transport,
    E: AsMut<OpaqueUpstream>,
    D: Future<Output = Option<E>>,
{
    let mut first = None;
    let early = RefCell::new(None);
    let at_once = {
        let speaking = pin!(client_speech(stream, pool, &mut first, |_| {}));
        alarm::within(SILENCE, speaking).await
    };
    let speech = match at_once {
        Ok(speech) => speech?,
        Err(_) => {
            // In a box of its own: clients that speak first should not hold room for it.
            let dialling = dial().map(Box::pin);
            let begun = |first: &[u8]| deadline.set(timeouts.once_begun(first));
            let either = async {
                tokio::select! {
                    biased;
                    speech = client_speech(stream, pool, &mut first, begun) => speech,
                    () = server_speech(dialling, &early) => Ok(DetectedProtocol::Opaque),
                }
            };
            deadline
                .idle_within(timeouts.silent, pin!(either))
                .await
                .map_err(|_| io::ErrorKind::TimedOut)??
        }
    };
    let (transport, application) = match speech {
        DetectedProtocol::Tls => (TransportProtocol::Tls, Application::Opaque),
        DetectedProtocol::Http => (TransportProtocol::RawBuffer, Application::Http),
        DetectedProtocol::Opaque => (TransportProtocol::RawBuffer, Application::Opaque),
    };
    // Dialled for opaque clear text: another chain may send TLS elsewhere.
    let is_opaque = transport == TransportProtocol::RawBuffer && application == Application::Opaque;
    let early = early.into_inner().filter(|_| is_opaque);
    Ok(Inspected { transport, application, first, early })
}

/// Why there is no client hello.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HelloError {
    #[error(transparent)]
    Malformed(#[from] MalformedHello),
    #[error("TLS client hello is larger than 16 KiB")]
    TooLarge,
    #[error("the connection ended within the TLS client hello: {0}")]
    Connection(#[from] io::Error),
}

/// Reads a TLS client hello into `first`, which may hold the beginning of it. `None` says that the client speaks something
/// else.
///
/// # Errors
/// The connection failed, or the hello is malformed, or does not fit into 16 KiB.
pub(crate) async fn inspect_hello<S: Transport>(
    stream: &mut S,
    first: &mut PooledBuffer,
) -> Result<Option<Hello>, HelloError> {
    loop {
        if first.filled().first().is_some_and(|byte| *byte != TLS_HANDSHAKE) {
            return Ok(None);
        }
        if let Some(hello) = Hello::read(first.filled())? {
            return Ok(Some(hello));
        }
        if first.is_full() {
            return Err(HelloError::TooLarge);
        }
        if poll_fn(|cx| first.poll_fill(cx, stream)).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
}

/// Reads until the bytes tell what they are; the end of the stream makes them opaque.
///
/// A client that says nothing is waited for without a buffer. `begun` is told once of the first bytes of one that has
/// more to say.
async fn client_speech<S: Transport>(
    stream: &mut S,
    pool: &Rc<BufferPool>,
    first: &mut Option<PooledBuffer>,
    begun: impl FnOnce(&[u8]),
) -> io::Result<DetectedProtocol> {
    let mut begun = Some(begun);
    loop {
        if let Some(first) = first {
            if let Some(speech) = classify(first.filled()) {
                return Ok(speech);
            }
            if first.is_full() {
                return Ok(DetectedProtocol::Opaque);
            }
            if let Some(begun) = begun.take() {
                begun(first.filled());
            }
        }
        if poll_fn(|cx| pool.poll_receive(cx, stream, first)).await? == 0 {
            return Ok(DetectedProtocol::Opaque);
        }
    }
}

/// Ends when the dialled server has sent something or closed, or a while after it could not be dialled: a client that
/// waits for such a server to speak is better told. Never ends when there is none to dial.
async fn server_speech<E: AsMut<OpaqueUpstream>>(
    dialling: Option<impl Future<Output = Option<E>>>,
    early: &RefCell<Option<E>>,
) {
    let Some(dialling) = dialling else { return pending().await };
    *early.borrow_mut() = dialling.await;
    if early.borrow().is_none() {
        alarm::sleep(AFTER_FAILURE).await;
        return;
    }
    poll_fn(|cx| match early.borrow_mut().as_mut() {
        // Looked at, not taken: the relay reads it. An error shows again there.
        Some(server) => server.as_mut().poll_spoken(cx),
        None => Poll::Ready(()),
    })
    .await;
}

/// What a client's bytes are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum DetectedProtocol {
    Tls,
    Http,
    Opaque,
}

/// What an HTTP/2 client with prior knowledge sends first (RFC 9113 §3.4).
pub(crate) const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const TLS_HANDSHAKE: u8 = 0x16;
const LONGEST_METHOD: usize = 32;
const HOST: &[u8] = b"host:";

/// Tells what a connection speaks from the bytes it begins with, or `None` when more are needed.
///
/// HTTP/1 is recognised by its whole request line, so that text protocols which share a verb with it (`GET key` of
/// Redis) stay opaque. HTTP/1.0 without `Host` is opaque too: nothing says where it should be routed, and what sends it
/// (health checks, mostly) means the server that it dialled.
pub(crate) fn classify(bytes: &[u8]) -> Option<DetectedProtocol> {
    match bytes {
        [] | [TLS_HANDSHAKE] => return None,
        [TLS_HANDSHAKE, major, ..] => {
            return Some(if *major == 3 { DetectedProtocol::Tls } else { DetectedProtocol::Opaque });
        }
        _ => {}
    }
    if bytes.starts_with(HTTP2_PREFACE) {
        return Some(DetectedProtocol::Http);
    }
    if HTTP2_PREFACE.starts_with(bytes) {
        return None;
    }
    classify_request_line(bytes)
}

fn classify_request_line(bytes: &[u8]) -> Option<DetectedProtocol> {
    let method_len = bytes.iter().take_while(|b| b.is_ascii_uppercase() || matches!(b, b'-' | b'_')).count();
    if method_len > LONGEST_METHOD {
        return Some(DetectedProtocol::Opaque);
    }
    match bytes.get(method_len) {
        None => return None,
        Some(b' ') if method_len > 0 => {}
        Some(_) => return Some(DetectedProtocol::Opaque),
    }
    let (line, rest) = match split_line(bytes) {
        Some((line, rest)) => (line, Some(rest)),
        None => (bytes, None),
    };
    // Looked at before the line is whole and after alike: what is decided must not depend on how bytes arrive.
    if line.iter().any(|b| b.is_ascii_control() && *b != b'\r') {
        return Some(DetectedProtocol::Opaque);
    }
    let rest = rest?;
    let version = line.len().checked_sub(b" HTTP/1.1".len()).map(|at| &line[at..]);
    match version {
        Some(b" HTTP/1.1") => Some(DetectedProtocol::Http),
        Some(b" HTTP/1.0") => classify_first_version(rest),
        _ => Some(DetectedProtocol::Opaque),
    }
}

/// Tells from the header fields that have come of a request of HTTP/1.0 whether it names a host.
fn classify_first_version(mut fields: &[u8]) -> Option<DetectedProtocol> {
    while let Some((line, rest)) = split_line(fields) {
        if line.is_empty() {
            return Some(DetectedProtocol::Opaque);
        }
        if line.get(..HOST.len()).is_some_and(|name| name.eq_ignore_ascii_case(HOST)) {
            return Some(DetectedProtocol::Http);
        }
        fields = rest;
    }
    None
}

/// The first line, without its end, and what follows it; `None` before it is whole.
fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|b| *b == b'\n')?;
    let line = &bytes[..end];
    Some((line.strip_suffix(b"\r").unwrap_or(line), &bytes[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_protocol_is_recognised_by_its_beginning() {
        assert_eq!(classify(b"\x16\x03\x01\x02\x00"), Some(DetectedProtocol::Tls));
        assert_eq!(classify(b"GET / HTTP/1.1\r\n"), Some(DetectedProtocol::Http));
        assert_eq!(classify(b"M-SEARCH * HTTP/1.1\r\n"), Some(DetectedProtocol::Http));
        assert_eq!(classify(b"GET / HTTP/1.0\r\naccept: */*\r\nHost: a\r\n"), Some(DetectedProtocol::Http));
        assert_eq!(classify(b"OPTIONS / HTTP/1.0\r\n\r\n"), Some(DetectedProtocol::Opaque));
        assert_eq!(classify(b"GET / HTTP/1.0\nx-host: a\n\nhost: a\n"), Some(DetectedProtocol::Opaque));
        assert_eq!(classify(HTTP2_PREFACE), Some(DetectedProtocol::Http));
        assert_eq!(classify(b"\x00\x00\x00\x08\x04\xd2\x16\x2f"), Some(DetectedProtocol::Opaque));
        assert_eq!(classify(b"GET key\r\n"), Some(DetectedProtocol::Opaque));
        assert_eq!(classify(b"EHLO me\r\n"), Some(DetectedProtocol::Opaque));
        assert_eq!(classify(b"hello"), Some(DetectedProtocol::Opaque));
        assert_eq!(classify(b"GET \x00\x01"), Some(DetectedProtocol::Opaque));
        assert_eq!(classify(b"GET \x00\x01 HTTP/1.1\r\n"), Some(DetectedProtocol::Opaque));
        assert_eq!(classify(&[b'A'; 40]), Some(DetectedProtocol::Opaque));
    }

    #[test]
    fn every_beginning_of_what_decides_asks_for_more() {
        let first_version = &b"GET / HTTP/1.0\r\nuser-agent: a\r\nhost: a\r\n"[..];
        for whole in [b"GET /status/418?x=1 HTTP/1.1\r\n", first_version, HTTP2_PREFACE, b"\x16\x03"] {
            for end in 0..whole.len() - 1 {
                assert_eq!(classify(&whole[..end]), None, "{:?}", &whole[..end]);
            }
            assert!(classify(whole).is_some());
        }
    }
}
