//! Bodies between HTTP/2 frames and an HTTP/1.1 endpoint.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http1::{BodyDecoder, BodyLength};
use hyper::body::Incoming;
use tokio::{io::AsyncWrite, net::TcpStream};

use crate::{
    access_log::RequestLine,
    connection::Connection,
    failure::LocalReply,
    http::{
        Outcome,
        exchange::{Exchange, RequestBody, body_outcome},
        log,
        pump::PumpError,
    },
    upstream::{Lease, UpstreamConnection},
};

/// A request's body on its way from frames to an endpoint.
pub(super) struct Upload {
    body: Incoming,
    chunks: bool,
    pending: Vec<u8>,
    written: usize,
    state: State,
    /// Bytes of data so far.
    data: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Receiving,
    /// Everything has come; some of it may still be pending.
    Received,
    /// The endpoint takes no more, or the client sends no more.
    Abandoned,
}

impl Upload {
    pub(super) fn new(body: Incoming, length: BodyLength) -> Self {
        let state = if length.is_empty() { State::Received } else { State::Receiving };
        let chunks = length == BodyLength::Chunked;
        Self { body, chunks, pending: Vec::new(), written: 0, state, data: 0 }
    }

    fn take(&mut self, frame: Frame<Bytes>) {
        // Trailers have no place in a body of known length, and HTTP/1.1 endpoints rarely want them.
        if let Ok(data) = frame.into_data() {
            self.data += data.len() as u64;
            if self.chunks {
                http1::write_chunk(&mut self.pending, &data);
            } else {
                self.pending.extend_from_slice(&data);
            }
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>, to: &mut TcpStream) -> Poll<io::Result<()>> {
        while self.written < self.pending.len() {
            self.written += ready!(Pin::new(&mut *to).poll_write(cx, &self.pending[self.written..]))?;
        }
        self.pending.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }
}

impl RequestBody for Upload {
    fn poll_send(&mut self, cx: &mut Context<'_>, to: &mut TcpStream) -> Poll<Result<(), PumpError>> {
        loop {
            if self.state == State::Abandoned {
                return Poll::Ready(Ok(()));
            }
            if ready!(self.poll_flush(cx, to)).is_err() {
                self.state = State::Abandoned;
                continue;
            }
            if self.state == State::Received {
                return Poll::Ready(Ok(()));
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => self.take(frame),
                None if self.body.is_end_stream() => {
                    self.state = State::Received;
                    if self.chunks {
                        http1::write_last_chunk(&mut self.pending);
                    }
                }
                // A reset without error ends the frames, but not the body (RFC 9113 §8.1).
                Some(Err(_)) | None => {
                    self.state = State::Abandoned;
                    return Poll::Ready(Err(PumpError::Read));
                }
            }
        }
    }

    fn is_done(&self) -> bool {
        self.state == State::Received && self.pending.is_empty()
    }
}

/// The body of an answer, as hyper asks for it.
pub(super) struct AnswerBody {
    source: Source,
    ending: Ending,
}

enum Source {
    Local(Option<Bytes>),
    Relayed(Box<Relayed>),
    Ended,
}

struct Relayed {
    exchange: Exchange,
    upload: Upload,
    lease: Lease,
    decoder: BodyDecoder,
    length: BodyLength,
    reusable: bool,
}

impl AnswerBody {
    pub(super) fn local(body: &str, ending: Ending) -> Self {
        let bytes = (!body.is_empty()).then(|| Bytes::copy_from_slice(body.as_bytes()));
        Self { source: Source::Local(bytes), ending }
    }

    pub(super) fn relayed(
        exchange: Exchange,
        upload: Upload,
        lease: Lease,
        length: BodyLength,
        (ending, reusable): (Ending, bool),
    ) -> Self {
        let decoder = BodyDecoder::new(length);
        let relayed = Relayed { exchange, upload, lease, decoder, length, reusable };
        let mut body = Self { source: Source::Relayed(Box::new(relayed)), ending };
        if length.is_empty() {
            body.finish(Ok(()));
        }
        body
    }

