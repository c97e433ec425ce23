//! Listeners and the choice of a filter chain for a newly accepted connection.

use std::net::SocketAddr;

use crate::{
    RouteConfigId,
    hosts::{HostName, HostPattern},
    route::WeightedClusters,
    tls::TlsContextId,
};

/// Where connections come in and what serves them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Listener {
    /// Istio's name: `0.0.0.0_8080`, `virtualOutbound`, `10.0.0.7_3306`.
    pub name: String,
    /// Which side of the workload it serves; decides the headers added.
    pub direction: Direction,
    /// How connections reach it.
    pub binding: Binding,
    /// Chosen among by [`select_filter_chain`].
    pub filter_chains: Vec<FilterChain>,
    /// Serves what no other chain accepts; without it such connections are closed (NR).
    pub default_filter_chain: Option<FilterChain>,
}

impl Listener {
    /// Whether some chain terminates TLS, so that clients are expected to speak first and to name the server.
    pub fn terminates_tls(&self) -> bool {
        self.filter_chains.iter().chain(&self.default_filter_chain).any(|chain| chain.tls.is_some())
    }

    /// Whether choosing a chain for this destination port depends on what the client sends first.
    ///
    /// Chains for this very port shut out those for any port, so only they are asked when there are some.
    pub fn needs_inspection(&self, destination_port: u16) -> bool {
        let for_port = |port: Option<u16>| {
            self.filter_chains.iter().map(|chain| &chain.matches).filter(move |m| m.destination_port == port)
        };
        let own = for_port(Some(destination_port)).next().is_some();
        for_port(own.then_some(destination_port)).any(FilterChainMatch::depends_on_bytes)
    }
}

/// Side of the workload that a listener serves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// The application's own calls (15001).
    Outbound,
    /// Calls to the application (15006).
    Inbound,
    /// Traffic entering the mesh at a gateway.
    Gateway,
}

/// How connections reach a listener.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Binding {
    /// A socket of its own. An unspecified IPv4 address also takes IPv6 connections where the kernel has IPv6.
    Socket(SocketAddr),
    /// No socket: connections captured by the outbound listener whose original destination is this address. An
    /// unspecified address stands for every address of either family.
    Captured(SocketAddr),
}

/// One way of serving a connection, and the connections it is meant for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FilterChain {
    /// Istio's name, for logs and dumps.
    pub name: String,
    /// Conditions; all must hold.
    pub matches: FilterChainMatch,
    /// How TLS is terminated; `None` leaves the bytes as they are.
    pub tls: Option<TlsContextId>,
    /// What serves the connection.
    pub filter: NetworkFilter,
}

/// Conditions of a filter chain; those absent hold for every connection.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct FilterChainMatch {
    /// Port of the original destination.
    pub destination_port: Option<u16>,
    /// Server names asked for in the client hello; empty means any or none.
    pub server_names: Vec<HostPattern>,
    /// Whether the client speaks TLS.
    pub transport: Option<Transport>,
    /// What the clear-text bytes look like.
    pub application: Option<Application>,
}

impl FilterChainMatch {
    fn depends_on_bytes(&self) -> bool {
        !self.server_names.is_empty() || self.transport.is_some() || self.application.is_some()
    }
}

/// How the first bytes of a connection are wrapped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Transport {
    /// Clear text.
    RawBuffer,
    /// A TLS record.
    Tls,
}

/// What the clear-text bytes of a connection look like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Application {
    /// An HTTP/1 request line or the HTTP/2 preface.
    Http,
    /// Anything else, nothing, or a server that spoke first.
    Opaque,
}

/// What serves a connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NetworkFilter {
    /// HTTP requests, each routed by itself.
    Http(HttpConnections),
    /// Bytes, relayed to one upstream.
    Tcp(TcpProxy),
    /// Nothing: closed at once.
    Blackhole,
}

/// How HTTP requests of a chain are served.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HttpConnections {
    /// The route table.
    pub route_config: RouteConfigId,
}

/// Where the bytes of an opaque connection go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TcpProxy {
    /// One cluster is picked per connection.
    pub clusters: WeightedClusters,
}

/// What is known about a connection when its filter chain is chosen.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionFacts<'c> {
    /// Where the client wanted to go: the original destination when captured, else the local address.
    pub destination: SocketAddr,
    /// Server name of the client hello.
    pub server_name: Option<&'c str>,
    /// Whether the client speaks TLS.
    pub transport: Transport,
    /// What the clear text looks like; `Opaque` under TLS.
    pub application: Application,
}

/// Returns the filter chain that serves this connection, or `None` when the listener has none for it.
///
/// Follows Envoy's order: destination port, server name, transport protocol, application protocol. Each step keeps
/// the most specific matches and drops the rest, without going back: a chain dropped for its port is never revived
/// by a matching server name.
pub fn select_filter_chain<'s>(
    connection: &ConnectionFacts<'_>,
    listener: &'s Listener,
) -> Option<&'s FilterChain> {
    let server_name = connection.server_name.map(HostName::of_authority);
    let mut left: Vec<&FilterChain> = listener.filter_chains.iter().collect();
    keep_best(&mut left, |m| optional(m.destination_port, connection.destination.port()));
    keep_best(&mut left, |m| server_name_rank(&m.server_names, server_name.as_ref()));
    keep_best(&mut left, |m| optional(m.transport, connection.transport));
    keep_best(&mut left, |m| optional(m.application, connection.application));
    left.first().copied().or(listener.default_filter_chain.as_ref())
}

