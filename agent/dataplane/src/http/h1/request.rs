//! One HTTP/1 request, from its first bytes to what is to be done with it.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Poll, ready},
    time::Instant,
};

use http1::{BodyLength, HeadEnd, HeaderSlots, Version};
use snapshot::{Normalized, Underscores, is_grpc};

use super::{
    Next, Session,
    forward::Forward,
    reply::{Answering, Persistence},
    upstream_request::{ForwardedRequest, UpstreamRequest},
};
use crate::{
    connection::Connection,
    failure::LocalReply,
    http::{
        Method, Outcome,
        grpc_web::GrpcWeb,
        head::{Added, Http1Head, has_underscore},
        log, record_request,
        routing::{Action, Asked, Before, Routed, route},
    },
    transport::Transport as _,
    view::View,
    wrong_tls,
};

/// What a parsed head asks for.
struct Request<'v> {
    start: Instant,
    version: Version,
    body: BodyLength,
    keep_alive: bool,
    method: Method,
    upstream_request: UpstreamRequest,
    routed: Routed<'v>,
    /// Whether a fault has delayed it.
    delayed: bool,
}

/// What is known of a request before its head is parsed for good.
#[derive(Clone, Copy)]
struct Begun {
    start: Instant,
    /// Whether a fault has delayed it.
    delayed: bool,
    /// Whether its client has left: it is for the log then, not for an endpoint.
    gone: bool,
}

/// Why no head is there to parse.
enum NoHead {
    Late,
    /// It needs more memory than requests get while they are refused.
    TooLargeForNow,
    Gone,
}

