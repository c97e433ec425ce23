//! `Host` and the authority of a request target: a host name or address and perhaps a port.

use std::net::Ipv6Addr;

use crate::fields::parse_decimal;

/// Returns whether `text` is a host, perhaps followed by `:` and a port (RFC 9110 §4.2, RFC 3986 §3.2).
///
/// Narrower than the grammar where recipients are known to differ: no user information, no percent-encoding, no comma
/// (what several `Host` lines look like once joined), no zone in an IPv6 address. A port is at most 65535 or left out.
#[must_use]
pub fn is_valid_authority(text: &[u8]) -> bool {
    let (host_is_valid, rest) = match text {
        [b'[', literal @ ..] => match literal.iter().position(|byte| *byte == b']') {
            Some(end) => (is_ipv6(&literal[..end]), &literal[end + 1..]),
            None => return false,
        },
        _ => {
            let end = text.iter().position(|byte| *byte == b':').unwrap_or(text.len());
            (is_name(&text[..end]), &text[end..])
        }
    };
    host_is_valid && is_port_part(rest)
}

/// The port of a valid authority, if it has one.
pub(crate) fn has_port(authority: &[u8]) -> bool {
    let after_literal = authority.iter().position(|byte| *byte == b']').unwrap_or(0);
    authority[after_literal..]
        .iter()
        .position(|byte| *byte == b':')
        .is_some_and(|at| after_literal + at + 1 < authority.len())
}

fn is_ipv6(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}

fn is_name(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| NAME_BYTES[usize::from(*byte)])
}

/// Nothing, or `:` and a port; RFC 3986 §3.2.3 lets the digits be missing.
fn is_port_part(text: &[u8]) -> bool {
    match text {
        [] | [b':'] => true,
        [b':', digits @ ..] => parse_decimal(digits).is_some_and(|port| port <= 65535),
        _ => false,
    }
}

/// Unreserved characters and sub-delimiters of RFC 3986, without the comma.
static NAME_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = matches!(byte as u8,
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~'
            | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=');
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_addresses_and_ports_are_valid() {
        for text in [
            "a",
            "a.b-c_d~",
            "10.0.0.1",
            "A.example:8080",
            "a:",
            "a:0",
            "a:65535",
            "[::1]",
            "[fe80::1]:80",
            "[::ffff:1.2.3.4]",
        ] {
            assert!(is_valid_authority(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn anything_else_is_invalid() {
        for text in [
            "",
            ":80",
            "a b",
            "a:b",
            "a:65536",
            "a:+1",
            "a:1:2",
            "a@b",
            "u:p@b",
            "a/b",
            "a?b",
            "a#b",
            "a\\b",
            "a,b",
            "a%41",
            "[::1",
            "::1",
            "[]",
            "[::1]x",
            "[fe80::1%25eth0]",
            "[v1.x]",
            "[::1]:x",
            "\u{e9}",
            "a\t",
            "a\"b",
            "a<b",
        ] {
            assert!(!is_valid_authority(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn port_is_seen_after_a_name_and_after_a_literal() {
        assert!(has_port(b"a:1") && has_port(b"[::1]:1"));
        assert!(!has_port(b"a") && !has_port(b"a:") && !has_port(b"[::1]") && !has_port(b"[::1]:"));
    }
}
