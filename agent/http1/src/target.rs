//! Request targets in their four forms (RFC 9112 §3.2).

use crate::host::{has_port, is_valid_authority};

/// What a request asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Target<'b> {
    /// `/path?query`.
    Origin(&'b str),
    /// `http://host/path?query`.
    Absolute {
        /// `http` or `https`, in the case the peer wrote it.
        scheme: &'b str,
        /// Host and perhaps port; valid, and more than [`Host`](crate::Request::host) says.
        authority: &'b str,
        /// `/path?query`; `/` when the peer left it out, and `*` when it did so in an `OPTIONS` request.
        path: &'b str,
    },
    /// `host:port`, in a `CONNECT` request and only there.
    Authority(&'b str),
    /// `*`, in an `OPTIONS` request and only there.
    Asterisk,
}

impl<'b> Target<'b> {
    /// Path and query as an origin server is asked for them; empty for `CONNECT`, `*` for the server itself.
    #[inline]
    #[must_use]
    pub const fn path_and_query(&self) -> &'b str {
        match *self {
            Self::Origin(path) | Self::Absolute { path, .. } => path,
            Self::Authority(_) => "",
            Self::Asterisk => "*",
        }
    }

    /// Whether it is an absolute form for `https`.
    #[inline]
    #[must_use]
    pub const fn asks_for_https(&self) -> bool {
        matches!(self, Self::Absolute { scheme, .. } if scheme.len() == "https".len())
    }

    /// The authority in the target itself.
    #[inline]
    #[must_use]
    pub const fn authority(&self) -> Option<&'b str> {
        match *self {
            Self::Absolute { authority, .. } | Self::Authority(authority) => Some(authority),
            Self::Origin(_) | Self::Asterisk => None,
        }
    }

    /// Reads `text`, which httparse found to hold neither spaces nor control characters.
    pub(crate) fn parse(method: &str, text: &'b str) -> Result<Self, TargetError> {
        check_bytes(text)?;
        match (method, text) {
            ("CONNECT", authority) => connect_target(authority),
            (_, path) if path.starts_with('/') => Ok(Self::Origin(path)),
            ("OPTIONS", "*") => Ok(Self::Asterisk),
            (method, uri) => absolute_target(method, uri),
        }
    }
}

/// Why a request target was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TargetError {
    /// A byte that no URI holds and that no browser sends unencoded either.
    #[error("invalid byte in request target: expected a URI in ASCII")]
    InvalidByte,
    /// Fragments stay with the client (RFC 9112 §3.2.1); access rules would be matched against another path.
    #[error("fragment in request target: expected no `#`")]
    Fragment,
    /// An absolute form that is neither `http` nor `https`.
    #[error("invalid scheme in request target: expected `http` or `https`")]
    InvalidScheme,
    /// None of the forms that fit the method.
    #[error(
        "invalid form of request target: expected `/path`, `http://host/path`, `host:port` with CONNECT or `*` with OPTIONS"
    )]
    InvalidForm,
    /// The host or port in the target.
    #[error("invalid authority in request target: expected a host and perhaps a port")]
    InvalidAuthority,
}

/// Refuses `#`, and bytes outside ASCII or of no use in a URI.
fn check_bytes(text: &str) -> Result<(), TargetError> {
    match text.bytes().find(|byte| !URI_BYTES[usize::from(*byte)]) {
        None => Ok(()),
        Some(b'#') => Err(TargetError::Fragment),
        Some(_) => Err(TargetError::InvalidByte),
    }
}

/// What RFC 3986 allows, and what clients send unencoded all the same: `"`, `<`, `|`, `^`, `[`, `{`, a backtick, a
/// backslash. The normal form of a path escapes them.
static URI_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = b'!';
    while byte <= b'~' {
        table[byte as usize] = byte != b'#';
        byte += 1;
    }
    table
};

