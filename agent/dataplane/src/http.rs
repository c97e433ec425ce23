//! HTTP requests: what both codecs share. Each request is routed by itself, from the snapshot that is current when
//! its head has arrived.

mod affinity;
mod exchange;
mod frames;
mod h1;
mod h2;
mod head;
mod pump;

use std::{net::SocketAddr, time::Instant};

use snapshot::{ClusterId, NoRoute, RequestHead, RouteAction, RouteConfigId, match_route};

use crate::{
    access_log::{Entry, Field, RequestLine},
    balance::Choice,
    buffer::PooledBuffer,
    connection::Connection,
    failure::LocalReply,
    telemetry::RequestKey,
    transport::Transport,
    upstream::Lease,
    view::View,
};

/// Serves a connection whose chain says HTTP, in the version the client speaks.
///
/// `first` holds what inspection has read.
pub(crate) async fn serve<S: Transport + 'static>(
    connection: Connection,
    mut stream: S,
    first: Option<PooledBuffer>,
) {
    match h1::await_preface(&connection, &mut stream, first).await {
        Some((received, true)) => h2::serve(connection, stream, received).await,
        Some((received, false)) => h1::serve(&connection, stream, received).await,
        None => {}
    }
}

const SWITCHING_PROTOCOLS: u16 = 101;

/// Size of a head, Envoy's default. The number of fields is bounded by the codec.
const LIMITS: http1::Limits = http1::Limits { head_bytes: 60 * 1024 };

/// What matters of a method: whether the answer has a body, and whether asking twice does no harm (RFC 9110 §9.2.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Method {
    Head,
    Idempotent,
    Other,
}

impl Method {
    fn of(method: &str) -> Self {
        match method {
            "HEAD" => Self::Head,
            "GET" | "OPTIONS" | "PUT" | "DELETE" | "TRACE" => Self::Idempotent,
            _ => Self::Other,
        }
    }

    /// The method as far as the framing of the answer depends on it.
    fn name_for_framing(self) -> &'static str {
        match self {
            Self::Head => "HEAD",
            Self::Idempotent | Self::Other => "GET",
        }
    }
}

/// What is to be done with a request, and the names that the log has for it.
pub(crate) struct Routed<'v> {
    action: Action<'v>,
    cluster: Option<&'v str>,
    route: Option<&'v str>,
}

impl<'v> Routed<'v> {
    fn reply(reply: LocalReply<'v>) -> Self {
        Self { action: Action::Reply(reply), cluster: None, route: None }
    }

    fn to_https(request: &impl RequestHead, own_port: u16) -> Self {
        match https_location(request.authority(), request.path_and_query(), own_port) {
            Some(location) => Self { action: Action::Redirect(location), cluster: None, route: None },
            None => Self::reply(LocalReply::no_route(NoRoute::TlsRequired)),
        }
    }
}

/// The same request over https, or `None` when the client named no host. A port that clear text came in by is left
/// out: nobody speaks TLS there.
fn https_location(authority: &str, path_and_query: &str, own_port: u16) -> Option<String> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let clear_text = |port: &str| port == "80" || port.parse() == Ok(own_port);
    let host = if port.is_some_and(clear_text) { host } else { authority };
    // `OPTIONS *` has no path.
    let path = if path_and_query.starts_with('/') { path_and_query } else { "/" };
    (!host.is_empty()).then(|| format!("https://{host}{path}"))
}

enum Action<'v> {
    /// Sent to this endpoint of this cluster.
    Forward(Lease, ClusterId),
    /// Answered here.
    Reply(LocalReply<'v>),
    /// Sent to this URI.
    Redirect(String),
}

/// Decides what becomes of a request.
fn route_head<'v>(
    connection: &Connection,
    head: &impl RequestHead,
    view: &'v View,
    config: RouteConfigId,
) -> Routed<'v> {
    if head.method() == "CONNECT" {
        // No route takes CONNECT unless it says so, and none can yet.
        return Routed::reply(LocalReply::no_route(NoRoute::Route));
    }
    route(head, view, config, (connection, fastrand::u64(..)))
}

