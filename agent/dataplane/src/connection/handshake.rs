//! Clients that speak TLS: their hello, the chain and certificate it asks for, the handshake, and what is said of those
//! that come to nothing.

use std::{borrow::Cow, future::poll_fn, io, pin::pin, rc::Rc};

use snapshot::{ClientCertDetails, Direction, FilterChain, NetworkFilter, Transport as TransportProtocol};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::{
    Connection,
    chain::{self, Service, chosen},
};
use crate::{
    buffer::PooledBuffer,
    handshakes::Handshaking,
    inspect::{HelloError, inspect_hello},
    linger::linger,
    tcp,
    timer::Elapsed,
    tls::{self, Acceptor, Alert, Hello, RetainedFields},
    transport::{DownstreamStream, Prefixed, Transport},
    view::View,
};

/// Why a client that speaks TLS is not served.
enum Failure {
    /// It went away before it said anything, as probes of load balancers do.
    Silent,
    /// No chain is for what it asked for; with the protocols that it offered, if it spoke TLS.
    NoChain(Option<Box<str>>),
    /// Its first bytes are no client hello, or one that is too large.
    Hello(HelloError),
    /// The server it asked for has nothing to serve it with: what is missing.
    Unserved(Box<str>),
    /// The handshake failed.
    Handshake(io::Error),
    /// It took too long.
    TooLong,
    /// Newer handshakes needed its place.
    CrowdedOut,
}

/// The service of a connection where nobody is served without a client hello: it says which chain, and with it which
/// certificate.
pub(super) async fn chosen_by_hello(
    connection: Connection,
    mut stream: TcpStream,
    view: Rc<View>,
) -> Option<Service> {
    let worker = Rc::clone(connection.worker());
    let handshaking = worker.handshakes.begin(&connection.deadline);
    // A client that says nothing is waited for without a buffer.
    let readable = poll_fn(|cx| stream.poll_readable(cx));
    match waited(&connection, &handshaking, readable).await.and_then(|readable| readable.map_err(failed)) {
        Ok(()) => {
            let first = worker.buffers.small();
            chosen_over_tls(connection, stream, &view, (first, handshaking)).await
        }
        Err(failure) => {
            tell(&connection, &view, &failure);
            None
        }
    }
}

/// The service of a connection of which at most the beginning of a client hello has been read into `first`.
pub(super) async fn chosen_once_opened(
    connection: Connection,
    stream: TcpStream,
    view: Rc<View>,
    first: PooledBuffer,
) -> Option<Service> {
    let handshaking = connection.worker().handshakes.begin(&connection.deadline);
    chosen_over_tls(connection, stream, &view, (first, handshaking)).await
}

async fn chosen_over_tls(
    mut connection: Connection,
    mut stream: TcpStream,
    view: &View,
    (mut first, handshaking): (PooledBuffer, Handshaking),
) -> Option<Service> {
    let hello = read_hello(&connection, &mut stream, &mut first, &handshaking).await;
    let (acceptor, kept) = match hello.and_then(|hello| acceptor(&mut connection, view, hello)) {
        Ok(Some(accepts)) => accepts,
        Ok(None) => {
            drop(handshaking);
            return chosen(connection, DownstreamStream::Tcp(stream), view, (Some(first), None)).await;
        }
        Err(failure) => return refuse(&connection, &mut stream, view, failure).await,
    };
    // In a box of its own: those who have said nothing yet should not hold room for it.
    let accepting = Box::pin(acceptor.accept(Prefixed::new(Some(first), stream), kept));
    let turns = handshaking.in_turn(accepting);
    match waited(&connection, &handshaking, turns).await {
        Ok(Ok((stream, session))) => {
            connection.session = Some(Box::new(session));
            drop(handshaking);
            chosen(connection, DownstreamStream::Tls(Box::new(stream)), view, (None, None)).await
        }
        Ok(Err((error, mut stream))) => {
            tell(&connection, view, &Failure::Handshake(error));
            // In TLS 1.3 the client may think that it is through, and send its request.
            Box::pin(linger(&connection, &mut stream)).await;
            None
        }
        Err(failure) => {
            tell(&connection, view, &failure);
            None
        }
    }
}

/// What accepts a client with this hello, and what is kept of its certificate; `None` where its chain passes on what it
/// sends.
fn acceptor(
    connection: &mut Connection,
    view: &View,
    hello: Option<Hello>,
) -> Result<Option<(Acceptor, RetainedFields)>, Failure> {
    let mut offered = None;
    if let Some(Hello { server_name, application, offered: protocols }) = hello {
        connection.transport = TransportProtocol::Tls;
        (connection.server_name, connection.application) = (server_name, application);
        offered = Some(protocols);
    }
    let Some(chain) = connection.filter_chain(view) else { return Err(Failure::NoChain(offered)) };
    let Some(context) = chain.tls else { return Ok(None) };
    let acceptor = view.tls().acceptor(context, &offered.unwrap_or_default());
    let acceptor = acceptor.map_err(|missing| Failure::Unserved(missing.into()))?;
    Ok(Some((acceptor, retained_fields(connection, view, chain))))
}

