//! The `Connection` field: whether the connection persists, and which fields go no further than this hop.

use httparse::Header;

use crate::fields::{list_elements, parse_decimal};
use crate::write::is_field_name;
use crate::{bounds, head::HeadError};

/// Returns whether a field is about one connection only and so is never copied to the other side.
///
/// These are `connection`, `keep-alive`, `proxy-connection`, `te`, `transfer-encoding` and `upgrade` (RFC 9110 §7.6.1),
/// and `trailer`, because trailers are dropped here and must not stay announced. The writer adds anew what it wants:
/// framing, `te: trailers`, an upgrade. `proxy-authorization` is not among them: whether a gateway consumes it is not
/// the codec's to say. `content-length` is not either, but a writer takes it from the body it writes.
#[inline]
#[must_use]
pub fn is_hop_by_hop(name: &str) -> bool {
    match name.len() {
        2 => name.eq_ignore_ascii_case("te"),
        7 => name.eq_ignore_ascii_case("upgrade") || name.eq_ignore_ascii_case("trailer"),
        10 => name.eq_ignore_ascii_case("connection") || name.eq_ignore_ascii_case("keep-alive"),
        16 => name.eq_ignore_ascii_case("proxy-connection"),
        17 => name.eq_ignore_ascii_case("transfer-encoding"),
        _ => false,
    }
}

/// Which further fields the `Connection` field of a head nominates as hop-by-hop.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionNames<'b> {
    /// Absent as long as there are none, so that the usual head writes no room for any.
    names: Option<[&'b [u8]; bounds::CONNECTION_NAMES]>,
    len: usize,
}

/// Returns the fields that `headers`, as they came from a parsed head, nominate in `Connection`.
///
/// Fields that are hop-by-hop anyway are left out, and so are those a peer may not remove this way: fields meant for
/// every recipient (RFC 9110 §7.6.1) and those that carry identity or are trusted further on. Otherwise a client could
/// have the proxy strip what the proxy was put there to add.
#[inline]
#[must_use]
pub fn connection_names<'b>(headers: &[Header<'b>]) -> ConnectionNames<'b> {
    let is_nominating = |header: &Header<'_>| {
        header.name.eq_ignore_ascii_case("connection") && list_elements(header.value).any(is_nominated)
    };
    if headers.iter().any(is_nominating) {
        return ConnectionNames::of(headers);
    }
    ConnectionNames { names: None, len: 0 }
}

impl<'b> ConnectionNames<'b> {
    /// Returns whether no further field is nominated, which is nearly always so.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns whether the field `name` is nominated.
    #[inline]
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        let nominated = self.names.iter().flatten().take(self.len);
        nominated.into_iter().any(|nominated| nominated.eq_ignore_ascii_case(name.as_bytes()))
    }

    /// Parsing refused heads with more names than there is room for.
    #[cold]
    fn of(headers: &[Header<'b>]) -> Self {
        let lines = headers.iter().filter(|header| header.name.eq_ignore_ascii_case("connection"));
        let nominated =
            lines.flat_map(|line| list_elements(line.value)).filter(|option| is_nominated(option));
        let (mut names, mut len) = ([b"".as_slice(); bounds::CONNECTION_NAMES], 0);
        for (room, name) in names.iter_mut().zip(nominated) {
            *room = name;
            len += 1;
        }
        Self { names: Some(names), len }
    }
}

/// What the codec itself needs from `Connection`, over all its lines.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ConnectionOptions {
    pub(crate) close: bool,
    pub(crate) keep_alive: bool,
    pub(crate) upgrade: bool,
    nominations: usize,
}

impl ConnectionOptions {
    /// Takes one line.
    pub(crate) fn take(&mut self, value: &[u8]) -> Result<(), HeadError> {
        for option in list_elements(value) {
            match option.len() {
                5 if option.eq_ignore_ascii_case(b"close") => self.close = true,
                7 if option.eq_ignore_ascii_case(b"upgrade") => self.upgrade = true,
                10 if option.eq_ignore_ascii_case(b"keep-alive") => self.keep_alive = true,
                _ if is_nomination(option) => self.nominations += 1,
                _ => {}
            }
        }
        if self.nominations > bounds::CONNECTION_NAMES {
            Err(HeadError::TooManyConnectionNames)
        } else {
            Ok(())
        }
    }
}

/// The seconds in `timeout=5, max=100`, the value of `Keep-Alive`: so long the server keeps an idle connection.
pub(crate) fn idle_timeout(value: &[u8]) -> Option<u64> {
    list_elements(value).find_map(|parameter| {
        let (name, seconds) = parameter.split_at_checked("timeout=".len())?;
        name.eq_ignore_ascii_case(b"timeout=").then(|| parse_decimal(seconds))?
    })
}

