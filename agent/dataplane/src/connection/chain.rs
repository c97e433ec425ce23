//! A connection from accept to its filter chain: original destination, listener, inspection, chain.

use std::{
    cell::{Cell, OnceCell},
    io,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::Instant,
};

use snapshot::{
    Address, Application, ClientLimits, Direction, HttpSettingsId, Inspection, NetworkFilter,
    Transport as TransportProtocol,
};
use tokio::net::TcpStream;

use super::{
    Connection, connection_id,
    destination::{Refusal, destination, is_captured},
    handshake, proxied,
};
use crate::{
    accept::Admitted,
    buffer::PooledBuffer,
    http::Downstream,
    inspect::{Inspected, InspectionTimeouts, inspect},
    origin::LoopbackUpstream,
    tcp::{self, Dialled, Opaque},
    transport::DownstreamStream,
    view::View,
};

/// How a connection is served, decided once.
pub(super) enum Service {
    Http(Box<Downstream>),
    Tcp(Box<Opaque>),
}

/// Learns of a new connection what its chain depends on. `None` when no chain takes it, or it failed.
pub(super) async fn find(
    admitted: Admitted,
    stream: TcpStream,
    peer: SocketAddr,
    listener: Address,
) -> Option<Service> {
    let found = accepted(admitted, stream, peer, &listener).await;
    found
        .inspect_err(|error| tracing::debug!(%listener, downstream = %peer, %error, "connection ended"))
        .ok()
        .flatten()
}

async fn accepted(
    admitted: Admitted,
    mut stream: TcpStream,
    peer: SocketAddr,
    listener: &Address,
) -> io::Result<Option<Service>> {
    let worker = Rc::clone(admitted.worker());
    let view = worker.view();
    // A listener that was removed while the connection waited to be accepted.
    let Some(accepting) = view.snapshot.bound_listener(listener) else { return Ok(None) };
    let accepting = view.snapshot.listener(accepting);
    let destination = match destination(&worker, &stream, &view, accepting) {
        Ok(destination) => destination,
        Err(Refusal::Loop) => {
            worker.count(|counts| counts.looped += 1);
            tracing::debug!(%listener, downstream = %peer, "refused: going to the proxy itself");
            return Ok(None);
        }
        Err(Refusal::Unknown(error)) => return Err(error),
    };
    let mut connection = Connection {
        id: connection_id(),
        deadline: worker.timers.register(),
        admitted,
        peer,
        destination,
        is_captured: is_captured(accepting),
        direction: accepting.direction,
        accepted: Instant::now(),
        listener: listener.clone(),
        transport: TransportProtocol::RawBuffer,
        application: Application::Opaque,
        server_name: None,
        session: None,
        http: Cell::new(None),
        refused: Cell::new(None),
        settings: Arc::clone(view.snapshot.http_settings(HttpSettingsId::default())),
        introduction: OnceCell::new(),
        client: Cell::new(None),
        taken: Cell::default(),
        at_loopback: LoopbackUpstream::default(),
    };
    if accepting.direction == Direction::Gateway
        && worker.settings.gateway_proxy_protocol
        && !proxied::receive_header(&mut connection, &mut stream).await
    {
        return Ok(None);
    }
    inspected(connection, stream, view).await
}

/// Inspects a connection as far as the choice of its chain needs it.
async fn inspected(
    mut connection: Connection,
    mut stream: TcpStream,
    view: Rc<View>,
) -> io::Result<Option<Service>> {
    let Some(listener) = connection.serving_listener(&view) else { return Ok(None) };
    let (first, early) = match view.snapshot.inspection(listener, connection.destination.port()) {
        Inspection::Nothing => (None, None),
        Inspection::Hello => return Ok(handshake::chosen_by_hello(connection, stream, view).await),
        Inspection::Protocol { hello } => {
            let Inspected { transport, application, first, early } =
                inspect_protocol(&connection, &mut stream, &view).await?;
            (connection.transport, connection.application) = (transport, application);
            if hello && transport == TransportProtocol::Tls {
                let first = first.unwrap_or_else(|| connection.worker().buffers.small());
                return Ok(handshake::chosen_once_opened(connection, stream, view, first).await);
            }
            (first, early)
        }
    };
    Ok(chosen(connection, DownstreamStream::Tcp(stream), &view, (first, early)).await)
}

/// Serves a connection as its chain says. `first` is what the client has sent already; `early` the upstream if it was
/// dialled during inspection.
pub(super) async fn chosen(
    mut connection: Connection,
    stream: DownstreamStream,
    view: &View,
    (first, early): (Option<PooledBuffer>, Option<Dialled>),
) -> Option<Service> {
    match (connection.filter_chain(view).map(|chain| &chain.filter), early) {
        (Some(NetworkFilter::Http(http)), _) => {
            connection.settings = Arc::clone(view.snapshot.http_settings(http.settings));
            Some(Service::Http(Box::new(Downstream::new(connection, stream, first))))
        }
        (Some(NetworkFilter::Tcp(_)), Some(dialled)) => {
            Some(Service::Tcp(Box::new(Opaque { connection, stream, dialled, first })))
        }
        (Some(NetworkFilter::Tcp(proxy)), None) => match tcp::dial(&connection, view, proxy).await {
            Ok(dialled) => Some(Service::Tcp(Box::new(Opaque { connection, stream, dialled, first }))),
            Err(failed) => {
                tcp::log_failed(&connection, &failed);
                None
            }
        },
        (Some(NetworkFilter::Blackhole), _) => {
            connection.worker().count(|counts| counts.no_filter_chain += 1);
            tcp::log_black_hole(&connection);
            None
        }
        (None, _) => {
            refuse(&connection);
            None
        }
    }
}

/// Counts and logs a connection that no chain takes.
pub(super) fn refuse(connection: &Connection) {
    connection.worker().count(|counts| counts.no_filter_chain += 1);
    tcp::log_refused(connection);
}

/// Inspects the first bytes. While the client is silent, the server that opaque bytes would go to is dialled.
async fn inspect_protocol(
    connection: &Connection,
    stream: &mut TcpStream,
    view: &View,
) -> io::Result<Inspected<Dialled>> {
    let (snapshot, destination) = (&view.snapshot, connection.destination);
    let dial = || match &connection.filter_chain(view)?.filter {
        NetworkFilter::Tcp(proxy)
            if snapshot.server_may_speak_first(proxy, destination, connection.serving_listener(view)?) =>
        {
            Some(async { tcp::dial(connection, view, proxy).await.ok() })
        }
        NetworkFilter::Tcp(_) | NetworkFilter::Http(_) | NetworkFilter::Blackhole => None,
    };
    let worker = connection.worker();
    let timeouts = InspectionTimeouts {
        silent: worker.idle_timeout(&ClientLimits::default()),
        record: worker.settings.handshake_timeout,
        request_line: worker.settings.head_timeout,
    };
    inspect(stream, &worker.buffers, (&connection.deadline, timeouts), dial).await
}