/// What is kept of a client's certificate: what headers and the access log show.
fn retained_fields(connection: &Connection, view: &View, chain: &FilterChain) -> RetainedFields {
    // As Istio: whoever stands at the edge of the mesh is told all there is.
    let istios = ClientCertDetails {
        subject: true,
        cert: connection.direction == Direction::Gateway,
        chain: false,
        dns: true,
        uri: true,
    };
    let details = match chain.filter {
        NetworkFilter::Http(http) => view.snapshot.http_settings(http.settings).client_cert_details,
        NetworkFilter::Tcp(_) | NetworkFilter::Blackhole => None,
    };
    RetainedFields {
        for_endpoints: details.unwrap_or(istios),
        for_logs: connection.log().is_some_and(|log| log.slots().certificates),
    }
}

/// The client's hello; `None` when its first bytes are something else.
async fn read_hello(
    connection: &Connection,
    stream: &mut TcpStream,
    first: &mut PooledBuffer,
    handshaking: &Handshaking,
) -> Result<Option<Hello>, Failure> {
    let reading = inspect_hello(stream, first);
    match waited(connection, handshaking, reading).await? {
        Ok(hello) => Ok(hello),
        Err(HelloError::Connection(error)) if first.is_empty() => Err(failed(error)),
        Err(error) => Err(Failure::Hello(error)),
    }
}

/// What a failing connection means before the client has said anything.
fn failed(_: io::Error) -> Failure {
    Failure::Silent
}

/// Waits for a client for as long as a handshake may take.
async fn waited<F: Future>(
    connection: &Connection,
    handshaking: &Handshaking,
    future: F,
) -> Result<F::Output, Failure> {
    let limit = connection.worker().settings.handshake_timeout;
    let result = connection.deadline.within(limit, pin!(future)).await;
    result.map_err(|Elapsed| match handshaking.is_crowded_out() {
        true => Failure::CrowdedOut,
        false => Failure::TooLong,
    })
}

/// Tells the client in the clear why it is not served, no version being agreed yet, and everybody else in the log.
async fn refuse(
    connection: &Connection,
    stream: &mut TcpStream,
    view: &View,
    failure: Failure,
) -> Option<Service> {
    tell(connection, view, &failure);
    if let Some(alert) = failure.alert() {
        // The client may be gone, and few bytes always fit.
        _ = stream.write_all(&alert.record()).await;
        Box::pin(linger(connection, stream)).await;
    }
    None
}

impl Failure {
    /// What a client is told that has not been answered yet.
    fn alert(&self) -> Option<Alert> {
        match self {
            Self::NoChain(Some(_)) => Some(Alert::UnrecognizedName),
            Self::Unserved(_) => Some(Alert::InternalError),
            Self::Hello(HelloError::Malformed(_) | HelloError::TooLarge) => Some(Alert::DecodeError),
            // rustls has told it, or it does not speak TLS, or it does not listen.
            Self::NoChain(None)
            | Self::Hello(HelloError::Connection(_))
            | Self::Handshake(_)
            | Self::Silent
            | Self::TooLong
            | Self::CrowdedOut => None,
        }
    }

    fn reason(&self) -> Cow<'_, str> {
        match self {
            Self::Silent => "the client went away".into(),
            Self::NoChain(_) => "no filter chain for this client hello".into(),
            Self::Hello(error) => error.to_string().into(),
            Self::Unserved(missing) => Cow::Borrowed(missing),
            Self::Handshake(error) => tls::why(error).into(),
            Self::TooLong => "the client took too long".into(),
            Self::CrowdedOut => "newer handshakes needed its place".into(),
        }
    }
}

/// Counts a failure, and logs it: in the access log, and now and then for the operator.
fn tell(connection: &Connection, view: &View, failure: &Failure) {
    let worker = connection.worker();
    let (downstream, destination) = (connection.peer, connection.destination);
    let server_name = connection.server_name();
    match failure {
        Failure::Silent => {
            tracing::debug!(%downstream, %destination, "closed before it said anything");
            return;
        }
        Failure::NoChain(_) => chain::refuse(connection),
        Failure::CrowdedOut => {
            worker.count(|counts| counts.crowded_out_handshakes += 1);
            tcp::log_unopened(connection, &failure.reason());
        }
        _ => {
            worker.count(|counts| counts.failed_handshakes += 1);
            tcp::log_unopened(connection, &failure.reason());
        }
    }
    let Some(unsaid) = worker.log_limit.admit() else { return };
    let unsaid = (unsaid > 0).then_some(unsaid);
    match failure {
        Failure::NoChain(None) if connection.direction == Direction::Inbound => tracing::info!(
            %downstream,
            %destination,
            unsaid,
            "clear text refused: only TLS is served here (mutual TLS is STRICT); give the client a sidecar, or set \
             `mtls.mode: PERMISSIVE` in the PeerAuthentication"
        ),
        Failure::NoChain(None) => tracing::info!(
            %downstream, %destination, unsaid, "clear text refused: only TLS is served here"
        ),
        Failure::NoChain(Some(protocols)) => tracing::info!(
            %downstream,
            %destination,
            server_name,
            protocols,
            served = connection.served_names(view),
            unsaid,
            "no filter chain for this client"
        ),
        Failure::Unserved(missing) => tracing::warn!(
            %downstream, %destination, server_name, unsaid, "TLS handshake refused: {missing}"
        ),
        _ => tracing::info!(
            %downstream, %destination, server_name, unsaid, "TLS handshake failed: {}", failure.reason()
        ),
    }
}
