//! Why a request goes where it goes: the walk of the data plane, with what every candidate on the way was and why it
//! was not taken.
//!
//! The choices are made by the look-ups that the data plane uses; here they are only described.

mod action;
mod answer;
mod cluster;
mod connection;
mod endpoints;
mod question;
mod reasons;
mod tls;
mod told;
mod tries;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

pub use answer::{Explanation, ForeignGateway, HiddenServices, Rejected, Step, UnservedRules};
use cluster::Asked;
pub use question::{Entry, Question, Spoken};
use told::Told;

use crate::{
    Application, CameBy, ClusterTarget, ConnectionFacts, Direction, Elsewhere, FilterChain, ListenerId,
    LiveClusters, NetworkFilter, NoRoute, Normalized, RequestHead, RouteConfig, Snapshot, TlsContextId,
    Transport, UpstreamProtocol, VirtualHost, WeightedClusters, match_route,
};

const MISDIRECTED: &str = "421 NR misdirected_request: the host is served under another certificate or other rules \
                           for clients, so the client is to connect anew for it";

/// Candidates printed of a longer list.
const SHOWN: usize = 20;

/// Walks a request through a snapshot, to endpoints as `live` knows them.
pub fn explain<R: RequestHead>(
    question: &Question<'_, R>,
    snapshot: &Snapshot,
    live: &LiveClusters,
) -> Explanation {
    let is_captured = !matches!(question.entry, Entry::Port(_));
    let mut walk = Walk {
        snapshot,
        live,
        steps: Vec::new(),
        destination: UNKNOWN,
        is_captured,
        direction: Direction::Gateway,
    };
    let verdict = walk.connection(question);
    Explanation { steps: walk.steps, verdict }
}

/// Stands for what the client dialled while that is not known.
const UNKNOWN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

struct Walk<'s> {
    snapshot: &'s Snapshot,
    live: &'s LiveClusters,
    steps: Vec<Step>,
    /// What the client dialled.
    destination: SocketAddr,
    /// Of the listener that serves the client.
    direction: Direction,
    /// Whether the client dialled somebody else than the proxy.
    is_captured: bool,
}

/// The table that serves a connection, and where it was found.
struct Served<'s> {
    config: &'s RouteConfig,
    listener: ListenerId,
    tls: Option<TlsContextId>,
    /// Whether the client came by https, as far as that is believed.
    over_tls: bool,
}

impl<'s> Walk<'s> {
    fn connection<R: RequestHead>(&mut self, question: &Question<'_, R>) -> String {
        let Some(listener) = self.listener(question.entry) else {
            return "no listener: the connection is refused".to_owned();
        };
        let Some(chain) = self.filter_chain(question, listener) else {
            return format!(
                "connection closed (NR filter_chain_not_found){}",
                self.tls_mismatch(question, listener)
            );
        };
        if let Some(refused) = self.handshake(question.spoken != Spoken::ClearText, chain) {
            return refused;
        }
        let served = self.served(question, (listener, chain));
        match chain.tls.map(|tls| &self.snapshot.tls_context(tls).clients) {
            Some(clients) if clients.must_show() => format!("{served}, for clients that show a certificate"),
            _ => served,
        }
    }

