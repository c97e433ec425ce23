//! Route configurations: authority → virtual host → first route that matches.

use crate::{
    ClusterId,
    hosts::{HostName, HostPattern, HostTable},
    request::RequestHead,
};

/// A route table, shared by every filter chain that names it.
#[derive(Clone, Debug)]
pub struct RouteConfig {
    name: String,
    virtual_hosts: Vec<VirtualHost>,
    by_host: HostTable<u32>,
}

impl RouteConfig {
    /// Makes the table. A domain that two virtual hosts claim belongs to the first.
    pub fn new(name: impl Into<String>, virtual_hosts: Vec<VirtualHost>) -> Self {
        let mut by_host = HostTable::default();
        for (index, host) in (0..).zip(&virtual_hosts) {
            for domain in &host.domains {
                by_host.insert(domain, index);
            }
        }
        Self { name: name.into(), virtual_hosts, by_host }
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
        let index = self.by_host.find(&HostName::of_authority(authority))?;
        self.virtual_hosts.get(index as usize)
    }
}

// The index follows from the virtual hosts.
impl PartialEq for RouteConfig {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.virtual_hosts == other.virtual_hosts
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
    /// Tried in order; the first that matches is taken.
    pub routes: Vec<Route>,
}

/// What to do with requests that satisfy `matches`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Route {
    /// Name for the access log (`%ROUTE_NAME%`): the user's, or `default` for generated routes; `None` prints `-`.
    pub name: Option<String>,
    /// The resource the route was written in, `<namespace>/<name>` of a VirtualService; `None` for generated routes.
    pub virtual_service: Option<String>,
    /// All conditions must hold.
    pub matches: RouteMatch,
    /// What happens then.
    pub action: RouteAction,
}

/// Conditions of a route; the default matches everything.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RouteMatch {
    /// Condition on the path without query.
    pub path: PathMatch,
}

impl RouteMatch {
    /// Whether every condition holds for `request`.
    pub fn matches(&self, request: &impl RequestHead) -> bool {
        self.path.matches(request.path())
    }
}

/// Condition on a request's path (VirtualService `match.uri`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum PathMatch {
    /// Every path.
    #[default]
    Any,
    /// The whole path, case-sensitive.
    Exact(String),
    /// The beginning of the path, as plain text: `/foo` also matches `/foobar`.
    Prefix(String),
}

impl PathMatch {
    /// Whether `path`, without its query, fulfils the condition.
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(whole) => path == whole,
            Self::Prefix(start) => path.as_bytes().starts_with(start.as_bytes()),
        }
    }
}

/// What a route does with a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RouteAction {
    /// Sends it to one of several clusters.
    Forward(WeightedClusters),
    /// Answers it without an upstream.
    DirectResponse {
        /// Status code, 200–599.
        status: u16,
        /// Body as it is sent; may be empty.
        body: String,
    },
}

/// A cluster that a route names, whether or not it exists.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClusterTarget {
    /// `outbound|<port>|<subset>|<host>`, for logs and dumps.
    pub name: String,
    /// `None` when no service stands behind the name: requests are answered 503 NC.
    pub id: Option<ClusterId>,
    /// Share of the requests, relative to the sum of all; zero means never.
    pub weight: u32,
}

/// The destinations of a route, at least one of them with a positive weight.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WeightedClusters {
    targets: Vec<ClusterTarget>,
    total: u64,
}

impl WeightedClusters {
    /// Takes the destinations of a route. A single destination gets every request whatever its weight, as in Istio.
    ///
    /// Returns `None` when there is no destination, or several whose weights add up to zero.
    pub fn new(targets: Vec<ClusterTarget>) -> Option<Self> {
        let total = match targets.as_slice() {
            [] => 0,
            [_] => 1,
            several => several.iter().map(|target| u64::from(target.weight)).sum(),
        };
        (total > 0).then_some(Self { targets, total })
    }

    /// The destinations, in the order written.
    pub fn targets(&self) -> &[ClusterTarget] {
        &self.targets
    }

    /// Chooses a destination; `draw` is a uniformly random number.
    pub fn pick(&self, draw: u64) -> &ClusterTarget {
        let mut left = draw % self.total;
        let chosen = self.targets.iter().find(|target| match left.checked_sub(u64::from(target.weight)) {
            Some(rest) => {
                left = rest;
                false
            }
            None => true,
        });
        // A single destination may have weight zero; otherwise the weights add up to `total` and one is found.
        chosen.unwrap_or(&self.targets[0])
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
    let host = config.select_virtual_host(request.authority()).ok_or(NoRoute::VirtualHost)?;
    if host.require_tls && !over_tls {
        return Err(NoRoute::TlsRequired);
    }
    let route = host.routes.iter().find(|route| route.matches.matches(request)).ok_or(NoRoute::Route)?;
    Ok((host, route))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Get(&'static str, &'static str);

    impl RequestHead for Get {
        fn method(&self) -> &str {
            "GET"
        }
        fn authority(&self) -> &str {
            self.0
        }
        fn path_and_query(&self) -> &str {
            self.1
        }
        fn header(&self, _: &str) -> Option<&[u8]> {
            None
        }
        fn visit_headers(&self, _: &mut dyn FnMut(&str, &[u8])) {}
    }

    fn route(path: PathMatch, status: u16) -> Route {
        Route {
            name: None,
            virtual_service: None,
            matches: RouteMatch { path },
            action: RouteAction::DirectResponse { status, body: String::new() },
        }
    }

    fn config() -> RouteConfig {
        let host = |domain: &str, routes| VirtualHost {
            name: format!("{domain}:80"),
            domains: vec![domain.parse().unwrap()],
            require_tls: domain == "tls.com",
            routes,
        };
        RouteConfig::new(
            "http.80",
            vec![
                host(
                    "a.com",
                    vec![
                        route(PathMatch::Exact("/only".into()), 201),
                        route(PathMatch::Prefix("/on".into()), 202),
                    ],
                ),
                host("*", vec![route(PathMatch::Any, 203)]),
                host("tls.com", vec![route(PathMatch::Exact("/".into()), 204)]),
            ],
        )
    }

    fn status(request: &Get) -> Result<u16, NoRoute> {
        match_route(request, false, &config()).map(|(_, route)| match route.action {
            RouteAction::DirectResponse { status, .. } => status,
            RouteAction::Forward(_) => 0,
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

    fn target(name: &str, weight: u32) -> ClusterTarget {
        ClusterTarget { name: name.into(), id: None, weight }
    }

    #[test]
    fn weights_divide_the_draws() {
        let clusters = WeightedClusters::new(vec![target("a", 1), target("off", 0), target("b", 3)]).unwrap();
        let names: Vec<_> = (0..5).map(|draw| clusters.pick(draw).name.as_str()).collect();
        assert_eq!(names, ["a", "b", "b", "b", "a"]);
    }

    #[test]
    fn one_destination_needs_no_weight_and_several_need_a_positive_sum() {
        assert_eq!(WeightedClusters::new(vec![target("a", 0)]).unwrap().pick(7).name, "a");
        assert!(WeightedClusters::new(vec![target("a", 0), target("b", 0)]).is_none());
        assert!(WeightedClusters::new(vec![]).is_none());
    }
}
