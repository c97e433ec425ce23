//! HTTP requests: what both codecs share. Each request is routed by itself, from the snapshot that is current when
//! its head has arrived.

mod affinity;
mod attempts;
mod cors;
mod downstream;
mod edits;
mod exchange;
mod fault;
mod fields;
mod flow_control;
mod frames;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod grpc_web;
mod h1;
mod h2;
mod head;
mod messages;
mod mirror;
mod peer_metadata;
mod pump;
mod retained;
mod retries;
mod retry;
mod routing;
mod stream_bytes;
mod stream_limits;
mod substitute;
mod trailers;
mod websocket;
mod workspace;

use std::{
    borrow::Cow,
    rc::Rc,
    time::{Duration, Instant},
};

use snapshot::{Address, RequestHead};

use self::{downstream::Spoken, pump::PumpError, routing::Followed};
use crate::{
    access_log::{Entry, Recorded, Wanted},
    connection::Connection,
    failure::LocalReply,
    telemetry::{BLACK_HOLE, BLOCKED, CountedRoute, PeerId, RequestKey, RequestSizes, RouteRequest},
    upstream::{Lease, OwnEnd},
};

pub(crate) use self::peer_metadata::{PEER_METADATA, PEER_METADATA_ID};
pub(crate) use self::{
    downstream::Downstream, h1::Http1Requests, h2::Http2Requests, retained::BodyBudget,
    stream_bytes::StreamBytes, workspace::Workspaces,
};
pub use self::{head::shown_to_routes, peer_metadata::PeerMetadata};

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
    /// Messages of a gRPC call: of the request, and of the answer.
    messages: (u64, u64),
    /// Whether a fault held the request up (`DI`).
    delayed: bool,
    /// Why no further try was made though one was wanted: `URX` none was left, `UO` too many were under way.
    unretried: &'static str,
    received: u64,
    sent: u64,
    /// From the request's head to its end, and to the head of the answer.
    request_time: Option<Duration>,
    began: Option<Duration>,
    /// How often an endpoint was asked.
    attempts: u32,
    /// How many of these had a connection, and whether the answer is of a further one and good enough.
    connected: u32,
    retried_well: bool,
    upstream_protocol: Option<&'static str>,
    upstream: Option<Address>,
    /// Our end of the connection to it.
    own_end: Option<Rc<OwnEnd>>,
    /// Who the endpoint is, for the metrics.
    endpoint: Option<PeerId>,
    cluster: Option<&'o str>,
    route: Option<&'o str>,
    /// What it is counted under besides.
    counted: Option<CountedRoute<&'o str>>,
}

impl<'o> Outcome<'o> {
    fn reply(reply: &LocalReply<'_>, method: Method) -> Self {
        let sent = if method == Method::Head { 0 } else { reply.sent_body().len() as u64 };
        let grpc_status = reply.grpc_status;
        let (status, flags, details) = (reply.status, reply.flags, reply.details);
        Self { status, flags, details, sent, grpc_status, ..Self::default() }
    }

    /// Notes the route it took.
    fn set_route(&mut self, followed: Option<Followed<'o>>) {
        self.route = followed.and_then(Followed::name);
        self.counted = followed.and_then(Followed::counted);
    }

    /// Notes the endpoint it went to, and our end of the connection.
    fn set_endpoint(&mut self, upstream: &Lease, own_end: Option<Rc<OwnEnd>>) {
        self.upstream = Some(upstream.address.clone());
        self.endpoint = Some(upstream.peer());
        self.own_end = own_end;
    }

    fn ended(moved: Result<(), PumpError>) -> Self {
        let (flags, details) = exchange::body_end(moved);
        Self { flags, details, ..Self::default() }
    }

    /// Notes how the bodies ended.
    fn set_end(&mut self, moved: Result<(), PumpError>) {
        (self.flags, self.details) = exchange::body_end(moved);
    }
}

/// What is counted of a request to a route that has counts of its own.
fn route_request(outcome: &Outcome<'_>, duration: Duration) -> RouteRequest {
    let whole = outcome.began.filter(|_| outcome.flags.is_empty());
    RouteRequest {
        tries: outcome.connected,
        retries: outcome.attempts.saturating_sub(1),
        retried_well: outcome.retried_well,
        retry_limit_exceeded: outcome.unretried == "URX",
        retry_overflow: outcome.unretried == "UO",
        timed_out: outcome.flags == LocalReply::TIMEOUT.flags
            && outcome.details == LocalReply::TIMEOUT.details,
        time: whole.and(outcome.request_time).map(|request_time| duration.saturating_sub(request_time)),
    }
}

