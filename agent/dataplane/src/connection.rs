//! A connection from a client: what is known of it, and how it is served to its end.

mod chain;
mod destination;
mod handshake;
mod proxied;

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
    Address, Application, ConnectionFacts, Direction, Elsewhere, FilterChain, HttpConnections, HttpSettings,
    ListenerId, LogFacts, NetworkFilter, RequestHead, Transport as TransportProtocol, UnixPath, Workload,
};
use tokio::net::TcpStream;

use self::chain::Service;
use crate::{
    accept::Admitted,
    access_log::{Entry, LogBuffer},
    http::{self, PEER_METADATA, PEER_METADATA_ID, PeerMetadata},
    origin::{Client, ForClient, Origin},
    sys::Source,
    tcp,
    telemetry::{Peer, PeerId},
    timer::Registered,
    tls::Session,
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

/// What a client says of itself and asks, as proxies of the mesh do.
#[derive(Default)]
struct Introduction {
    /// Whether it wants to know who answers.
    asks: bool,
    workload: Option<Arc<Workload>>,
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
    introduction: OnceCell<Introduction>,
    /// Who the client is by the snapshot of a number, once it was asked for.
    client: Cell<Option<(u64, PeerId)>>,
    /// The application at loopback, called from the client's own address and port.
    at_loopback: ForClient,
}

/// Whether certificates are verified anew, where that has to be to know.
struct Thoroughly(bool);

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

    /// Takes in how the client of an inbound connection introduces itself with its first request.
    pub(crate) fn introduce(&self, request: &impl RequestHead) {
        if self.direction != Direction::Inbound || self.introduction.get().is_some() {
            return;
        }
        let said = request.header(PEER_METADATA);
        let asks = said.is_some() || request.header(PEER_METADATA_ID).is_some();
        // What it says counts only beside what it proves.
        let proved = said.filter(|_| self.session().is_some_and(|session| session.client.is_some()));
        let workload = proved.and_then(PeerMetadata::read).map(Arc::new);
        _ = self.introduction.set(Introduction { asks, workload });
        self.client.set(None);
    }

    /// What the client of an inbound connection is told of the workload, if it asks.
    pub(crate) fn introduction(&self) -> Option<&PeerMetadata> {
        self.introduction.get().filter(|said| said.asks)?;
        self.worker().metadata.as_deref()
    }

    /// Who the client of an inbound connection is, for the metrics: the workload at its address, else what its
    /// certificate says and what it says itself.
    pub(crate) fn client(&self) -> PeerId {
        let worker = self.worker();
        let view = worker.view();
        if let Some((version, known)) = self.client.get()
            && version == view.version
        {
            return known;
        }
        let shown = self.session().and_then(|session| session.client.as_ref());
        let principal = shown.map(|shown| Arc::from(shown.principal()));
        let peers = &worker.recorder.peers;
        let id = match (view.snapshot.workloads().at(self.peer.ip()), principal) {
            (Some(known), principal) => peers.id(Peer { principal, ..Peer::of(known, false) }),
            (None, Some(principal)) => {
                let introduced = self.introduction.get().and_then(|said| said.workload.as_ref());
                peers.id_of_principal(principal, introduced)
            }
            (None, None) => PeerId::default(),
        };
        self.client.set(Some((view.version, id)));
        id
    }

    /// The other side of a call, for the metrics: the client's of inbound ones, else the endpoint's.
    pub(crate) fn other_side(&self, endpoint: Option<PeerId>) -> PeerId {
        match self.direction {
            Direction::Inbound => self.client(),
            Direction::Outbound | Direction::Gateway => endpoint.unwrap_or_default(),
        }
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

    /// The listener that serves this connection under `view`: one for its original destination, or the accepting one.
    fn serving_listener(&self, view: &View) -> Option<ListenerId> {
        let accepting = view.snapshot.bound_listener(&self.listener);
        let is_dialled = |id| view.snapshot.listener(id).binding.is_dialled();
        let captured = match self.direction {
            Direction::Outbound if accepting.is_some_and(is_dialled) => None,
            Direction::Outbound => view.snapshot.captured_listener(self.destination),
            Direction::Inbound | Direction::Gateway => None,
        };
        captured.or(accepting)
    }

    fn filter_chain<'v>(&self, view: &'v View) -> Option<&'v FilterChain> {
        view.snapshot.select_filter_chain(&self.facts(), self.serving_listener(view)?)
    }

    /// Server names that would have been served, for a message.
    fn served_names(&self, view: &View) -> String {
        const SHOWN: usize = 8;
        let listener = self.serving_listener(view).map(|id| view.snapshot.listener(id));
        let chains = listener.iter().flat_map(|listener| &listener.filter_chains);
        let mut names = chains.flat_map(|chain| &chain.matches.server_names);
        let shown: Vec<_> = names.by_ref().take(SHOWN).map(ToString::to_string).collect();
        match names.count() {
            0 => shown.join(","),
            more => format!("{} and {more} more", shown.join(",")),
        }
    }

    /// How a request that arrived under `view` is served, or `None` when this connection would no longer be served as
    /// HTTP. Asked for every request, worked out once per snapshot.
    pub(crate) fn http(&self, view: &View) -> Option<HttpConnections> {
        if let Some((version, http)) = self.http.get()
            && version == view.version
        {
            return Some(http);
        }
        let chain = self.filter_chain(view).filter(|_| self.refused.get() != Some(view.version))?;
        let NetworkFilter::Http(http) = chain.filter else { return None };
        if !self.meets(view, chain, Thoroughly(true)) {
            self.refused.set(Some(view.version));
            return None;
        }
        self.http.set(Some((view.version, http)));
        Some(http)
    }

    /// Whether this chain would let the client in. The chain may be another one by now, or ask for more: certificates of
    /// clients, of other authorities. Without verifying anything the client has the benefit of the doubt.
    fn meets(&self, view: &View, chain: &FilterChain, Thoroughly(verifies): Thoroughly) -> bool {
        match (chain.tls, self.session()) {
            (Some(context), Some(session)) => {
                let met = view.tls().is_met(context, session);
                met.unwrap_or_else(|| !verifies || view.tls().accepts(context, session))
            }
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    /// Whether HTTP that arrives by this connection is still served: its listener, or its chain there, may be gone, or
    /// ask clients for what this one was not asked for.
    pub(crate) fn is_served(&self) -> bool {
        self.http(&self.worker().view()).is_some()
    }

    /// Whether it may be served still, as far as that can be told for many idle connections at once: certificates are
    /// verified anew when a request comes.
    pub(crate) fn may_be_served(&self) -> bool {
        let view = self.worker().view();
        if self.refused.get() == Some(view.version) {
            return false;
        }
        let is_known = self.http.get().is_some_and(|(version, _)| version == view.version);
        let serves = |chain: &FilterChain| {
            matches!(chain.filter, NetworkFilter::Http(_)) && self.meets(&view, chain, Thoroughly(false))
        };
        is_known || self.filter_chain(&view).is_some_and(serves)
    }

    /// What a request that comes now is served from: the view in force, or for a moment one of before, where a change has
    /// left the connection without a place. The client may have sent it without knowing.
    pub(crate) fn view(&self) -> Rc<View> {
        let view = self.worker().view();
        if self.http(&view).is_some() { view } else { self.former_view(&view).unwrap_or(view) }
    }

    /// Whether it is served for a moment only, and no more than what is on its way.
    pub(crate) fn is_ending(&self) -> bool {
        self.former_view(&self.worker().view()).is_some()
    }

    fn former_view(&self, present: &View) -> Option<Rc<View>> {
        // Where there is a place that asks more of clients than this one has met, or was, it is no longer served at once.
        let has_place = |view: &View| {
            matches!(self.filter_chain(view).map(|chain| &chain.filter), Some(NetworkFilter::Http(_)))
        };
        if has_place(present) || self.refused.get().is_some() {
            return None;
        }
        self.worker().former_view(|view| has_place(view).then(|| self.http(view).is_some()))
    }

    /// Whether a request asks for a host whose server name asks clients for what this one was not asked for.
    pub(crate) fn is_misdirected(&self, view: &View, authority: &str) -> bool {
        let served = || Some((self.serving_listener(view)?, self.filter_chain(view)?.tls));
        self.is_over_tls()
            && view.snapshot.tells_clients_apart()
            && served().is_some_and(|served| view.snapshot.is_misdirected(authority, &self.facts(), served))
    }

    /// The route of a request whose host is known by another server name only.
    pub(crate) fn elsewhere<'v>(&self, view: &'v View, request: &impl RequestHead) -> Option<Elsewhere<'v>> {
        if !self.is_over_tls() {
            return None;
        }
        let served = (self.serving_listener(view)?, self.filter_chain(view)?.tls);
        view.snapshot.elsewhere(request, &self.facts(), served)
    }

    /// Wall-clock time at `moment`, for the access log.
    pub(crate) fn wall_time(&self, moment: Instant) -> SystemTime {
        self.worker().wall_time(moment)
    }
}