    /// The answer is through, one way or the other.
    fn finish(&mut self, moved: Result<(), PumpError>) {
        if let Source::Relayed(relayed) = std::mem::replace(&mut self.source, Source::Ended) {
            let Relayed { exchange, upload, lease, reusable, .. } = *relayed;
            self.ending.outcome.received = upload.data;
            let Outcome { flags, details, .. } = body_outcome(moved);
            (self.ending.outcome.flags, self.ending.outcome.details) = (flags, details);
            exchange.release(&lease, reusable && moved.is_ok() && upload.is_done());
        }
    }
}

impl Relayed {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, PumpError>> {
        // A client that fails to send the rest of its request may still read the answer.
        _ = self.upload.poll_send(cx, &mut self.exchange.upstream.stream);
        loop {
            if self.decoder.is_done() {
                return Poll::Ready(Ok(None));
            }
            let answered = &mut self.exchange.answered;
            if !answered.is_empty() {
                let decoded = self.decoder.decode(answered.filled()).map_err(PumpError::Body)?;
                let data = Bytes::copy_from_slice(&answered.filled()[decoded.data]);
                answered.consume(decoded.consumed);
                if !data.is_empty() {
                    return Poll::Ready(Ok(Some(data)));
                }
            } else if ready!(answered.poll_fill(cx, &mut self.exchange.upstream.stream))
                .map_err(|_| PumpError::Read)?
                == 0
            {
                self.decoder.end_of_input().map_err(PumpError::Body)?;
            }
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let moved = match &mut self.source {
            Source::Ended => return Poll::Ready(None),
            Source::Local(bytes) => return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Source::Relayed(relayed) => ready!(relayed.poll_data(cx)),
        };
        match moved {
            Ok(Some(data)) => {
                self.ending.outcome.sent += data.len() as u64;
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Ok(None) => {
                self.finish(Ok(()));
                Poll::Ready(None)
            }
            Err(error) => {
                self.finish(Err(error));
                Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.source, Source::Ended | Source::Local(None))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Ended | Source::Local(None) => SizeHint::with_exact(0),
            Source::Local(Some(bytes)) => SizeHint::with_exact(bytes.len() as u64),
            Source::Relayed(relayed) => match relayed.length {
                BodyLength::Length(length) => {
                    SizeHint::with_exact(length.saturating_sub(self.ending.outcome.sent))
                }
                _ => SizeHint::default(),
            },
        }
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        // Dropped before its end: the client is gone.
        self.finish(Err(PumpError::Write));
    }
}

/// Writes the access log line of a request when it is over.
pub(super) struct Ending {
    connection: Rc<Connection>,
    start: Instant,
    line: RequestLine,
    names: Option<Box<(Option<String>, Option<String>)>>,
    outcome: Outcome<'static>,
}

impl Ending {
    /// Names of cluster and route are kept only when there is a log to write them to.
    pub(super) fn new(
        connection: Rc<Connection>,
        start: Instant,
        line: RequestLine,
        (cluster, route): (Option<&str>, Option<&str>),
    ) -> Self {
        let logged = connection.worker().log.is_some();
        let names = logged.then(|| Box::new((cluster.map(str::to_owned), route.map(str::to_owned))));
        Self { connection, start, line, names, outcome: Outcome::default() }
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(super) fn at(mut self, lease: &Lease, upstream: &UpstreamConnection) -> Self {
        self.outcome = self.outcome.at(lease, Some(upstream));
        self
    }

    pub(super) fn answered(mut self, status: u16, service_time: u64) -> Self {
        self.outcome.status = status;
        self.outcome.service_time = Some(service_time);
        self
    }

    pub(super) fn replied(mut self, reply: &LocalReply<'_>) -> Self {
        // A route's own body is borrowed from the snapshot; flags and details are ours.
        let sent = reply.body.len() as u64;
        self.outcome = Outcome {
            status: reply.status,
            sent,
            flags: reply.flags,
            details: reply.details,
            ..self.outcome
        };
        self
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let (cluster, route) = match self.names.as_deref() {
            Some((cluster, route)) => (cluster.as_deref(), route.as_deref()),
            None => (None, None),
        };
        log(&self.connection, self.start, &self.line, &Outcome { cluster, route, ..self.outcome });
    }
}