/// Counts a request that has ended, and writes its access log line if the log is on.
fn log(connection: &Connection, start: Instant, line: &Recorded, outcome: &Outcome<'_>) {
    let duration = start.elapsed();
    let flags = flags(outcome);
    let key = RequestKey {
        cluster: outcome.cluster.unwrap_or(if outcome.route == Some(BLOCKED) { BLACK_HOLE } else { "" }),
        direction: connection.direction,
        status: outcome.status.into(),
        flags: &flags,
        grpc: outcome.grpc.then_some(outcome.grpc_status),
        peer: connection.other_side(outcome.endpoint),
    };
    let sizes = RequestSizes {
        received: outcome.received,
        sent: outcome.sent,
        request_messages: outcome.messages.0,
        response_messages: outcome.messages.1,
    };
    let recorder = &connection.worker().recorder;
    if let Some(route) = outcome.counted {
        recorder.route(route.answered(key.status), route_request(outcome, duration));
    }
    recorder.request(key, duration, sizes);
    let Some(log) = connection.log() else { return };
    let view = connection.worker().view();
    let entry = Entry {
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
        request_ended: outcome.request_time,
        answer_began: outcome.began,
        grpc_status: outcome.grpc_status,
        // Envoy counts the try for which it found no endpoint.
        attempts: outcome.attempts.max(matches!(outcome.flags, "UH" | "UO").into()),
        upstream_protocol: outcome.upstream_protocol,
        upstream: outcome.upstream.as_ref(),
        cluster: outcome.cluster,
        own_end: outcome.own_end.as_deref(),
        connection: connection.id,
        chain: connection.logged_chain(log, &view),
        downstream_local: connection.destination,
        downstream_remote: line.client().unwrap_or(connection.peer),
        downstream_direct_remote: connection.peer,
        downstream_unix: connection.unix_socket(),
        server_name: connection.server_name(),
        session: connection.session(),
        route: outcome.route,
    };
    if connection.is_logged(&entry) {
        log.record(&entry);
    }
}

/// The flags in the order in which Envoy sets them: a fault delays first, and that tries are spent is known before the
/// answer to give.
fn flags(outcome: &Outcome<'_>) -> Cow<'static, str> {
    if !outcome.delayed && outcome.unretried.is_empty() {
        return outcome.flags.into();
    }
    let delayed = if outcome.delayed { "DI" } else { "" };
    let set = [delayed, outcome.unretried, outcome.flags].into_iter().filter(|flag| !flag.is_empty());
    set.collect::<Vec<_>>().join(",").into()
}

/// Copies what the log shows of a request as it goes up, if the log is on.
fn record_request(
    connection: &Connection,
    line: &mut Recorded,
    request: &impl RequestHead,
    (protocol, added, routed): (&'static str, &head::Added, &routing::Routed<'_>),
) {
    let Some(log) = connection.log() else { return };
    line.start(protocol);
    line.set_client(added.remote(connection.peer));
    let changes = routed.changes();
    for wanted in &log.slots().request {
        line.push(wanted, |name, out| record_field(name, request, (added, changes), out));
    }
}

/// Copies what the log shows of an answer as the client gets it; `field` looks one up.
fn record_answer<'a>(connection: &Connection, line: &mut Recorded, field: impl Fn(&str) -> Option<&'a [u8]>) {
    if let Some(log) = connection.log() {
        line.begin_answer();
        record(line, &log.slots().answer, field);
    }
}

/// Copies what the log shows of the trailers of an answer.
fn record_trailers<'a>(
    connection: &Connection,
    line: &mut Recorded,
    field: impl Fn(&str) -> Option<&'a [u8]>,
) {
    if let Some(log) = connection.log() {
        line.begin_trailers();
        record(line, &log.slots().trailers, field);
    }
}

fn record<'a>(line: &mut Recorded, wanted: &[Wanted], field: impl Fn(&str) -> Option<&'a [u8]>) {
    for wanted in wanted {
        line.push(wanted, |name, out| out.extend_from_slice(field(name).unwrap_or_default()));
    }
}

/// Whether the log shows trailers.
fn wants_trailers(connection: &Connection) -> bool {
    connection.log().is_some_and(|log| !log.slots().trailers.is_empty())
}

/// Writes a field as the endpoint gets it, if there is one.
fn record_field(
    name: &str,
    request: &impl RequestHead,
    (added, changes): (&head::Added, Option<&edits::RequestChanges<'_>>),
    out: &mut Vec<u8>,
) {
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
            return;
        }
    }
    match name {
        ":method" => out.extend_from_slice(request.method().as_bytes()),
        ":path" => out.extend_from_slice(request.path_and_query().as_bytes()),
        ":authority" | "host" => out.extend_from_slice(request.authority().as_bytes()),
        ":scheme" => out.extend_from_slice(added.scheme().as_bytes()),
        name => added.record_field(name, request, out),
    }
}