/// RFC 9110 §9.3.6: a port is required, for there is no default to fall back on.
fn connect_target(authority: &str) -> Result<Target<'_>, TargetError> {
    let valid = is_valid_authority(authority.as_bytes()) && has_port(authority.as_bytes());
    if valid { Ok(Target::Authority(authority)) } else { Err(TargetError::InvalidAuthority) }
}

fn absolute_target<'b>(method: &str, uri: &'b str) -> Result<Target<'b>, TargetError> {
    let (scheme, rest) = uri.split_once("://").ok_or(TargetError::InvalidForm)?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(TargetError::InvalidScheme);
    }
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if !is_valid_authority(authority.as_bytes()) {
        return Err(TargetError::InvalidAuthority);
    }
    Ok(Target::Absolute { scheme, authority, path: absolute_path(method, path)? })
}

/// An empty path means `/`, and the server itself when asked for its options (RFC 9112 §3.2.4). A query without a path
/// is refused: clients write the `/`, and a head that is only borrowed has no place to add one.
fn absolute_path<'b>(method: &str, path: &'b str) -> Result<&'b str, TargetError> {
    match path {
        "" if method == "OPTIONS" => Ok("*"),
        "" => Ok("/"),
        path if path.starts_with('/') => Ok(path),
        _ => Err(TargetError::InvalidForm),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origin_form_is_a_path() {
        for path in ["/", "/a?b=c", "//a", "/a|b^c[d]{e}\\g'h%zz?`", "/\"<a>`?\"<b>", "/http://b/"] {
            assert_eq!(Target::parse("GET", path), Ok(Target::Origin(path)));
        }
    }

    #[test]
    fn absolute_form_names_scheme_authority_and_path() {
        let absolute = |scheme, authority, path| Ok(Target::Absolute { scheme, authority, path });
        assert_eq!(Target::parse("GET", "http://a:80/b?c"), absolute("http", "a:80", "/b?c"));
        assert_eq!(Target::parse("GET", "HTTPS://[::1]"), absolute("HTTPS", "[::1]", "/"));
        assert_eq!(Target::parse("OPTIONS", "http://a"), absolute("http", "a", "*"));
        assert_eq!(Target::parse("OPTIONS", "http://a/"), absolute("http", "a", "/"));
    }

    #[test]
    fn absolute_form_with_a_bad_authority_is_refused() {
        for uri in ["http:///a", "http://", "http://u@a/", "http://u:p@a/", "http://a:x/", "http://a\\b/"] {
            assert_eq!(Target::parse("GET", uri), Err(TargetError::InvalidAuthority), "{uri}");
        }
    }

    #[test]
    fn forms_that_do_not_fit_are_refused() {
        for (method, text) in [
            ("GET", "*"),
            ("GET", "a"),
            ("GET", "a:80"),
            ("GET", "http:/a"),
            ("GET", "?a"),
            ("GET", "http://a?b"),
            ("OPTIONS", "**"),
            ("options", "*"),
        ] {
            assert_eq!(Target::parse(method, text), Err(TargetError::InvalidForm), "{method} {text}");
        }
    }

    #[test]
    fn connect_takes_host_and_port_and_nothing_else() {
        assert_eq!(Target::parse("CONNECT", "a:443"), Ok(Target::Authority("a:443")));
        assert_eq!(Target::parse("CONNECT", "[::1]:443"), Ok(Target::Authority("[::1]:443")));
        for text in ["a", "a:", "/", "*", "http://a:443/", "[::1]"] {
            assert_eq!(Target::parse("CONNECT", text), Err(TargetError::InvalidAuthority), "{text}");
        }
    }

    #[test]
    fn fragments_and_bytes_of_no_uri_are_refused() {
        assert_eq!(Target::parse("GET", "/a#b"), Err(TargetError::Fragment));
        assert_eq!(Target::parse("GET", "http://a/#"), Err(TargetError::Fragment));
        for text in ["/\u{e9}", "/a\u{7f}"] {
            assert_eq!(Target::parse("GET", text), Err(TargetError::InvalidByte), "{text}");
        }
        assert_eq!(Target::parse("GET", "ftp://a/"), Err(TargetError::InvalidScheme));
    }
}