/// Finds the route for a request and picks an endpoint. `draw` decides among clusters and endpoints.
pub(crate) fn route<'v>(
    request: &impl RequestHead,
    view: &'v View,
    config: RouteConfigId,
    (connection, draw): (&Connection, u64),
) -> Routed<'v> {
    let route = match match_route(request, connection.is_over_tls(), view.snapshot.route_config(config)) {
        Ok((_, route)) => route,
        Err(NoRoute::TlsRequired) => return Routed::to_https(request, connection.destination.port()),
        Err(missing) => return Routed::reply(LocalReply::no_route(missing)),
    };
    let name = route.name.as_deref();
    match &route.action {
        RouteAction::DirectResponse { status, body } => {
            Routed { action: Action::Reply(LocalReply::direct(*status, body)), cluster: None, route: name }
        }
        RouteAction::Redirect(_) => {
            Routed { action: Action::Reply(LocalReply::direct(501, "")), cluster: None, route: name }
        }
        RouteAction::Forward(forward) => {
            let target = forward.clusters.pick(draw);
            let pick = |id| {
                let hash = affinity::hash(request, &view.snapshot.cluster(id).load_balancer, connection.peer);
                let choice = Choice { draw: draw.rotate_left(17), hash };
                (view.pick(id, connection.origin(), choice), id)
            };
            let action = match target.id.map(pick) {
                None => Action::Reply(LocalReply::NO_CLUSTER),
                Some((None, _)) => Action::Reply(LocalReply::NO_HEALTHY_UPSTREAM),
                Some((Some(lease), id)) => match lease.admit_request() {
                    Ok(lease) => Action::Forward(lease, id),
                    Err(reply) => Action::Reply(reply),
                },
            };
            Routed { action, cluster: Some(&target.name), route: name }
        }
    }
}

/// What became of a request, for the access log.
#[derive(Clone, Copy, Default)]
pub(crate) struct Outcome<'o> {
    status: u16,
    flags: &'o str,
    details: &'o str,
    received: u64,
    sent: u64,
    service_time: Option<u64>,
    upstream: Option<SocketAddr>,
    upstream_local: Option<SocketAddr>,
    cluster: Option<&'o str>,
    route: Option<&'o str>,
}

impl<'o> Outcome<'o> {
    fn reply(reply: &LocalReply<'o>) -> Self {
        let sent = reply.body.len() as u64;
        Self { status: reply.status, flags: reply.flags, details: reply.details, sent, ..Self::default() }
    }

    /// With the endpoint it went to, and our side of the connection.
    fn at(self, upstream: &Lease, local: Option<SocketAddr>) -> Self {
        Self { upstream: Some(upstream.address), upstream_local: local, ..self }
    }
}

/// Counts a request that has ended, and writes its access log line if the log is on.
fn log(connection: &Connection, start: Instant, line: &RequestLine, outcome: &Outcome<'_>) {
    let duration = start.elapsed();
    let key = RequestKey {
        cluster: outcome.cluster.unwrap_or_default(),
        direction: connection.direction,
        status: outcome.status,
        flags: outcome.flags,
        grpc: None,
    };
    connection.worker().recorder.request(key, duration, (outcome.received, outcome.sent));
    let Some(log) = &connection.worker().log else { return };
    log.record(&Entry {
        start: connection.wall_time(start),
        duration,
        request: Some(line),
        status: outcome.status,
        flags: outcome.flags,
        details: outcome.details,
        received: outcome.received,
        sent: outcome.sent,
        service_time: outcome.service_time,
        upstream: outcome.upstream,
        cluster: outcome.cluster,
        upstream_local: outcome.upstream_local,
        downstream_local: connection.destination,
        downstream_remote: connection.peer,
        server_name: connection.server_name(),
        route: outcome.route,
    });
}

/// Copies what the log shows of a request.
fn record_request(line: &mut RequestLine, request: &impl RequestHead, protocol: &str, added: &head::Added) {
    line.clear();
    line.push(Field::Method, request.method().as_bytes());
    line.push(Field::Path, request.path_and_query().as_bytes());
    line.push(Field::Protocol, protocol.as_bytes());
    added.record_forwarded_for(line, request);
    line.push(Field::UserAgent, request.header("user-agent").unwrap_or_default());
    added.record_request_id(line, request);
    line.push(Field::Authority, request.authority().as_bytes());
}

#[cfg(test)]
mod tests {
    use super::https_location;

    #[test]
    fn redirects_keep_host_path_and_foreign_ports() {
        let to = |authority, path| https_location(authority, path, 8080).unwrap();
        assert_eq!(to("a.com", "/b?c=d"), "https://a.com/b?c=d");
        assert_eq!(to("a.com:80", "/"), "https://a.com/");
        assert_eq!(to("a.com:8080", "/"), "https://a.com/");
        assert_eq!(to("a.com:30080", "/"), "https://a.com:30080/");
        assert_eq!(to("[fd00::80]", "/"), "https://[fd00::80]/");
        assert_eq!(to("[fd00::1]:8080", "*"), "https://[fd00::1]/");
        assert_eq!(https_location("", "/", 8080), None);
    }
}
