//! HTTP requests: what both codecs share. Each request is routed by itself, from the snapshot that is current when
//! its head has arrived.

mod affinity;
mod attempts;
mod cors;
mod downstream;
mod edits;
mod exchange;
mod fault;
mod frames;
mod h1;
mod h2;
mod head;
mod kept;
mod mirror;
mod pump;
mod retry;
mod routing;
mod substitute;
mod timeout;

use std::{borrow::Cow, net::SocketAddr, time::Instant};

use snapshot::RequestHead;

use self::downstream::Spoken;
use crate::{
    access_log::{Entry, RequestLine},
    connection::Connection,
    failure::LocalReply,
    telemetry::RequestKey,
    upstream::Lease,
};

pub(crate) use self::{downstream::Downstream, h1::Workspaces};

/// Serves a connection whose chain says HTTP, in the version the client speaks.
pub(crate) async fn serve(mut downstream: Box<Downstream>) {
    match downstream.await_version().await {
        Some(Spoken::Http1) => h1::serve(downstream).await,
        // In a box of its own: other connections should not hold room for it.
        Some(Spoken::Http2) => Box::pin(h2::serve(downstream)).await,
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

/// What became of a request, for the access log.
#[derive(Default)]
pub(crate) struct Outcome<'o> {
    status: u16,
    flags: &'static str,
    details: &'static str,
    /// What the network or TLS said of the connection to the endpoint.
    transport_failure: Option<Box<str>>,
    /// Whether the request is a gRPC call.
    grpc: bool,
    grpc_status: Option<u8>,
    /// Whether a fault held the request up (`DI`).
    delayed: bool,
    /// Whether another try was wanted and none was left (`URX`).
    exhausted: bool,
    received: u64,
    sent: u64,
    service_time: Option<u64>,
    upstream: Option<SocketAddr>,
    upstream_local: Option<SocketAddr>,
    cluster: Option<&'o str>,
    route: Option<&'o str>,
}

impl<'o> Outcome<'o> {
    fn reply(reply: &LocalReply<'_>, method: Method) -> Self {
        let sent = if method == Method::Head { 0 } else { reply.sent_body().len() as u64 };
        let grpc_status = reply.grpc_status;
        let (status, flags, details) = (reply.status, reply.flags, reply.details);
        Self { status, flags, details, sent, grpc_status, ..Self::default() }
    }

    /// With the endpoint it went to, and our side of the connection.
    fn at(self, upstream: &Lease, local: Option<SocketAddr>) -> Self {
        Self { upstream: Some(upstream.address), upstream_local: local, ..self }
    }
}

/// Counts a request that has ended, and writes its access log line if the log is on.
fn log(connection: &Connection, start: Instant, line: &RequestLine, outcome: &Outcome<'_>) {
    let duration = start.elapsed();
    let flags = flags(outcome);
    let key = RequestKey {
        cluster: outcome.cluster.unwrap_or_default(),
        direction: connection.direction,
        status: outcome.status,
        flags: &flags,
        grpc: outcome.grpc.then_some(outcome.grpc_status),
    };
    connection.worker().recorder.request(key, duration, (outcome.received, outcome.sent));
    let Some(log) = &connection.worker().log else { return };
    log.record(&Entry {
        start: connection.wall_time(start),
        duration,
        request: Some(line),
        status: outcome.status,
        flags: &flags,
        details: outcome.details,
        termination: "",
        transport_failure: outcome.transport_failure.as_deref(),
        received: outcome.received,
        sent: outcome.sent,
        service_time: outcome.service_time,
        upstream: outcome.upstream,
        cluster: outcome.cluster,
        upstream_local: outcome.upstream_local,
        downstream_local: connection.destination,
        downstream_remote: connection.peer,
        server_name: connection.server_name(),
        session: connection.session(),
        route: outcome.route,
    });
}

/// The flags in Envoy's order.
fn flags(outcome: &Outcome<'_>) -> Cow<'static, str> {
    if !outcome.delayed && !outcome.exhausted {
        return outcome.flags.into();
    }
    const ORDER: [&str; 15] =
        ["UH", "UT", "UR", "UF", "UC", "UO", "NR", "DI", "FI", "DC", "URX", "DPE", "UPE", "NC", "OM"];
    let (delayed, exhausted) = (outcome.delayed.then_some("DI"), outcome.exhausted.then_some("URX"));
    let mut flags: Vec<_> = outcome.flags.split(',').chain(delayed).chain(exhausted).collect();
    flags.retain(|flag| !flag.is_empty());
    flags.sort_by_key(|flag| ORDER.iter().position(|known| known == flag));
    flags.join(",").into()
}

/// Copies what the log shows of a request as it goes up, if the log is on.
fn record_request(
    connection: &Connection,
    line: &mut RequestLine,
    request: &impl RequestHead,
    (protocol, added, routed): (&'static str, &head::Added, &routing::Routed<'_>),
) {
    let Some(log) = &connection.worker().log else { return };
    line.start(protocol);
    let changes = routed.changes();
    for wanted in log.fields() {
        line.push(|out| {
            if !record_field(&wanted.name, request, (added, changes), out)
                && let Some(other) = &wanted.other
            {
                record_field(other, request, (added, changes), out);
            }
        });
    }
}

/// Writes a field as the endpoint gets it; says whether there is one.
fn record_field(
    name: &str,
    request: &impl RequestHead,
    (added, changes): (&head::Added, Option<&edits::RequestChanges<'_>>),
    out: &mut Vec<u8>,
) -> bool {
    let start = out.len();
    if let Some(changes) = changes {
        match name {
            ":path" => out.extend_from_slice(changes.path().unwrap_or_default().as_bytes()),
            ":authority" | "host" => {
                out.extend_from_slice(changes.authority().unwrap_or_default().as_bytes());
            }
            name => out.extend_from_slice(changes.fields.first(name).unwrap_or_default()),
        }
        if out.len() > start || changes.fields.drops(name) {
            return out.len() > start;
        }
    }
    match name {
        ":method" => out.extend_from_slice(request.method().as_bytes()),
        ":path" => out.extend_from_slice(request.path_and_query().as_bytes()),
        ":authority" | "host" => out.extend_from_slice(request.authority().as_bytes()),
        ":scheme" => out.extend_from_slice(added.scheme().as_bytes()),
        name => added.record_field(name, request, out),
    }
    out.len() > start
}