/// What became of looking for a head in the received bytes.
enum Parsed<'v> {
    Incomplete,
    Request(Request<'v>),
    Malformed(LocalReply<'static>),
    /// Something has to happen first.
    Before(Before),
}

impl Session<'_> {
    /// Serves a request of which something has arrived.
    pub(super) async fn serve_request(&mut self) -> Next {
        let mut head_end = HeadEnd::default();
        // One limit for all of the head, however it is cut to pieces.
        let (limit, late) = self.limits.head(self.connection.head_timeout());
        self.connection.deadline.set(limit);
        loop {
            match self.await_head(&mut head_end).await {
                Ok(()) => {}
                Err(NoHead::Late) => return self.refuse(&late).await,
                Err(NoHead::TooLargeForNow) => return self.refuse(&LocalReply::OVERLOADED).await,
                Err(NoHead::Gone) => return Next::Close,
            }
            let view = self.connection.view();
            let mut out = self.connection.worker().scratch();
            let mut begun = Begun { start: Instant::now(), delayed: false, gone: false };
            // Parsed and served in one place: what a request is made of is large to move.
            let mut parsed = self.parse(&view, &mut out, begun);
            while let Parsed::Before(before) = parsed {
                self.connection.deadline.clear();
                // Boxed: other requests should not hold room for it.
                let happening = Box::pin(before.happen(self.connection, &mut begun.delayed));
                begun.gone = self.is_gone_while(happening).await;
                parsed = self.parse(&view, &mut out, begun);
            }
            if !matches!(parsed, Parsed::Incomplete) {
                self.connection.deadline.clear();
            }
            let next = match &mut parsed {
                Parsed::Incomplete | Parsed::Before(_) => None,
                Parsed::Malformed(reply) => Some(self.refuse(reply).await),
                Parsed::Request(request) => Some(self.serve_parsed(&view, request, &mut out).await),
            };
            drop(parsed);
            self.connection.worker().recycle(out);
            if let Some(next) = next {
                return next;
            }
        }
    }

    /// Reads until a head is worth parsing.
    async fn await_head(&mut self, head_end: &mut HeadEnd) -> Result<(), NoHead> {
        let worker = self.connection.worker();
        let received = self.received.get_or_insert_with(|| worker.buffers.small());
        let (stream, limits) = (&mut *self.stream, worker.settings.heads.codec());
        let reading = async {
            let mut fresh = received.is_empty();
            while fresh || !head_end.find(received.filled(), limits) {
                if received.is_full() {
                    // It would be refused once it is whole, which may never be.
                    if worker.settings.overload.refuses_requests() {
                        return Err(NoHead::TooLargeForNow);
                    }
                    *received = worker.buffers.enlarge(received);
                }
                let Ok(1..) = poll_fn(|cx| received.poll_fill(cx, stream)).await else {
                    return Err(NoHead::Gone);
                };
                fresh = false;
            }
            Ok(())
        };
        let read = self.connection.deadline.within_rest(pin!(reading)).await;
        read.unwrap_or(Err(NoHead::Late))
    }

    /// Awaits `future`; whether the client has left before it was ready. What it sends meanwhile is kept.
    async fn is_gone_while(&mut self, mut future: Pin<Box<impl Future<Output = ()>>>) -> bool {
        let (received, stream) = (&mut *self.received, &mut *self.stream);
        let deadline = &self.connection.deadline;
        poll_fn(|cx| {
            if future.as_mut().poll(cx).is_ready() {
                return Poll::Ready(false);
            }
            while let Some(received) = received.as_mut().filter(|received| !received.is_full()) {
                match ready!(received.poll_fill(cx, stream)) {
                    Ok(1..) => {}
                    Ok(0) | Err(_) => return Poll::Ready(true),
                }
            }
            // There is no room to read on, which would tell.
            deadline.wake_with_tick(cx);
            if stream.has_ended() { Poll::Ready(true) } else { Poll::Pending }
        })
        .await
    }

    /// Parses the head, routes it, and writes into `out` what goes to the chosen endpoint. All that borrows from the
    /// received bytes begins and ends here.
    fn parse<'v>(&mut self, view: &'v View, out: &mut Vec<u8>, begun: Begun) -> Parsed<'v> {
        let Begun { start, delayed, gone } = begun;
        let Some(received) = self.received.as_mut() else { return Parsed::Incomplete };
        let (limits, mut slots) = (self.connection.worker().settings.heads.codec(), HeaderSlots::new());
        let parsed = match http1::parse_request(received.filled(), limits, &mut slots) {
            Ok(None) => return Parsed::Incomplete,
            Err(error) => {
                wrong_tls::tell_if_client_hello(self.connection, received.filled());
                return Parsed::Malformed(LocalReply::malformed(error));
            }
            Ok(Some(parsed)) => parsed,
        };
        if let Some(reply) = refusal(self.connection, &parsed) {
            return Parsed::Malformed(reply);
        }
        let Some(http) = self.connection.http(view) else {
            return Parsed::Malformed(LocalReply::unserved(self.connection.is_over_tls()));
        };
        let upgrades = &self.connection.worker().settings.upgrades;
        let nominated = http1::connection_names(parsed.headers);
        let underscores = self.connection.settings.limits.underscores;
        let head = Http1Head::new(&parsed, &nominated, (upgrades, underscores));
        let offer = head.offer();
        let Ok(head) = Normalized::new(&head, (http.path_normalization, http.escaped_slashes)) else {
            self.connection.worker().count(|counts| counts.requests += 1);
            return Parsed::Malformed(LocalReply::BAD_PATH.for_client(is_grpc(&head)));
        };
        let mut added = Added::new(self.connection, &http, &head);
        let protocol = parsed.version.as_str();
        let grpc_web = http.grpc_web.then(|| GrpcWeb::of(&head)).flatten();
        let connection = self.connection;
        let asked = Asked { connection, head: &head, added: &added, protocol, grpc_web, start, delayed };
        let mut routed = match route(&asked, view, http.route_config, fastrand::u64(..)) {
            Ok(routed) => routed,
            Err(_) if gone => Routed::reply(LocalReply::CLIENT_GONE),
            Err(before) => return Parsed::Before(before),
        };
        if gone {
            routed.action = Action::Reply(LocalReply::CLIENT_GONE);
        }
        self.connection.worker().count(|counts| counts.requests += 1);
        record_request(self.connection, self.line, &head, (protocol, &added, &routed));
        let mut upstream_request = UpstreamRequest::default();
        if let Action::Forward(forwarding) = &routed.action {
            added.introduce(self.connection, &forwarding.lease);
            let going = ForwardedRequest { view, forwarding, body: parsed.body, grpc_web: routed.grpc_web };
            match going.upstream_request(&head, &added, offer, out) {
                Some(made) => upstream_request = made,
                None => routed = Routed::reply(LocalReply::BAD_REQUEST),
            }
        }
        let request = Request {
            start,
            version: parsed.version,
            body: parsed.body,
            // What follows on CONNECT would be another protocol's.
            keep_alive: parsed.keep_alive
                && parsed.version == Version::Http11
                && parsed.method != "CONNECT"
                && !gone,
            method: Method::of(parsed.method),
            upstream_request,
            routed,
            delayed,
        };
        let head_len = parsed.head_len;
        received.consume(head_len);
        Parsed::Request(request)
    }

    async fn serve_parsed<'v>(
        &mut self,
        view: &'v View,
        request: &mut Request<'v>,
        out: &mut Vec<u8>,
    ) -> Next {
        let Request {
            start,
            version,
            body,
            keep_alive,
            method,
            ref mut upstream_request,
            ref mut routed,
            delayed,
        } = *request;
        let persistence = Persistence { keep_alive: keep_alive && self.connection.goes_on(), version };
        let Routed { ref mut action, cluster, route, ref answer, grpc, grpc_web } = *routed;
        let asked = Answering { persistence, method, grpc, grpc_web, changes: answer.as_deref() };
        // What is answered without reading the body leaves what follows on the connection in doubt.
        let unread = Persistence { keep_alive: persistence.keep_alive && body.is_empty(), ..persistence };
        let mut outcome = Outcome::default();
        let next = if let Action::Forward(forwarding) = action {
            let begun = if delayed { Instant::now() } else { start };
            let mut forward = Forward { view, forwarding, start, begun, body, asked, upstream_request };
            self.forward(&mut forward, out, &mut outcome).await
        } else {
            let reply = action.reply().unwrap_or(LocalReply::CLIENT_GONE);
            // Nobody is there to read it.
            let is_gone = reply == LocalReply::CLIENT_GONE;
            let reply = if is_gone { reply } else { asked.form_of(reply) };
            outcome = Outcome::reply(&reply, method);
            match is_gone {
                true => Next::Close,
                false => self.reply(&reply, Answering { persistence: unread, ..asked }, out).await,
            }
        };
        outcome.set_route(route);
        (outcome.cluster, outcome.grpc, outcome.delayed) = (cluster, grpc, delayed);
        log(self.connection, start, self.line, &outcome);
        next
    }
}

/// The answer to a head that is well formed, and still none that is served here.
fn refusal(connection: &Connection, parsed: &http1::Request<'_, '_>) -> Option<LocalReply<'static>> {
    if parsed.target.asks_for_https() && !connection.is_over_tls() {
        return Some(LocalReply::HTTPS_IN_CLEAR_TEXT);
    }
    let names = parsed.headers.iter().map(|field| field.name);
    if connection.settings.limits.underscores == Underscores::Refused && has_underscore(names) {
        return Some(LocalReply::UNDERSCORE);
    }
    // HTTP/1.0 knows requests without; as in Envoy there is nobody to send them to.
    let is_nowhere = parsed.authority().is_none();
    is_nowhere.then(|| LocalReply::malformed(http1::RequestError::MissingHost))
}
