//! Route configurations: authority → virtual host → first route that matches.

mod action;
mod combined_patterns;
mod cors;
mod edits;
mod fault;
mod https;
mod index;
mod list;
mod matches;
mod overrides;
mod pattern;
mod redirect;
mod retry;
mod rewrite;
mod share;
#[cfg(test)]
mod testing;
mod time_limit;
mod weighted;

pub use action::{Forward, Mirror, RouteAction};
pub use cors::{CorsPolicy, CorsVerdict};
pub use edits::{Edits, HeaderEdits};
pub use fault::{AbortStatus, Fault};
pub use https::HttpsPorts;
pub use list::RouteList;
pub use matches::{HeaderMatch, Mismatch, PathMatch, PathText, QueryMatch, RouteMatch, TextMatch};
pub use overrides::{RequestOverrides, after_envoy_prefix};
pub use pattern::Pattern;
pub use redirect::{CameBy, Redirect, RedirectPort};
pub use retry::{RetryCondition, RetryOn, RetryPolicy};
pub use rewrite::{PathRewrite, Rewrite, SearchPattern};
pub use share::Share;
pub use time_limit::{TimeLimit, TimeLimitOf};
pub use weighted::{ClusterTarget, WeightedClusters};

use std::{net::IpAddr, sync::Arc};

use crate::{
    hosts::{HostName, HostPattern, HostTable},
    request::RequestHead,
};

/// A route table, shared by every filter chain that names it.
#[derive(Clone, Debug)]
pub struct RouteConfig {
    name: String,
    virtual_hosts: Vec<VirtualHost>,
    by_host: HostTable<u32>,
    https: Arc<HttpsPorts>,
}

impl RouteConfig {
    /// Makes the table. A domain that two virtual hosts claim belongs to the first.
    pub fn new(name: impl Into<String>, virtual_hosts: Vec<VirtualHost>) -> Self {
        let mut by_host = HostTable::with_room(virtual_hosts.iter().flat_map(|host| &host.domains));
        for (index, host) in (0..).zip(&virtual_hosts) {
            for domain in &host.domains {
                by_host.insert(domain, index);
            }
        }
        Self { name: name.into(), virtual_hosts, by_host, https: Arc::default() }
    }

    /// The same table, with the ports that hosts which require TLS are served at.
    #[must_use]
    pub fn with_https_ports(mut self, https: Arc<HttpsPorts>) -> Self {
        self.https = https;
        self
    }

    /// Where the servers of the gateway speak TLS; known where clear text is redirected.
    pub fn https_ports(&self) -> &HttpsPorts {
        &self.https
    }

    /// Istio's name of the table: `http.8080`, `9080`, `inbound|8080||`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The virtual hosts, in dump order.
    pub fn virtual_hosts(&self) -> &[VirtualHost] {
        &self.virtual_hosts
    }

    /// The virtual host for an authority: exact name, then longest suffix, then `*`. The port is not looked at.
    pub fn select_virtual_host(&self, authority: &str) -> Option<&VirtualHost> {
        self.virtual_hosts.get(self.position(authority)?)
    }

    /// Whether a service of the table has this address, as sidecars list it beside the service's names.
    pub(crate) fn has_address(&self, ip: IpAddr) -> bool {
        let authority = match ip {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        let listed = |domain: &HostPattern| matches!(domain, HostPattern::Exact(name) if *name == authority);
        self.select_virtual_host(&authority).is_some_and(|host| host.domains.iter().any(listed))
    }

    fn position(&self, authority: &str) -> Option<usize> {
        self.by_host.find(&HostName::of_authority(authority)).map(|index| index as usize)
    }
}

// The table of hosts follows from the virtual hosts.
impl PartialEq for RouteConfig {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.virtual_hosts == other.virtual_hosts && self.https == other.https
    }
}

impl Eq for RouteConfig {}

/// The routes of a set of host names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VirtualHost {
    /// Istio's name: `<host>:<declared port>`, `allow_any`, `blackhole:<port>`.
    pub name: String,
    /// Host patterns served.
    pub domains: Vec<HostPattern>,
    /// Whether requests that came in clear text are redirected to https, whatever the routes say
    /// (`httpsRedirect`).
    pub require_tls: bool,
    /// The server that says so, as [`explain`](crate::explain()) names it; empty where none does.
    pub required_by: String,
    /// Beginnings of paths that are served in clear text all the same, as authorities ask for when they issue
    /// certificates (ACME, RFC 8555 §8.3).
    pub tls_exempt: Vec<String>,
    /// Tried in order; the first that matches is taken.
    pub routes: RouteList,
}

impl VirtualHost {
    /// Whether a path is served in clear text although the host requires TLS. One that another reader might take for a
    /// path elsewhere is not.
    pub fn is_exempt(&self, path: &str) -> bool {
        let is_plain = || !path.contains("..") && !path.contains(['\\', '%']);
        self.tls_exempt.iter().any(|exempt| path.starts_with(exempt)) && is_plain()
    }
}