fn is_nominated(option: &[u8]) -> bool {
    is_nomination(option) && !is_protected(option)
}

/// An option that is no field name nominates nothing, and the fields that are dropped anyway need no mention.
fn is_nomination(option: &[u8]) -> bool {
    let known = option.eq_ignore_ascii_case(b"close") || std::str::from_utf8(option).is_ok_and(is_hop_by_hop);
    !known && is_field_name(option)
}

fn is_protected(name: &[u8]) -> bool {
    let starts_with =
        |prefix: &[u8]| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    PROTECTED_NAMES.iter().any(|protected| protected.eq_ignore_ascii_case(name))
        || PROTECTED_PREFIXES.iter().any(|prefix| starts_with(prefix))
}

const PROTECTED_NAMES: [&[u8]; 14] = [
    b"authorization",
    b"cache-control",
    b"content-encoding",
    b"content-length",
    b"content-type",
    b"cookie",
    b"date",
    b"forwarded",
    b"host",
    b"proxy-authorization",
    b"set-cookie",
    b"traceparent",
    b"via",
    b"x-request-id",
];

const PROTECTED_PREFIXES: [&[u8]; 2] = [b"x-envoy-", b"x-forwarded-"];

#[cfg(test)]
mod tests {
    use super::*;

    fn header<'b>(name: &'b str, value: &'b str) -> Header<'b> {
        Header { name, value: value.as_bytes() }
    }

    #[test]
    fn hop_by_hop_fields_are_known_in_any_case() {
        for name in
            ["Connection", "keep-alive", "Proxy-Connection", "TE", "trailer", "Transfer-Encoding", "UPGRADE"]
        {
            assert!(is_hop_by_hop(name), "{name}");
        }
    }

    #[test]
    fn end_to_end_fields_are_not_hop_by_hop() {
        for name in ["host", "content-length", "proxy-authorization", "trailers", "ta", "upgrades", ""] {
            assert!(!is_hop_by_hop(name), "{name}");
        }
    }

    #[test]
    fn connection_nominates_over_several_lines_and_in_any_case() {
        let names = connection_names(&[
            header("Connection", "keep-alive, X-One ,,"),
            header("x-one", "1"),
            header("CONNECTION", "http2-settings, close"),
        ]);
        assert!(names.contains("x-one") && names.contains("HTTP2-Settings"));
        assert!(!names.contains("keep-alive") && !names.contains("") && !names.contains("x-two"));
    }

    #[test]
    fn usual_connection_values_nominate_nothing() {
        for value in ["", "close", "Keep-Alive", "Upgrade", "te, close", "\"x\", a b"] {
            assert!(connection_names(&[header("connection", value)]).is_empty(), "{value}");
        }
    }

    #[test]
    fn protected_fields_cannot_be_nominated() {
        let value = "Host, content-length, X-Forwarded-For, x-envoy-peer-metadata, authorization, x-ok";
        let names = connection_names(&[header("connection", value)]);
        assert!(names.contains("x-ok"));
        for name in ["host", "content-length", "x-forwarded-for", "x-envoy-peer-metadata", "authorization"] {
            assert!(!names.contains(name), "{name}");
        }
    }

    #[test]
    fn as_many_fields_are_nominated_as_parsing_lets_through() {
        let names: Vec<_> = (0..bounds::CONNECTION_NAMES).map(|i| format!("x-{i}")).collect();
        let value = names.join(",");
        let nominated = connection_names(&[header("connection", &value)]);
        assert!(names.iter().all(|name| nominated.contains(name)));
    }

    #[test]
    fn an_idle_timeout_is_read_wherever_it_stands() {
        for (value, seconds) in [
            ("timeout=5", Some(5)),
            ("max=100, Timeout=72", Some(72)),
            ("timeout=0", Some(0)),
            ("timeout=", None),
            ("timeout=5s", None),
            ("timeout=99999999999999999999", None),
            ("max=3", None),
            ("5", None),
        ] {
            assert_eq!(idle_timeout(value.as_bytes()), seconds, "{value}");
        }
    }

    #[test]
    fn too_many_nominations_are_refused() {
        let mut options = ConnectionOptions::default();
        assert_eq!(options.take("a,".repeat(16).as_bytes()), Ok(()));
        assert_eq!(options.take(b"b"), Err(HeadError::TooManyConnectionNames));
    }
}
