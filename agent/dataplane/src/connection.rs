//! One connection from accept to its filter chain: original destination, listener, inspection, chain, then TCP or
//! HTTP.

mod handshake;

use std::{
    cell::Cell,
    io,
    net::{Ipv4Addr, SocketAddr},
    rc::Rc,
    time::{Instant, SystemTime},
};

use snapshot::{
    Application, Binding, ConnectionFacts, Direction, FilterChain, HostName, HttpConnections, Inspection,
    Listener, ListenerId, NetworkFilter, RouteConfigId, Transport as TransportProtocol,
};
use tokio::net::TcpStream;

use crate::{
    accept::Admitted,
    buffer::PooledBuffer,
    http,
    inspect::{Inspected, inspect},
    origin::{Client, ForClient, Origin},
    proxy_protocol::{self, Header},
    sys::Source,
    tcp::{self, Dialled, NotDialled},
    timer::{Elapsed, Registered},
    transport::Transport,
    view::View,
    worker::{InboundCapture, Worker},
};

/// What is known of a connection for its whole life.
pub(crate) struct Connection {
    admitted: Admitted,
    pub(crate) deadline: Registered,
    pub(crate) peer: SocketAddr,
    /// The original destination of a captured connection, else the local address.
    pub(crate) destination: SocketAddr,
    pub(crate) direction: Direction,
    pub(crate) accepted: Instant,
    /// Address of the listener that accepted it.
    listener: SocketAddr,
    transport: TransportProtocol,
    application: Application,
    /// From the client hello.
    server_name: Option<Box<str>>,
    /// Whether TLS was terminated here.
    over_tls: bool,
    http: Cell<Option<(u64, HttpConnections)>>,
    /// The application at loopback, called from the client's own address and port.
    at_loopback: ForClient,
}

impl Connection {
    pub(crate) fn worker(&self) -> &Rc<Worker> {
        self.admitted.worker()
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
        Origin { peer: self.peer, destination: self.destination, client }
    }

    /// Whether the client's bytes came encrypted and are decrypted here.
    pub(crate) fn is_over_tls(&self) -> bool {
        self.over_tls
    }

    /// The scheme of requests as the client sees it.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.over_tls { "https" } else { "http" }
    }

    /// The listener that serves this connection under `view`: one for its original destination, or the accepting one.
    fn serving_listener(&self, view: &View) -> Option<ListenerId> {
        let accepting = view.snapshot.bound_listener(self.listener);
        let is_dialled = |id| matches!(view.snapshot.listener(id).binding, Binding::Dialled(_));
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
        match self.filter_chain(view)?.filter {
            NetworkFilter::Http(http) => {
                self.http.set(Some((view.version, http)));
                Some(http)
            }
            NetworkFilter::Tcp(_) | NetworkFilter::Blackhole => None,
        }
    }

    /// The route table for clients that ask for the host of `authority` as server name, and whether they are asked for
    /// the same as this one was. `None` where TLS is not terminated or nothing else is served.
    pub(crate) fn by_server_name(&self, view: &View, authority: &str) -> Option<(RouteConfigId, bool)> {
        if !self.over_tls {
            return None;
        }
        let host = HostName::of_authority(authority);
        let facts = ConnectionFacts { server_name: Some(host.as_str()), ..self.facts() };
        let other = view.snapshot.select_filter_chain(&facts, self.serving_listener(view)?)?;
        let same_rules = other.tls.is_some() && other.tls == self.filter_chain(view)?.tls;
        match other.filter {
            NetworkFilter::Http(http) => Some((http.route_config, same_rules)),
            NetworkFilter::Tcp(_) | NetworkFilter::Blackhole => None,
        }
    }

    /// Wall-clock time at `moment`, for the access log.
    pub(crate) fn wall_time(&self, moment: Instant) -> SystemTime {
        self.worker().wall_time(moment)
    }
}

/// Serves a connection to its end. Whatever goes wrong is the peer's or the upstream's, costs only this connection,
/// and shows in the access log and the counts.
pub(crate) async fn serve(admitted: Admitted, stream: TcpStream, peer: SocketAddr, listener: SocketAddr) {
    if let Err(error) = serve_accepted(admitted, stream, peer, listener).await {
        tracing::debug!(%listener, downstream = %peer, %error, "connection ended");
    }
}

async fn serve_accepted(
    admitted: Admitted,
    mut stream: TcpStream,
    mut peer: SocketAddr,
    listener: SocketAddr,
) -> io::Result<()> {
    let worker = Rc::clone(admitted.worker());
    let view = worker.view();
    // A listener that was removed while the connection waited to be accepted.
    let Some(accepting) = view.snapshot.bound_listener(listener) else { return Ok(()) };
    let accepting = view.snapshot.listener(accepting);
    let mut destination = match destination(&worker, &stream, &view, accepting) {
        Ok(destination) => destination,
        Err(Refusal::Loop) => {
            worker.count(|counts| counts.looped += 1);
            tracing::debug!(%listener, downstream = %peer, "refused: going to the proxy itself");
            return Ok(());
        }
        Err(Refusal::Unknown(error)) => return Err(error),
    };
    let deadline = worker.timers.register();
    if accepting.direction == Direction::Gateway && worker.settings.gateway_proxy_protocol {
        let limit = worker.settings.handshake_timeout;
        let header = deadline.within(limit, proxy_protocol::receive(&mut stream)).await;
        if let Header::Proxied { source, destination: dialled } =
            header.map_err(|Elapsed| io::ErrorKind::TimedOut)??
        {
            (peer, destination) = (source, dialled);
        }
    }
    let connection = Connection {
        deadline,
        admitted,
        peer,
        destination,
        direction: accepting.direction,
        accepted: Instant::now(),
        listener,
        transport: TransportProtocol::RawBuffer,
        application: Application::Opaque,
        server_name: None,
        over_tls: false,
        http: Cell::new(None),
        at_loopback: ForClient::default(),
    };
    serve_listener(connection, stream, view).await
}