/// What to do with requests that satisfy `matches`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Route {
    /// Name for the access log (`%ROUTE_NAME%`): the user's, or `default` for generated routes; `None` prints `-`.
    pub name: Option<String>,
    /// What its requests are counted under, besides (`statPrefix`).
    pub stat_prefix: Option<Arc<str>>,
    /// The resource the route was written in, `<namespace>/<name>` of a VirtualService; `None` for generated routes.
    pub virtual_service: Option<Arc<str>>,
    /// All conditions must hold.
    pub matches: RouteMatch,
    /// What happens then.
    pub action: RouteAction,
    /// Changes to headers; they apply to every kind of action.
    pub headers: Option<Box<HeaderEdits>>,
    /// Cross-origin rules, asked before everything else.
    pub cors: Option<Box<CorsPolicy>>,
    /// Faults injected before the action.
    pub fault: Option<Box<Fault>>,
}

impl Route {
    /// A route without name, counts of its own, owner, header changes, cross-origin rules or faults.
    pub fn new(matches: RouteMatch, action: RouteAction) -> Self {
        Self {
            name: None,
            stat_prefix: None,
            virtual_service: None,
            matches,
            action,
            headers: None,
            cors: None,
            fault: None,
        }
    }
}

/// Why no route was found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NoRoute {
    /// No virtual host serves the authority: 404 NR.
    VirtualHost,
    /// The virtual host has no route for the request: 404 NR. There is no falling through to a less specific host.
    Route,
    /// The virtual host is served over TLS only: the client is redirected there.
    TlsRequired,
}

/// Returns the first route of the request's virtual host whose conditions all hold.
///
/// `over_tls` tells how the request came in; without it a host that requires TLS has no routes.
pub fn match_route<'s>(
    request: &impl RequestHead,
    over_tls: bool,
    config: &'s RouteConfig,
) -> Result<(&'s VirtualHost, &'s Route), NoRoute> {
    let position = config.position(request.authority()).ok_or(NoRoute::VirtualHost)?;
    let host = &config.virtual_hosts[position];
    if host.require_tls && !over_tls && !host.is_exempt(request.path()) {
        return Err(NoRoute::TlsRequired);
    }
    host.routes.first(request, over_tls).map(|route| (host, route)).ok_or(NoRoute::Route)
}

#[cfg(test)]
mod tests {
    use super::*;
    use testing::Get;

    fn route(path: PathMatch, status: u16) -> Route {
        let action = RouteAction::DirectResponse { status, body: String::new() };
        Route::new(RouteMatch::on_path(path), action)
    }

    fn config() -> RouteConfig {
        let host = |domain: &str, routes: Vec<Route>| VirtualHost {
            name: format!("{domain}:80"),
            domains: vec![domain.parse().unwrap()],
            require_tls: domain == "tls.com",
            required_by: String::new(),
            tls_exempt: vec!["/.well-known/".to_owned()],
            routes: routes.into(),
        };
        RouteConfig::new(
            "http.80",
            vec![
                host(
                    "a.com",
                    vec![route(PathMatch::exact("/only"), 201), route(PathMatch::prefix("/on"), 202)],
                ),
                host("*", vec![route(PathMatch::Any, 203)]),
                host("tls.com", vec![route(PathMatch::exact("/"), 204)]),
            ],
        )
    }

    #[test]
    fn exempt_paths_are_served_in_clear_text() {
        let found = |path| match_route(&Get("tls.com", path), false, &config()).map(|_| ());
        // The host has no rule for it.
        assert_eq!(found("/.well-known/acme"), Err(NoRoute::Route));
        for path in ["/", "/.well-known", "/.well-known/../", "/.well-known/%2e%2e/", "/.well-known/\\x"] {
            assert_eq!(found(path), Err(NoRoute::TlsRequired), "{path}");
        }
    }

    fn status(request: &Get) -> Result<u16, NoRoute> {
        match_route(request, false, &config()).map(|(_, route)| match route.action {
            RouteAction::DirectResponse { status, .. } => status,
            RouteAction::Forward(_) | RouteAction::Redirect(_) => 0,
        })
    }

    #[test]
    fn first_matching_route_wins_and_the_query_is_not_matched() {
        assert_eq!(status(&Get("a.com", "/only?x=/y")), Ok(201));
        assert_eq!(status(&Get("A.com:8080", "/only/more")), Ok(202));
        assert_eq!(status(&Get("b.com", "/")), Ok(203));
    }

    #[test]
    fn exact_host_without_route_does_not_fall_through_to_the_wildcard() {
        assert_eq!(status(&Get("a.com", "/other")), Err(NoRoute::Route));
    }

    #[test]
    fn a_host_that_requires_tls_redirects_whatever_its_routes_say() {
        for path in ["/", "/other"] {
            assert_eq!(status(&Get("tls.com", path)), Err(NoRoute::TlsRequired));
        }
        let over_tls = |path| match_route(&Get("tls.com", path), true, &config()).map(|_| ());
        assert_eq!((over_tls("/"), over_tls("/other")), (Ok(()), Err(NoRoute::Route)));
    }
}
