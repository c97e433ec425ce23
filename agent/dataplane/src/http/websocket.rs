//! Websockets on their way between the versions of HTTP: HTTP/1.1 agrees on them with keys, HTTP/2 by the request alone
//! (RFC 8441).

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::{Engine, engine::general_purpose::STANDARD};
use h2::ext::Protocol;

/// Whether a protocol is that of websockets, which HTTP/1.1 agrees on with keys.
pub(super) fn is_websocket(protocol: &str) -> bool {
    protocol.eq_ignore_ascii_case("websocket")
}

/// An offer to speak another protocol, as it goes to an endpoint.
#[derive(Clone, Copy)]
pub(super) struct Offer<'r> {
    pub(super) protocol: &'r str,
    /// For an endpoint that wants one from a client that has none.
    pub(super) key: Option<Key>,
}

/// What a client of HTTP/1.1 is told when an endpoint of HTTP/2 agrees to switch protocols.
pub(super) struct Agreement {
    pub(super) protocol: Protocol,
    /// For a client of websocket that sent a key.
    pub(super) accept: Option<Accept>,
}

/// Value of `sec-websocket-key`.
#[derive(Clone, Copy)]
pub(super) struct Key([u8; 24]);

impl Key {
    /// Of bytes that an endpoint has not seen before.
    pub(super) fn new(bytes: u128) -> Self {
        Self(encoded(&bytes.to_ne_bytes()))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Value of `sec-websocket-accept` (RFC 6455 §4.2.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Accept([u8; 28]);

impl Accept {
    /// For a client that sent this key.
    pub(super) fn of(key: &[u8]) -> Self {
        let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, APPENDED].concat());
        Self(encoded(digest.as_ref()))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

pub(super) const KEY: &str = "sec-websocket-key";
pub(super) const ACCEPT: &str = "sec-websocket-accept";

const APPENDED: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Bytes as base64, of which there are exactly `N`.
fn encoded<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    let written = STANDARD.encode_slice(bytes, &mut out);
    debug_assert_eq!(written, Ok(N));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_answered_as_in_the_example_of_the_rfc() {
        let accept = Accept::of(b"dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept.as_bytes(), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn made_up_keys_stand_for_sixteen_bytes() {
        let key = Key::new(7);
        assert_eq!(STANDARD.decode(key.as_bytes()).unwrap(), 7_u128.to_ne_bytes());
    }
}