/// Why a captured connection is closed without being served.
enum Refusal {
    /// It was going to a capture port: forwarding it would come back here for ever.
    Loop,
    Unknown(io::Error),
}

fn destination(
    worker: &Worker,
    stream: &TcpStream,
    view: &View,
    accepting: &Listener,
) -> Result<SocketAddr, Refusal> {
    let local = || stream.local_addr().map_err(Refusal::Unknown);
    if accepting.direction == Direction::Gateway || matches!(accepting.binding, Binding::Dialled(_)) {
        return local();
    }
    if accepting.direction == Direction::Inbound
        && matches!(worker.settings.inbound_capture, InboundCapture::Transparent { .. })
    {
        let original = local()?;
        return if is_own_port(original.port(), view, accepting) { Err(Refusal::Loop) } else { Ok(original) };
    }
    // Not redirected at all means somebody dialled the capture port itself.
    let original =
        (worker.settings.original_destination)(stream).map_err(Refusal::Unknown)?.ok_or(Refusal::Loop)?;
    if is_own_port(original.port(), view, accepting) { Err(Refusal::Loop) } else { Ok(original) }
}

/// Whether a captured connection was going to the proxy: outbound to its own port, inbound to either capture port.
fn is_own_port(port: u16, view: &View, accepting: &Listener) -> bool {
    let is_accepting = matches!(accepting.binding, Binding::Socket(address) if address.port() == port);
    let is_outbound = || {
        let listener = view.snapshot.bound_listener((Ipv4Addr::UNSPECIFIED, port).into());
        listener.is_some_and(|id| view.snapshot.listener(id).direction == Direction::Outbound)
    };
    is_accepting || (accepting.direction == Direction::Inbound && is_outbound())
}

/// How a connection is served, decided once.
enum Service {
    Http,
    Tcp(Result<Box<Dialled>, NotDialled>),
    Refused,
}

async fn serve_listener(mut connection: Connection, mut stream: TcpStream, view: Rc<View>) -> io::Result<()> {
    let Some(listener) = connection.serving_listener(&view) else { return Ok(()) };
    let (first, early) = match view.snapshot.inspection(listener, connection.destination.port()) {
        Inspection::Nothing => (None, None),
        // In a box of its own: the state of TLS is large, and other connections should not hold room for it.
        Inspection::Hello => {
            Box::pin(handshake::serve_by_hello(connection, stream, view)).await;
            return Ok(());
        }
        Inspection::Protocol { hello } => {
            let Inspected { transport, application, first, early } =
                inspect_protocol(&connection, &mut stream, &view).await?;
            (connection.transport, connection.application) = (transport, application);
            if hello && transport == TransportProtocol::Tls {
                Box::pin(handshake::serve_opened(connection, stream, view, first)).await;
                return Ok(());
            }
            (Some(first), early)
        }
    };
    serve_chain(connection, stream, view, (first, early)).await;
    Ok(())
}

/// Counts and logs a connection that no chain takes.
fn refuse(connection: &Connection) {
    connection.worker().count(|counts| counts.no_filter_chain += 1);
    tcp::log_refused(connection);
}

/// Serves a connection as its chain says. `first` is what the client has sent already; `early` the upstream if it was
/// dialled during inspection.
async fn serve_chain<S: Transport + 'static>(
    connection: Connection,
    stream: S,
    view: Rc<View>,
    (first, early): (Option<PooledBuffer>, Option<Dialled>),
) {
    let service = match (connection.filter_chain(&view).map(|chain| &chain.filter), early) {
        (Some(NetworkFilter::Http(_)), _) => Service::Http,
        (Some(NetworkFilter::Tcp(_)), Some(early)) => Service::Tcp(Ok(Box::new(early))),
        (Some(NetworkFilter::Tcp(proxy)), None) => {
            Service::Tcp(tcp::dial(&connection, &view, proxy).await.map(Box::new))
        }
        (Some(NetworkFilter::Blackhole) | None, _) => Service::Refused,
    };
    // The connection may outlive many snapshots; what it needs of this one it has.
    drop(view);
    match service {
        Service::Http => http::serve(connection, stream, first).await,
        Service::Tcp(Ok(dialled)) => tcp::serve(&connection, stream, *dialled, first).await,
        Service::Tcp(Err(failed)) => tcp::log_failed(&connection, &failed),
        Service::Refused => refuse(&connection),
    }
}

/// Inspects the first bytes. While the client is silent, the server that opaque bytes would go to is dialled.
async fn inspect_protocol(
    connection: &Connection,
    stream: &mut TcpStream,
    view: &View,
) -> io::Result<Inspected<Dialled>> {
    let dial = async || match &connection.filter_chain(view)?.filter {
        NetworkFilter::Tcp(proxy) => tcp::dial(connection, view, proxy).await.ok(),
        NetworkFilter::Http(_) | NetworkFilter::Blackhole => None,
    };
    let worker = connection.worker();
    inspect(stream, &worker.buffers, (&connection.deadline, worker.patience()), dial).await
}
