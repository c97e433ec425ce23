//! Where a client is sent by the `redirect` of a route.

use super::PathRewrite;
use crate::{RequestHead, split_port};

/// How a request came in.
#[derive(Clone, Copy, Debug)]
pub struct CameBy {
    /// `http` or `https`, as the client sees it.
    pub scheme: &'static str,
    /// Port of the listener.
    pub port: u16,
}

/// An answer that sends the client elsewhere (VirtualService `redirect`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// Change to the path. [`PathRewrite::Whole`] with a `?` in it drops the request's query.
    pub path: Option<PathRewrite>,
    /// Host to name instead of the request's, port included if it has one.
    pub authority: Option<String>,
    /// Port to name; `None` keeps what the authority says.
    pub port: Option<RedirectPort>,
    /// `http` or `https`; `None` keeps the request's.
    pub scheme: Option<String>,
}

/// Port that a redirect names. The scheme's default port is never written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RedirectPort {
    /// This one.
    Number(u16),
    /// The scheme's own (`FROM_PROTOCOL_DEFAULT`).
    SchemeDefault,
    /// The listener's (`FROM_REQUEST_PORT`).
    Request,
}

impl Redirect {
    /// The URI for the `location` field, or `None` when neither the request nor the route names a host.
    ///
    /// As in Envoy, the host keeps the port of the request's `Host` unless a port is given, or the scheme changes and the
    /// port was the old scheme's own. The default port of a scheme is never written.
    pub fn location(&self, request: &impl RequestHead, came_by: CameBy) -> Option<String> {
        let scheme = self.scheme.as_deref().unwrap_or(came_by.scheme);
        let named = self.authority.as_deref().filter(|authority| !authority.is_empty());
        let (host, received) = split_port(named.unwrap_or_else(|| request.authority()));
        let received = received.and_then(|port| port.parse().ok());
        let port = match self.port {
            Some(RedirectPort::Number(port)) => Some(port),
            Some(RedirectPort::Request) => Some(came_by.port),
            Some(RedirectPort::SchemeDefault) => None,
            None => received.filter(|port| {
                named.is_some() || scheme == came_by.scheme || default_port(came_by.scheme) != Some(*port)
            }),
        };
        // What the client itself wrote out stays, unless it was told otherwise.
        let as_received = self.port.is_none() && named.is_none() && scheme == came_by.scheme;
        let port = port.filter(|port| as_received || default_port(scheme) != Some(*port));
        let path = match &self.path {
            Some(rewrite) => rewrite.apply(request.path_and_query()),
            // `OPTIONS *` has no path.
            None if !request.path_and_query().starts_with('/') => "/".to_owned(),
            None => request.path_and_query().to_owned(),
        };
        if host.is_empty() {
            return None;
        }
        let port = port.map_or_else(String::new, |port| format!(":{port}"));
        Some(format!("{scheme}://{host}{port}{path}"))
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::testing::Get;

    const PLAIN: Redirect = Redirect { status: 301, path: None, authority: None, port: None, scheme: None };
    const BY_HTTP: CameBy = CameBy { scheme: "http", port: 8080 };

    fn to(redirect: &Redirect, authority: &'static str, path: &'static str) -> String {
        redirect.location(&Get(authority, path), BY_HTTP).unwrap()
    }

    #[test]
    fn what_the_route_does_not_name_stays_as_received() {
        assert_eq!(to(&PLAIN, "a.com:81", "/b?c=d"), "http://a.com:81/b?c=d");
        assert_eq!(to(&PLAIN, "a.com:80", "/"), "http://a.com:80/");
        assert_eq!(to(&PLAIN, "[fd00::80]", "*"), "http://[fd00::80]/");
        assert_eq!(PLAIN.location(&Get("", "/"), BY_HTTP), None);
    }

    #[test]
    fn a_new_scheme_drops_the_port_of_the_old_one_only() {
        let https = Redirect { scheme: Some("https".to_owned()), ..PLAIN };
        assert_eq!(to(&https, "a.com:80", "/"), "https://a.com/");
        assert_eq!(to(&https, "a.com:8080", "/"), "https://a.com:8080/");
        assert_eq!(to(&https, "a.com:443", "/"), "https://a.com/");
    }

    #[test]
    fn ports_are_given_derived_and_never_written_when_default() {
        let port = |port| Redirect { port: Some(port), ..PLAIN };
        assert_eq!(to(&port(RedirectPort::Number(9000)), "a.com:81", "/"), "http://a.com:9000/");
        assert_eq!(to(&port(RedirectPort::Number(80)), "a.com:81", "/"), "http://a.com/");
        assert_eq!(to(&port(RedirectPort::Request), "a.com", "/"), "http://a.com:8080/");
        assert_eq!(to(&port(RedirectPort::SchemeDefault), "[fd00::1]:81", "/"), "http://[fd00::1]/");
        let https = Redirect { scheme: Some("https".to_owned()), ..port(RedirectPort::Number(443)) };
        assert_eq!(to(&https, "a.com:8080", "/"), "https://a.com/");
    }

    #[test]
    fn an_authority_replaces_host_and_port_and_a_path_is_rewritten() {
        let elsewhere = Redirect {
            authority: Some("b.com:8443".to_owned()),
            path: Some(PathRewrite::Prefix { matched: 2, text: "/new".to_owned() }),
            ..PLAIN
        };
        assert_eq!(to(&elsewhere, "a.com:81", "/a/x?y"), "http://b.com:8443/new/x?y");
        let port = Redirect { port: Some(RedirectPort::Number(7)), ..elsewhere };
        assert_eq!(to(&port, "a.com", "/a"), "http://b.com:7/new");
    }
}
