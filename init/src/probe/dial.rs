//! Sends one probe, as whoever it has to come from.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use rules::ports::Port;
use socket2::{Domain, SockAddr, Socket, Type};

use super::Probe;
use super::listen::{Listeners, Nonce};

/// What became of one probe.
#[derive(Clone, Debug)]
pub(super) enum Dialed {
    /// It arrived at a port of the proxy.
    Arrived {
        /// The port.
        port: Port,
        /// Where it was going, as far as the kernel remembers it.
        original: Option<SocketAddr>,
    },
    /// It did not.
    NotHere,
    /// It could not be sent at all, so it proves nothing.
    Unsent(String),
}

impl Dialed {
    /// The port it arrived on.
    pub(super) fn port(&self) -> Option<Port> {
        match self {
            Self::Arrived { port, .. } => Some(*port),
            Self::NotHere | Self::Unsent(_) => None,
        }
    }
}

/// A connection that is not intercepted goes nowhere; there is no point in waiting for it.
const PATIENCE: Duration = Duration::from_millis(300);

/// Sends the probe on a thread of its own, since the sender's identity is the thread's.
pub(super) fn dial(probe: &Probe, listeners: &Listeners) -> Dialed {
    let nonce = Nonce::new();
    let sent = std::thread::scope(|scope| scope.spawn(|| send(probe, &nonce)).join());
    let socket = match sent {
        Ok(Ok(socket)) => socket,
        Ok(Err(error)) => return unsent(probe, &error),
        Err(_) => return Dialed::Unsent("the probe's thread failed".to_owned()),
    };
    let arrival = socket.and_then(|socket| {
        let arrival = listeners.arrival_of(&nonce);
        drop(socket);
        arrival
    });
    arrival
        .map_or(Dialed::NotHere, |arrival| Dialed::Arrived { port: arrival.port, original: arrival.original })
}

/// The probe's open socket, if somebody answered; it has said its nonce.
fn send(probe: &Probe, nonce: &Nonce) -> std::io::Result<Option<Socket>> {
    if !probe.sender.take_on() {
        return Err(ErrorKind::PermissionDenied.into());
    }
    let udp = probe.protocol == rules::ruleset::Protocol::Udp;
    let kind = if udp { Type::DGRAM } else { Type::STREAM };
    let socket = Socket::new(Domain::for_address(probe.destination), kind, None)?;
    if let Some(source) = probe.source {
        socket.bind(&SockAddr::from(SocketAddr::new(source, 0)))?;
    }
    require_route(probe)?;
    match socket.connect_timeout(&probe.destination.into(), PATIENCE) {
        Ok(()) => {}
        Err(error) if is_an_answer(&error) => return Ok(None),
        Err(error) => return Err(error),
    }
    match socket.send(nonce.bytes()) {
        Ok(_) => Ok(Some(socket)),
        // Whoever took the connection is gone already: none of ours.
        Err(error) if is_an_answer(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Connecting a datagram socket asks for a route and sends nothing: what fails after this was sent.
fn require_route(probe: &Probe) -> std::io::Result<()> {
    let socket = Socket::new(Domain::for_address(probe.destination), Type::DGRAM, None)?;
    socket.connect(&probe.destination.into())
}

/// Refused, lost on the way, or sent back by a router: the packet was sent, and nobody of ours took it.
fn is_an_answer(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused
            | ErrorKind::TimedOut
            | ErrorKind::ConnectionReset
            | ErrorKind::BrokenPipe
            | ErrorKind::WouldBlock
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
    )
}

fn unsent(probe: &Probe, error: &std::io::Error) -> Dialed {
    let remedy = match error.kind() {
        ErrorKind::NetworkUnreachable | ErrorKind::AddrNotAvailable if probe.stays_inside() => {
            "; its address is missing on lo: install the rules first"
        }
        ErrorKind::NetworkUnreachable => "; no route leads there",
        ErrorKind::PermissionDenied => "; this process may not send as that user",
        _ => "",
    };
    Dialed::Unsent(format!("cannot be sent to {}: {error}{remedy}", probe.destination))
}
