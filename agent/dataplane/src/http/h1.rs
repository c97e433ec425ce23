//! Serves HTTP/1 clients with our own codec: parse in place, one write per message, nothing allocated for a plain
//! request.

mod forward;

use std::{
    future::poll_fn,
    io,
    time::{Duration, Instant},
};

use http1::{BodyLength, HeadEnd, HeaderSlots, Version};
use snapshot::Normalized;
use tokio::io::AsyncWriteExt;

use super::{
    LIMITS, Method, Outcome,
    edits::AnswerChanges,
    exchange::UpstreamVersion,
    head::{Added, AnswerFields, FieldSink, Http1Head, http2_request_head, write_request_head},
    log,
    pump::PumpError,
    record_request,
    routing::{Action, Asked, Routed, route},
};
use crate::{
    access_log::RequestLine, buffer::PooledBuffer, connection::Connection, failure::LocalReply,
    timer::Elapsed, transport::Transport, view::View,
};
use forward::Forward;

/// What an HTTP/2 client with prior knowledge sends first (RFC 9113 §3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Reads until it is clear whether the client speaks HTTP/2, which the second value tells. `None` when the client is
/// gone or says nothing.
pub(super) async fn await_preface<S: Transport>(
    connection: &Connection,
    stream: &mut S,
    first: Option<PooledBuffer>,
) -> Option<(PooledBuffer, bool)> {
    let worker = connection.worker();
    let mut received = first;
    if received.is_none() {
        let receive = poll_fn(|cx| worker.buffers.poll_receive(cx, stream, &mut received));
        connection.deadline.idle_within(worker.patience(), receive).await.ok()?.ok()?;
    }
    let mut received = received?;
    loop {
        let bytes = received.filled();
        if bytes.starts_with(HTTP2_PREFACE) {
            return Some((received, true));
        }
        if !bytes.is_empty() && !HTTP2_PREFACE.starts_with(bytes) {
            return Some((received, false));
        }
        let fill = poll_fn(|cx| received.poll_fill(cx, stream));
        if connection.deadline.within(worker.settings.head_timeout, fill).await.ok()?.ok()? == 0 {
            return None;
        }
    }
}

/// Serves requests until the connection ends.
pub(super) async fn serve<S: Transport>(connection: &Connection, mut stream: S, received: PooledBuffer) {
    let mut session =
        Session { connection, stream: &mut stream, received: Some(received), line: RequestLine::default() };
    while let Next::Request = session.serve_request().await {}
}

/// What follows a request on its connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Next {
    Request,
    Close,
}

struct Session<'c, S> {
    connection: &'c Connection,
    stream: &'c mut S,
    /// Absent while the connection is idle.
    received: Option<PooledBuffer>,
    /// Fields of the current request for the access log.
    line: RequestLine,
}

/// What a parsed head asks for.
struct Request<'v> {
    start: Instant,
    version: Version,
    body: BodyLength,
    keep_alive: bool,
    method: Method,
    upgrade: bool,
    /// The head as it goes up, for an endpoint that speaks HTTP/2.
    http2_head: Option<Box<::http::Request<()>>>,
    routed: Routed<'v>,
}