    fn served<R: RequestHead>(
        &mut self,
        question: &Question<'_, R>,
        (listener, chain): (ListenerId, &'s FilterChain),
    ) -> String {
        match &chain.filter {
            NetworkFilter::Blackhole => {
                "connection closed: nothing is served here (BlackHoleCluster)".to_owned()
            }
            NetworkFilter::Tcp(tcp) => {
                let asked = |_: &_| question.server_name.unwrap_or_default();
                let clusters = self.clusters(&tcp.clusters, false, asked);
                let known = tcp.clusters.targets().iter().filter_map(|target| target.id);
                for cluster in known.map(|id| self.snapshot.cluster(id)) {
                    let Some(tunnel) = &cluster.tunnel else { continue };
                    let version = match cluster.protocol {
                        UpstreamProtocol::Http2 => "HTTP/2",
                        UpstreamProtocol::Http1 | UpstreamProtocol::AsDownstream => "HTTP/1.1",
                    };
                    let method = tunnel.method.as_str();
                    let because = format!("the endpoint is asked for it by {method} in {version} (tunnel)");
                    self.steps.push(Step::chosen("tunnel", &tunnel.far_end, because));
                }
                match clusters.strip_prefix("503 ") {
                    Some(why) => format!("connection closed: {why}"),
                    None => format!("TCP relayed to {clusters}; the bytes are not read as HTTP"),
                }
            }
            NetworkFilter::Http(http) => {
                let config = self.snapshot.route_config(http.route_config);
                let direction = self.snapshot.listener(listener).direction;
                let is_believed = direction.believes_scheme(self.snapshot.trusted_proxies() > 0);
                let over_tls = self.came_by_https(question.request, (direction, chain.tls.is_some()));
                let served = Served { config, listener, tls: chain.tls, over_tls };
                let asked = Told::new(question.request, if over_tls { "https" } else { "http" }, is_believed);
                if question.request.method() == "CONNECT" {
                    return "404 NR route_not_found: CONNECT is not routed".to_owned();
                }
                match Normalized::new(&asked, (http.path_normalization, http.escaped_slashes)) {
                    Ok(request) => match request.redirect() {
                        Some(location) => {
                            format!("307 path_normalization_failed: sent to {location} (escaped slashes)")
                        }
                        None => self.normalized(&asked, &request, &served),
                    },
                    Err(invalid) => format!("400 path_normalization_failed: {invalid}"),
                }
            }
        }
    }

    fn normalized(
        &mut self,
        asked: &impl RequestHead,
        request: &impl RequestHead,
        served: &Served<'s>,
    ) -> String {
        if asked.path_and_query() != request.path_and_query() {
            let because =
                "routes match the normal form of a path, and it is what goes on (pathNormalization)";
            self.steps.push(Step::chosen("path", request.path_and_query(), because));
        }
        self.routed(request, served)
    }

    /// Whether the client came by https, to this proxy or to those before it that are believed.
    fn came_by_https(
        &mut self,
        request: &impl RequestHead,
        (direction, over_tls): (Direction, bool),
    ) -> bool {
        let believed = direction == Direction::Gateway && self.snapshot.trusted_proxies() > 0;
        let told = request.header("x-forwarded-proto").filter(|_| believed);
        let (scheme, is_https) = match told.map(<[u8]>::to_ascii_lowercase).as_deref() {
            Some(b"https") => ("https", true),
            Some(b"http") => ("http", false),
            _ => return over_tls,
        };
        let because =
            "x-forwarded-proto is believed: there are proxies before the gateway (numTrustedProxies)";
        self.steps.push(Step::chosen("scheme", scheme, because));
        is_https
    }

    fn routed(&mut self, request: &impl RequestHead, served: &Served<'s>) -> String {
        if self.snapshot.is_misdirected(request.authority(), &self.over_tls(), (served.listener, served.tls))
        {
            return MISDIRECTED.to_owned();
        }
        let (config, over_tls) = (served.config, served.over_tls);
        let table = format!("route table {}", config.name());
        let found = match_route(request, over_tls, config);
        let Some(host) = config.select_virtual_host(request.authority()) else {
            let mut step =
                Step::nothing("virtual host", format!("{table} has none for `{}`", request.authority()));
            let others = config.virtual_hosts().iter().map(reasons::other_host);
            step.rejected =
                reasons::not_here(self.snapshot, request.authority()).chain(others).take(SHOWN).collect();
            self.steps.push(step);
            return self.elsewhere(request, served);
        };
        let mut step =
            Step::chosen("virtual host", host.name.as_str(), reasons::host(host, request.authority()));
        step.because.push(table);
        if host.require_tls && !over_tls && host.is_exempt(request.path()) {
            step.because.push("its path is exempt from the redirect to https".to_owned());
        }
        let others = reasons::less_specific_hosts(config, host, request.authority());
        if !reasons::has_the_very_name(host, request.authority()) {
            step.rejected.extend(reasons::not_here(self.snapshot, request.authority()).take(SHOWN));
        }
        step.rejected.extend(others);
        self.steps.push(step);
        match found {
            Err(NoRoute::TlsRequired) => {
                match config.https_ports().location(request, self.destination.port()) {
                    Some(location) => {
                        format!(
                            "301 redirect to {location}: {} wants https of clear text (httpsRedirect)",
                            if host.required_by.is_empty() { "the server" } else { &host.required_by }
                        )
                    }
                    None => "404 NR route_not_found: the request names no host to be sent to".to_owned(),
                }
            }
            Err(NoRoute::VirtualHost | NoRoute::Route) => {
                self.steps.push(Step {
                    rejected: reasons::earlier_routes(host, None, request, over_tls),
                    ..Step::nothing(
                        "route",
                        "no route of the virtual host matches; less specific hosts are not asked",
                    )
                });
                "404 NR route_not_found".to_owned()
            }
            Ok((host, route)) => self.action(host, route, request, over_tls),
        }
    }

    /// A connection over TLS, but for its server name.
    fn over_tls(&self) -> ConnectionFacts<'static> {
        let (transport, application) = (Transport::Tls, Application::Opaque);
        ConnectionFacts { destination: self.destination, server_name: None, transport, application }
    }