/// Keeps the chains with the highest rank; `None` means the condition fails.
fn keep_best(chains: &mut Vec<&FilterChain>, rank: impl Fn(&FilterChainMatch) -> Option<usize>) {
    let best = chains.iter().filter_map(|chain| rank(&chain.matches)).max();
    chains.retain(|chain| best.is_some() && rank(&chain.matches) == best);
}

fn optional<T: PartialEq>(condition: Option<T>, value: T) -> Option<usize> {
    match condition {
        None => Some(0),
        Some(wanted) if wanted == value => Some(1),
        Some(_) => None,
    }
}

/// Exact names rank above suffixes, longer suffixes above shorter, any suffix above no condition.
fn server_name_rank(patterns: &[HostPattern], name: Option<&HostName>) -> Option<usize> {
    let rank = |pattern: &HostPattern| match pattern {
        HostPattern::Exact(_) => usize::MAX,
        HostPattern::Suffix(suffix) => suffix.len(),
        HostPattern::Any => 0,
    };
    if patterns.is_empty() {
        return Some(0);
    }
    let name = name.map_or("", HostName::as_str);
    patterns.iter().filter(|pattern| pattern.covers(name)).map(rank).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(name: &str, matches: FilterChainMatch) -> FilterChain {
        FilterChain { name: name.to_owned(), matches, tls: None, filter: NetworkFilter::Blackhole }
    }

    fn listener(filter_chains: Vec<FilterChain>) -> Listener {
        Listener {
            name: "test".to_owned(),
            direction: Direction::Inbound,
            binding: Binding::Socket("0.0.0.0:15006".parse().unwrap()),
            filter_chains,
            default_filter_chain: Some(chain("default", FilterChainMatch::default())),
        }
    }

    fn facts(port: u16, server_name: Option<&str>, application: Application) -> ConnectionFacts<'_> {
        let transport = if server_name.is_some() { Transport::Tls } else { Transport::RawBuffer };
        ConnectionFacts { destination: ([10, 0, 0, 1], port).into(), server_name, transport, application }
    }

    fn selected(listener: &Listener, facts: &ConnectionFacts<'_>) -> String {
        select_filter_chain(facts, listener).map(|chain| chain.name.clone()).unwrap_or_default()
    }

    #[test]
    fn port_then_application_decides() {
        let http = Some(Application::Http);
        let listener = listener(vec![
            chain("8080", FilterChainMatch { destination_port: Some(8080), ..FilterChainMatch::default() }),
            chain("http", FilterChainMatch { application: http, ..FilterChainMatch::default() }),
        ]);
        assert_eq!(selected(&listener, &facts(8080, None, Application::Http)), "8080");
        assert_eq!(selected(&listener, &facts(9090, None, Application::Http)), "http");
        assert_eq!(selected(&listener, &facts(9090, None, Application::Opaque)), "default");
    }

    #[test]
    fn a_port_with_chains_of_its_own_is_inspected_only_if_they_ask_for_it() {
        let on = |destination_port, application| {
            chain("c", FilterChainMatch { destination_port, application, ..FilterChainMatch::default() })
        };
        let http = Some(Application::Http);
        let listener =
            listener(vec![on(Some(8080), None), on(Some(9090), http), on(Some(9090), None), on(None, http)]);
        assert!(!listener.needs_inspection(8080));
        assert!(listener.needs_inspection(9090));
        assert!(listener.needs_inspection(7070));
    }

    #[test]
    fn most_specific_server_name_wins_without_going_back() {
        let names = |name: &str, port| {
            let server_names = vec![name.parse().unwrap()];
            chain(
                name,
                FilterChainMatch { destination_port: port, server_names, ..FilterChainMatch::default() },
            )
        };
        let listener = listener(vec![
            names("*.foo.com", None),
            names("a.foo.com", None),
            names("*.com", None),
            names("other.com", Some(443)),
        ]);
        assert_eq!(selected(&listener, &facts(80, Some("A.foo.com"), Application::Opaque)), "a.foo.com");
        assert_eq!(selected(&listener, &facts(80, Some("b.foo.com"), Application::Opaque)), "*.foo.com");
        assert_eq!(selected(&listener, &facts(80, Some("foo.com"), Application::Opaque)), "*.com");
        assert_eq!(selected(&listener, &facts(80, None, Application::Opaque)), "default");
        assert_eq!(selected(&listener, &facts(443, Some("a.foo.com"), Application::Opaque)), "default");
    }

    #[test]
    fn only_chains_of_the_port_ask_for_inspection() {
        let listener = listener(vec![chain(
            "8080-http",
            FilterChainMatch {
                destination_port: Some(8080),
                application: Some(Application::Http),
                ..FilterChainMatch::default()
            },
        )]);
        assert!(listener.needs_inspection(8080));
        assert!(!listener.needs_inspection(9090));
    }
}
