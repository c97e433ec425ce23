//! A connection from a client: what is known of it, and how it is served to its end.

mod chain;
mod client;
mod destination;
mod handshake;
mod proxied;
mod serving;

use std::{
    cell::{Cell, OnceCell},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use snapshot::{
    Address, Application, ConnectionFacts, Direction, HttpConnections, HttpSettings, LogFacts,
    Transport as TransportProtocol, UnixPath,
};
use tokio::net::TcpStream;

use self::{chain::Service, client::MetadataExchange};
use crate::{
    accept::Admitted,
    access_log::{Entry, LogBuffer},
    http,
    origin::{Client, LoopbackUpstream, Origin},
    sys::Source,
    tcp,
    telemetry::PeerId,
    timer::Registered,
    tls::Session,
    untaken::Taken,
    view::View,
    worker::{InboundCapture, Worker},
};

/// Serves a connection to its end. Whatever goes wrong is the peer's or the upstream's, costs only this connection,
/// and shows in the access log and the counts.
pub(crate) fn serve(
    admitted: Admitted,
    stream: TcpStream,
    peer: SocketAddr,
    listener: Address,
) -> impl Future<Output = ()> {
    // In boxes of their own: what finds the chain needs much room and is soon over, and of what the connection is
    // then, an idle one for HTTP should hold room for nothing else.
    let finding = Box::pin(chain::find(admitted, stream, peer, listener));
    async move {
        match finding.await {
            Some(Service::Http(downstream)) => http::serve(downstream).await,
            Some(Service::Tcp(opaque)) => Box::pin(tcp::serve(opaque)).await,
            None => {}
        }
    }
}

/// Stands for both ends of a connection by a unix socket, which have no address.
pub(crate) const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// A number that no other connection has, of clients or to endpoints.
pub(crate) fn connection_id() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

/// What is known of a connection for its whole life.
pub(crate) struct Connection {
    admitted: Admitted,
    pub(crate) id: u64,
    pub(crate) deadline: Registered,
    pub(crate) peer: SocketAddr,
    /// The original destination of a captured connection, else the local address.
    pub(crate) destination: SocketAddr,
    /// Whether that is the original destination.
    is_captured: bool,
    pub(crate) direction: Direction,
    pub(crate) accepted: Instant,
    /// Address of the listener that accepted it.
    listener: Address,
    transport: TransportProtocol,
    application: Application,
    /// From the client hello.
    server_name: Option<Box<str>>,
    /// What the handshake came to, if TLS was terminated here; boxed, as connections in clear text hold no room for it.
    session: Option<Box<Session>>,
    http: Cell<Option<(u64, HttpConnections)>>,
    /// The snapshot, by number, under which what the client has shown was found not to do.
    refused: Cell<Option<u64>>,
    /// How its HTTP is treated; of the chain that it began with.
    pub(crate) settings: Arc<HttpSettings>,
    /// What the client has said of itself with its first request.
    introduction: OnceCell<MetadataExchange>,
    /// Who the client is by the snapshot of a number, once it was asked for.
    client: Cell<Option<(u64, PeerId)>>,
    /// How far the client has come with what was written to it; of HTTP/2, where memory is short.
    pub(crate) taken: Cell<Taken>,
    /// The application at loopback, called from the client's own address and port.
    at_loopback: LoopbackUpstream,
}

impl Connection {
    pub(crate) fn worker(&self) -> &Rc<Worker> {
        self.admitted.worker()
    }

    /// The unix socket that it came by, which stands for its client, too, as in Envoy.
    pub(crate) fn unix_socket(&self) -> Option<&UnixPath> {
        match &self.listener {
            Address::Unix(path) => Some(path),
            Address::Socket(_) => None,
        }
    }

    /// The address of its client, if that has one.
    pub(crate) fn client_ip(&self) -> Option<IpAddr> {
        (self.peer != NOBODY).then(|| self.peer.ip())
    }

    /// How long the head of a request may take to arrive once it has begun.
    pub(crate) fn head_timeout(&self) -> Duration {
        self.settings.limits.head_timeout.unwrap_or(self.worker().settings.head_timeout)
    }

    /// How long nothing may move of a request or of its answer, once it has begun.
    pub(crate) fn stream_idle_timeout(&self) -> Duration {
        self.settings.limits.stream_idle_timeout.unwrap_or(self.worker().settings.idle_timeout)
    }

    /// How long it may still last, if that is limited.
    pub(crate) fn rest(&self) -> Option<Duration> {
        Some(self.settings.limits.max_connection_duration?.saturating_sub(self.accepted.elapsed()))
    }

    /// Whether it has lasted as long as it may.
    pub(crate) fn is_too_old(&self) -> bool {
        self.rest().is_some_and(|rest| rest.is_zero())
    }

    /// Whether there may be another request on it, as far as the proxy is concerned.
    pub(crate) fn goes_on(&self) -> bool {
        !self.worker().is_draining() && self.is_served() && !self.is_too_old()
    }

    fn facts(&self) -> ConnectionFacts<'_> {
        ConnectionFacts {
            destination: self.destination,
            server_name: self.server_name.as_deref(),
            transport: self.transport,
            application: self.application,
        }
    }

    /// The server name that the client hello asked for.
    pub(crate) fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// Where it comes from and was going, for clusters that keep either.
    pub(crate) fn origin(&self) -> Origin<'_> {
        let client = match (self.direction, self.worker().settings.inbound_capture) {
            (Direction::Inbound, InboundCapture::Transparent { mark, loopback }) => Some(Client {
                source: Source::Foreign(self.peer, mark),
                at_loopback: loopback.to(self.peer.ip()).then_some(&self.at_loopback),
            }),
            _ => None,
        };
        let Self { peer, destination, is_captured, .. } = *self;
        Origin { peer, destination, is_captured, client, named: None }
    }

    /// Whether the client's bytes came encrypted and are decrypted here.
    pub(crate) fn is_over_tls(&self) -> bool {
        self.session.is_some()
    }

    /// Whether the client speaks TLS that nobody here opens.
    pub(crate) fn carries_tls(&self) -> bool {
        self.transport == TransportProtocol::Tls && !self.is_over_tls()
    }

    /// What the handshake with the client came to, if TLS was terminated here.
    pub(crate) fn session(&self) -> Option<&Session> {
        self.session.as_deref()
    }

    /// The access log, where it tells anything of connections like this one.
    pub(crate) fn log(&self) -> Option<&LogBuffer> {
        self.worker().log_of(self.direction)
    }

    /// The name of the filter chain, where lines show it.
    pub(crate) fn logged_chain<'v>(&self, log: &LogBuffer, view: &'v View) -> Option<&'v str> {
        log.slots().chain.then(|| self.filter_chain(view).map(|chain| &*chain.name)).flatten()
    }

    /// Whether the access log tells of a call that has ended so.
    pub(crate) fn is_logged(&self, entry: &Entry<'_>) -> bool {
        let facts = LogFacts {
            status: Some(entry.status).filter(|status| *status != 0),
            grpc_status: entry.grpc_status,
            details: entry.details,
            received: entry.received,
            sent: entry.sent,
            is_mutual_tls: self.session().is_some_and(|session| session.client.is_some()),
        };
        self.worker().view().snapshot.access_logging().of(self.direction).holds(&facts)
    }

    /// The scheme of requests as the client sees it.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.is_over_tls() { "https" } else { "http" }
    }

    /// Wall-clock time at `moment`, for the access log.
    pub(crate) fn wall_time(&self, moment: Instant) -> SystemTime {
        self.worker().wall_time(moment)
    }
}
