//! Serves HTTP/2 clients: the connection, and a task for each of its streams.

mod arrival;
mod head;
mod stream;

use std::{
    cell::Cell,
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use ::http::{HeaderName, HeaderValue};
use bytes::Bytes;
use h2::{
    RecvStream,
    server::{self, SendResponse},
};
use snapshot::ClientLimits;

use self::arrival::{Arrival, Observed};
use super::{downstream::Downstream, frames::FRAME, workspace::Work};
use crate::{
    bounds,
    buffer::LARGE,
    connection::Connection,
    tcp,
    timer::{Elapsed, TICK},
    transport::{DownstreamStream, Prefixed},
    untaken::{Held, Progress},
    worker::Settings,
};

type Accepted = Option<Result<(::http::Request<RecvStream>, SendResponse<Bytes>), h2::Error>>;
type Served = server::Connection<Observed<Prefixed<DownstreamStream>>, Bytes>;

/// Serves requests until the connection ends. What has been received begins with the preface.
pub(super) async fn serve(downstream: Box<Downstream>) {
    let Downstream { connection, stream, received, .. } = *downstream;
    let limit = connection.head_timeout();
    // In boxes of their own: what leads to a connection takes as much room as the connection, which may last.
    let arrival = Arrival::new();
    let stream = Observed::new(Prefixed::new(received, stream), &arrival);
    let handshake =
        Box::pin(settings(&connection.settings.limits, &connection.worker().settings).handshake(stream));
    let handshaken = connection.deadline.within(limit, handshake).await.map(|served| served.map(Box::new));
    let session = Session::new(connection);
    let ended = match handshaken {
        Ok(Ok(served)) => session.serve(served, &arrival).await,
        Ok(Err(error)) => Err(error.into()),
        Err(Elapsed) => Err(Ended::Dawdled),
    };
    if let Err(ended) = ended {
        tracing::debug!(downstream = %session.connection.peer, error = %ended, "HTTP/2 connection ended");
        if let Some(told) = ended.told() {
            tcp::log_sent_away(&session.connection, told, &ended.to_string());
        }
    }
}

/// Why a connection ended other than by the wish of both.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the preface, a frame or a head was begun and not ended in time")]
    Dawdled,
    #[error("too many requests taken back")]
    Abused,
    #[error("memory is short, and nothing is taken of what was sent")]
    Untaken,
    #[error(transparent)]
    Failed(#[from] h2::Error),
}

impl Ended {
    /// What the log calls it, where it is what the client did: flag and details.
    fn told(&self) -> Option<(&'static str, &'static str)> {
        let details = match self {
            Self::Dawdled => "http2.request_header_timeout",
            Self::Abused => "http2.too_many_premature_resets",
            Self::Untaken => return Some(("OM", "overload")),
            Self::Failed(error) if !error.is_library() || !error.is_go_away() => return None,
            Self::Failed(error) => match error.reason() {
                Some(h2::Reason::ENHANCE_YOUR_CALM) => "http2.flood",
                _ => "http2.protocol_error",
            },
        };
        Some(("DPE", details))
    }
}

fn settings(limits: &ClientLimits, Settings { heads, upgrades, .. }: &Settings) -> server::Builder {
    let mut builder = server::Builder::new();
    builder
        .max_concurrent_streams(limits.streams.unwrap_or(bounds::STREAMS))
        .max_header_list_size(heads.bytes())
        .initial_window_size(limits.stream_window.unwrap_or(bounds::STREAM_WINDOW))
        .initial_connection_window_size(limits.connection_window.unwrap_or(bounds::CONNECTION_WINDOW))
        .max_send_buffer_size(FRAME);
    if !upgrades.is_empty() {
        builder.enable_connect_protocol();
    }
    builder
}

/// What the streams of a connection share.
struct Session {
    connection: Connection,
    streams: Cell<u64>,
    active: Cell<usize>,
    /// Size of the heads of active streams.
    heads: Cell<usize>,
    /// The tick in which a stream began or ended last, or the connection began to end.
    stirred: Cell<u64>,
    /// Streams that the client took back before they were answered.
    resets: Cell<u64>,
}

/// Why a connection does not wait for a request any longer as it did.
enum Changed {
    /// The client has begun something that is not whole yet, for which it has less time.
    Begun,
    /// The connection is not served any more.
    Unserved,
}

impl Session {
    fn new(connection: Connection) -> Rc<Self> {
        let (streams, active, heads) = (Cell::new(0), Cell::new(0), Cell::new(0));
        let (stirred, resets) = (Cell::new(connection.worker().timers.now()), Cell::new(0));
        Rc::new(Self { connection, streams, active, heads, stirred, resets })
    }

    async fn serve(self: &Rc<Self>, mut served: Box<Served>, arrival: &Arrival) -> Result<(), Ended> {
        let worker = self.connection.worker();
        let limit = self.connection.head_timeout();
        let mut ending = false;
        // Why it ends, once that is decided: the client still has to be told.
        let mut sent_away = None;
        loop {
            // Frames that are no requests, however they come, make nobody busy.
            if self.is_idle(ending) {
                if ending {
                    return sent_away.map_or(Ok(()), Err);
                }
                ending = self.begin_to_end(&mut served);
            }
            let unfinished = arrival.remaining(limit);
            let idle_timeout = unfinished.unwrap_or(Duration::MAX).min(self.idle_timeout(ending));
            let accepting = self.accept(&mut served, (arrival, unfinished.is_none()), ending);
            match self.connection.deadline.idle_within(idle_timeout, accepting).await {
                Ok(Ok(None)) => return sent_away.map_or(Ok(()), Err),
                Ok(Ok(Some(request))) => {
                    let (request, respond) = request?;
                    self.spawn(request, respond);
                    // A client that never pauses would not be told otherwise.
                    if (worker.is_draining() || self.connection.is_too_old()) && !ending {
                        ending = self.begin_to_end(&mut served);
                    }
                }
                Ok(Err(Changed::Begun)) => {}
                Ok(Err(Changed::Unserved)) => ending = self.begin_to_end(&mut served),
                Err(Elapsed) if self.connection.deadline.is_given_up() => return Err(Ended::Untaken),
                Err(Elapsed) if arrival.remaining(limit).is_some_and(|remaining| remaining.is_zero()) => {
                    // It has been told, or does not read.
                    if ending {
                        return Err(Ended::Dawdled);
                    }
                    served.abrupt_shutdown(h2::Reason::ENHANCE_YOUR_CALM);
                    self.stir();
                    (ending, sent_away) = (true, Some(Ended::Dawdled));
                }
                Err(Elapsed) if unfinished.is_some() && !worker.is_draining() => {}
                Err(Elapsed) if ending && worker.is_draining() && self.active.get() == 0 => return Ok(()),
                Err(Elapsed) if !ending && (worker.is_draining() || self.connection.is_too_old()) => {
                    ending = self.begin_to_end(&mut served);
                }
                Err(Elapsed) => {}
            }
            if self.is_abused() {
                served.abrupt_shutdown(h2::Reason::ENHANCE_YOUR_CALM);
                sent_away = Some(Ended::Abused);
            }
        }
    }

    /// GOAWAY: requests under way still finish (RFC 9113 §6.8).
    fn begin_to_end(&self, served: &mut Served) -> bool {
        served.graceful_shutdown();
        self.stir();
        true
    }

    /// How long the connection waits for a request, or for its end: less by the time for which it has carried none.
    fn idle_timeout(&self, ending: bool) -> Duration {
        let worker = self.connection.worker();
        let idle_timeout = match ending {
            true => worker.settings.idle_timeout,
            false => worker.idle_timeout(&self.connection.settings.limits),
        };
        let idle = if self.active.get() == 0 { self.quiet() } else { Duration::ZERO };
        let rest = self.connection.rest().filter(|_| !ending).unwrap_or(Duration::MAX);
        idle_timeout.saturating_sub(idle).min(rest)
    }

    /// The next request, `None` at the end of the connection, or what else has changed.
    fn accept(
        &self,
        served: &mut Served,
        (arrival, was_whole): (&Arrival, bool),
        ending: bool,
    ) -> impl Future<Output = Result<Accepted, Changed>> + Unpin {
        let limit = self.connection.head_timeout();
        poll_fn(move |cx| match self.poll_accept(cx, served, arrival) {
            Poll::Ready(accepted) => Poll::Ready(Ok(accepted)),
            Poll::Pending if was_whole && arrival.remaining(limit).is_some() => {
                Poll::Ready(Err(Changed::Begun))
            }
            Poll::Pending if !ending && !self.connection.may_be_served() => {
                Poll::Ready(Err(Changed::Unserved))
            }
            Poll::Pending => Poll::Pending,
        })
    }

    /// The next request. Where memory is short, looks how far the client has come with what was sent.
    fn poll_accept(&self, cx: &mut Context<'_>, served: &mut Served, arrival: &Arrival) -> Poll<Accepted> {
        let overload = &self.connection.worker().settings.overload;
        if overload.gives_up_untaken() {
            arrival.ask_what_is_taken();
        }
        let accepted = served.poll_accept(cx);
        // Looked at with every tick, as its streams are; an answer may be with the codec whose stream has ended.
        self.connection.deadline.hold(true, overload, || {
            let taken = arrival.taken();
            self.connection.taken.set(taken);
            let bytes = if taken.unacknowledged > 0 { LARGE } else { 0 };
            Held { connection: self.connection.id, bytes, progress: Progress { moved: 0, taken } }
        });
        accepted
    }

    /// One task for each stream: what it waits for delays no other.
    fn spawn(self: &Rc<Self>, request: ::http::Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        self.streams.set(self.streams.get() + 1);
        let head = head_size(&request);
        if self.heads.get() + head > bounds::HEADS_OF_CONNECTION {
            tracing::debug!(downstream = %self.connection.peer, "HTTP/2 request refused: too large heads under way");
            return respond.send_reset(h2::Reason::REFUSED_STREAM);
        }
        let worker = Rc::clone(self.connection.worker());
        let lent = worker.stream_workspaces.lend((Active::new(self, head), request, respond));
        tokio::task::spawn_local(async move { worker.stream_workspaces.work(lent).await });
    }

    /// Whether it has carried no request for as long as it may.
    fn is_idle(&self, ending: bool) -> bool {
        self.active.get() == 0 && self.idle_timeout(ending).is_zero()
    }

    fn stir(&self) {
        self.stirred.set(self.connection.worker().timers.now());
    }

    /// For how long at least no stream has begun or ended.
    fn quiet(&self) -> Duration {
        // The first tick comes at any time after.
        let ticks = (self.connection.worker().timers.now() - self.stirred.get()).saturating_sub(1);
        TICK * u32::try_from(ticks).unwrap_or(u32::MAX)
    }

    /// Whether it carries so many requests that each is to hold little.
    fn is_crowded(&self) -> bool {
        self.active.get() > bounds::CROWDED_STREAMS
    }

    fn is_abused(&self) -> bool {
        self.resets.get() >= bounds::TAKEN_BACK && self.resets.get() * 2 > self.streams.get()
    }
}

/// Serves a request on its stream.
pub(crate) struct Http2Requests;

impl Work for Http2Requests {
    type Job = (Active, ::http::Request<RecvStream>, SendResponse<Bytes>);
    type Done = ();

    async fn work((active, request, respond): Self::Job) {
        let session = &active.session;
        if stream::serve(session, request, respond).await == stream::Ended::Reset {
            session.resets.set(session.resets.get() + 1);
        }
    }
}

/// What a head counts for: its fields as HPACK counts them (RFC 7541 §4.1).
fn head_size(request: &::http::Request<RecvStream>) -> usize {
    let field = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 32;
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    target + request.headers().iter().map(field).sum::<usize>()
}

/// Counts a stream and its head for as long as its task lives.
pub(crate) struct Active {
    session: Rc<Session>,
    head: usize,
}

impl Active {
    fn new(session: &Rc<Session>, head: usize) -> Self {
        session.active.set(session.active.get() + 1);
        session.heads.set(session.heads.get() + head);
        session.stir();
        Self { session: Rc::clone(session), head }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.session.active.set(self.session.active.get() - 1);
        self.session.heads.set(self.session.heads.get() - self.head);
        self.session.stir();
    }
}