/// What became of looking for a head in the received bytes.
enum Parsed<'v> {
    Incomplete,
    Request(Request<'v>),
    Malformed(LocalReply<'static>),
    /// The chain that served this connection is gone.
    Unserved,
}

impl<S: Transport> Session<'_, S> {
    async fn serve_request(&mut self) -> Next {
        if self.await_bytes().await.is_none() {
            return Next::Close;
        }
        let mut head_end = HeadEnd::default();
        loop {
            match self.await_head(&mut head_end).await {
                Ok(()) => {}
                Err(Some(reply)) => return self.refuse(&reply).await,
                Err(None) => return Next::Close,
            }
            let view = self.connection.worker().view();
            let mut out = self.connection.worker().scratch();
            let next = match self.parse(&view, &mut out) {
                Parsed::Incomplete => None,
                Parsed::Unserved => Some(Next::Close),
                Parsed::Malformed(reply) => Some(self.refuse(&reply).await),
                Parsed::Request(request) => Some(self.serve_parsed(&view, request, &mut out).await),
            };
            self.connection.worker().recycle(out);
            if let Some(next) = next {
                return next;
            }
        }
    }

    /// Waits, without a buffer, for the first bytes of a request. `None` when the connection is to be closed.
    async fn await_bytes(&mut self) -> Option<()> {
        if self.received.as_ref().is_some_and(|received| !received.is_empty()) {
            return Some(());
        }
        self.received = None;
        let worker = self.connection.worker();
        if worker.is_draining() {
            return None;
        }
        let receive = poll_fn(|cx| worker.buffers.poll_receive(cx, self.stream, &mut self.received));
        let received = self.connection.deadline.idle_within(worker.settings.idle_timeout, receive).await;
        // The end of the stream is the usual end of a connection.
        (received.ok()?.ok()? > 0).then_some(())
    }

    /// Reads until a head is worth parsing. Fails with the answer to give, or with none when the client is gone.
    async fn await_head(&mut self, head_end: &mut HeadEnd) -> Result<(), Option<LocalReply<'static>>> {
        let worker = self.connection.worker();
        let received = self.received.get_or_insert_with(|| worker.buffers.small());
        let stream = &mut *self.stream;
        let reading = async {
            let mut fresh = received.is_empty();
            while fresh || !head_end.find(received.filled(), &LIMITS) {
                if received.is_full() && received.is_small() {
                    *received = worker.buffers.enlarge(received);
                }
                if poll_fn(|cx| received.poll_fill(cx, stream)).await? == 0 {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
                }
                fresh = false;
            }
            Ok(())
        };
        match self.connection.deadline.within(worker.settings.head_timeout, reading).await {
            Ok(result) => result.map_err(|_| None),
            Err(Elapsed) => Err(Some(LocalReply::HEAD_TIMEOUT)),
        }
    }

    /// Parses the head, routes it, and writes into `out` what goes to the chosen endpoint. All that borrows from the
    /// received bytes begins and ends here.
    fn parse<'v>(&mut self, view: &'v View, out: &mut Vec<u8>) -> Parsed<'v> {
        let start = Instant::now();
        let Some(received) = self.received.as_mut() else { return Parsed::Incomplete };
        let mut slots = HeaderSlots::new();
        let parsed = match http1::parse_request(received.filled(), &LIMITS, &mut slots) {
            Ok(None) => return Parsed::Incomplete,
            Err(error) => return Parsed::Malformed(LocalReply::malformed(error)),
            Ok(Some(parsed)) => parsed,
        };
        let Some(http) = self.connection.http(view) else { return Parsed::Unserved };
        self.connection.worker().count(|counts| counts.requests += 1);
        let head = Http1Head::new(&parsed);
        let Ok(head) = Normalized::new(&head, http.path_normalization) else {
            return Parsed::Malformed(LocalReply::BAD_PATH);
        };
        let added = Added::new(self.connection, &head);
        let protocol = parsed.version.as_str();
        let asked = Asked { connection: self.connection, head: &head, added: &added, protocol, start };
        let mut routed = route(&asked, view, http.route_config, fastrand::u64(..));
        record_request(self.connection, &mut self.line, &head, (protocol, &added, &routed));
        let mut upgrade = parsed.upgrade.filter(|protocol| protocol.eq_ignore_ascii_case(WEBSOCKET));
        let mut http2_head = None;
        if let Action::Forward(forwarding) = &routed.action {
            let changes = forwarding.changes.as_deref();
            let protocol = view.snapshot.cluster(forwarding.cluster).protocol;
            match UpstreamVersion::of(protocol, UpstreamVersion::Http1) {
                UpstreamVersion::Http1 => {
                    write_request_head(out, &head, &added, parsed.body, (changes, upgrade));
                }
                UpstreamVersion::Http2 => {
                    upgrade = None;
                    http2_head =
                        http2_request_head(&head, &added, parsed.body, (changes, false)).map(Box::new);
                    if http2_head.is_none() {
                        routed = Routed::reply(LocalReply::BAD_REQUEST);
                    }
                }
            }
        }
        let request = Request {
            start,
            version: parsed.version,
            body: parsed.body,
            // What follows on CONNECT would be another protocol's.
            keep_alive: parsed.keep_alive && parsed.version == Version::Http11 && parsed.method != "CONNECT",
            method: Method::of(parsed.method),
            upgrade: upgrade.is_some(),
            http2_head,
            routed,
        };
        let head_len = parsed.head_len;
        received.consume(head_len);
        Parsed::Request(request)
    }

    async fn serve_parsed(&mut self, view: &View, request: Request<'_>, out: &mut Vec<u8>) -> Next {
        let Request { start, version, body, keep_alive, method, upgrade, http2_head, routed } = request;
        let lasting = Lasting { keep_alive: keep_alive && !self.connection.worker().is_draining(), version };
        let Routed { action, cluster, route, answer, delay, grpc } = routed;
        if let Some(delay) = delay {
            tokio::time::sleep(delay).await;
        }
        let asked = Answering { lasting, method, grpc, changes: answer.as_deref() };
        // What is answered without reading the body leaves what follows on the connection in doubt.
        let unread = Lasting { keep_alive: lasting.keep_alive && body.is_empty(), ..lasting };
        let (next, outcome) = match action {
            Action::Reply(reply) => {
                let reply = reply.for_client(grpc);
                let next = self.reply(&reply, Answering { lasting: unread, ..asked }, out).await;
                (next, Outcome::reply(&reply, method))
            }
            Action::Redirect(status, location) => {
                let reply = LocalReply::redirect(status, &location).for_client(grpc);
                let next = self.reply(&reply, Answering { lasting: unread, ..asked }, out).await;
                (next, Outcome::reply(&reply, method))
            }
            Action::Forward(forwarding) => {
                let forward = Forward { view, forwarding, start, body, asked, upgrade, http2_head };
                self.forward(forward, out).await
            }
        };
        let delayed = delay.is_some();
        log(self.connection, start, &self.line, &Outcome { cluster, route, grpc, delayed, ..outcome });
        next
    }

    /// Answers a request that could not be read, and closes.
    async fn refuse(&mut self, reply: &LocalReply<'static>) -> Next {
        let mut out = self.connection.worker().scratch();
        let lasting = Lasting { keep_alive: false, version: Version::Http11 };
        let start = Instant::now();
        let answering = Answering { lasting, method: Method::Other, grpc: false, changes: None };
        let next = self.reply(reply, answering, &mut out).await;
        self.line.start(Version::Http11.as_str());
        log(self.connection, start, &self.line, &Outcome::reply(reply, Method::Other));
        next
    }

    async fn reply(
        &mut self,
        reply: &LocalReply<'_>,
        Answering { lasting, method, changes, .. }: Answering<'_>,
        out: &mut Vec<u8>,
    ) -> Next {
        self.connection.worker().count(|counts| counts.local_replies += 1);
        out.clear();
        http1::write_status_line(out, reply.status);
        AnswerFields::of(self.connection, changes).write_local(out, reply);
        lasting.write(out);
        out.extend_from_slice(b"\r\n");
        if method != Method::Head {
            out.extend_from_slice(reply.sent_body().as_bytes());
        }
        let written = write_whole(self.connection, self.stream, out).await;
        match (written, lasting.keep_alive) {
            (Ok(()), true) => Next::Request,
            (Ok(()), false) => {
                self.linger().await;
                Next::Close
            }
            (Err(_), _) => Next::Close,
        }
    }

    /// Ends the connection so that the answer arrives: bytes still coming in would otherwise make the kernel reset
    /// it (RFC 9112 §9.6).
    async fn linger(&mut self) {
        if self.stream.shutdown().await.is_err() {
            return;
        }
        let mut buffer = self.connection.worker().buffers.small();
        let stream = &mut *self.stream;
        let discarding = async {
            let mut left = LINGER_BYTES;
            while let Ok(n @ 1..) = poll_fn(|cx| buffer.poll_fill(cx, stream)).await {
                buffer.consume(n);
                left = left.saturating_sub(n);
                if left == 0 {
                    break;
                }
            }
        };
        // Late or not, it is closed now.
        _ = self.connection.deadline.within(LINGER, discarding).await;
    }
}