    /// The walk of a request whose host the table does not have.
    fn elsewhere(&mut self, request: &impl RequestHead, served: &Served<'s>) -> String {
        let of_tls = || self.snapshot.elsewhere(request, &self.over_tls(), (served.listener, served.tls));
        let found = served.tls.and_then(|_| of_tls());
        match found {
            None => "404 NR route_not_found".to_owned(),
            Some(Elsewhere::OtherRules) => MISDIRECTED.to_owned(),
            Some(Elsewhere::SameRules(host, route)) => {
                let because = "it is served by another server name of the port, under the same certificate and the \
                               same rules for clients";
                self.steps.push(Step::chosen("virtual host", host.name.as_str(), because));
                self.action(host, route, request, true)
            }
        }
    }

    fn action(
        &mut self,
        host: &'s VirtualHost,
        route: &'s crate::Route,
        request: &impl RequestHead,
        over_tls: bool,
    ) -> String {
        let mut step =
            Step::chosen("route", reasons::route_name(host, route), reasons::conditions(&route.matches));
        if let Some(owner) = &route.virtual_service {
            step.because.push(format!("written in VirtualService {owner}"));
        }
        if let Some(prefix) = &route.stat_prefix {
            step.because.push(format!("counted under its statPrefix `{prefix}`"));
        }
        step.rejected = reasons::earlier_routes(host, Some(route), request, over_tls);
        self.steps.push(step);
        let came_by =
            CameBy { scheme: if over_tls { "https" } else { "http" }, port: self.destination.port() };
        let (effects, ending) = action::describe(route, request, (self.direction, came_by));
        if !effects.is_empty() {
            self.steps.push(Step { stage: "action", chosen: None, because: effects, rejected: Vec::new() });
        }
        match ending {
            action::Ending::Answered(verdict) => verdict,
            action::Ending::Forwarded(forward) => {
                let asked = |target| forward.authority(target, request.authority());
                let clusters = self.clusters(&forward.clusters, true, asked);
                if clusters.starts_with("503") { clusters } else { format!("forwarded to {clusters}") }
            }
        }
    }

    /// Describes the destinations; returns where it goes in words, or the answer when it goes nowhere. `asked` says by
    /// what name a destination is asked for.
    fn clusters<'c>(
        &mut self,
        clusters: &'c WeightedClusters,
        is_request: bool,
        asked: impl Fn(&'c ClusterTarget) -> &'c str,
    ) -> String {
        let mut ends = Vec::new();
        for target in clusters.targets() {
            let known = (self.snapshot, self.live);
            let asked = Asked { name: asked(target), is_request, is_captured: self.is_captured };
            let (step, end) = cluster::describe(known, (target, clusters), asked);
            self.steps.push(step);
            ends.push(end);
        }
        ends.join(", or ")
    }
}