/// Writes so that nothing stays behind in the layer that encrypts.
async fn write_whole<S: Transport>(
    connection: &Connection,
    stream: &mut S,
    bytes: &[u8],
) -> Result<(), PumpError> {
    write_head(connection, stream, bytes).await?;
    let limit = connection.worker().settings.idle_timeout;
    let flushed = connection.deadline.within(limit, stream.flush()).await;
    flushed.map_err(|Elapsed| PumpError::Idle)?.map_err(|_| PumpError::Write)
}

/// Writes what more follows upon. A client that never reads is not waited for for ever.
async fn write_head<S: Transport>(
    connection: &Connection,
    stream: &mut S,
    bytes: &[u8],
) -> Result<(), PumpError> {
    let limit = connection.worker().settings.idle_timeout;
    let written = connection.deadline.within(limit, stream.write_all(bytes)).await;
    written.map_err(|Elapsed| PumpError::Idle)?.map_err(|_| PumpError::Write)
}

const WEBSOCKET: &str = "websocket";
/// What a client may still send after an answer that closes its connection, and for how long.
const LINGER_BYTES: usize = 256 * 1024;
const LINGER: Duration = Duration::from_secs(1);

/// What an answer depends on beside itself.
#[derive(Clone, Copy)]
struct Answering<'a> {
    lasting: Lasting,
    method: Method,
    /// Whether answers of our own take the form of gRPC.
    grpc: bool,
    /// What the route changes in it.
    changes: Option<&'a AnswerChanges<'a>>,
}

/// Whether the client's connection goes on, and how that is said in its version.
#[derive(Clone, Copy)]
struct Lasting {
    keep_alive: bool,
    version: Version,
}

impl Lasting {
    fn write(self, out: &mut Vec<u8>) {
        if !self.keep_alive {
            out.field("connection", b"close");
        }
    }

    /// How a body is sent that comes in as `body`: HTTP/1.0 knows no chunks.
    fn framing(self, body: BodyLength) -> BodyLength {
        match (body, self.version) {
            (BodyLength::Chunked | BodyLength::UntilClose, Version::Http11) => BodyLength::Chunked,
            (BodyLength::Chunked | BodyLength::UntilClose, Version::Http10) => BodyLength::UntilClose,
            (known, _) => known,
        }
    }
}
