//! Where an accepted connection was going.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
};

use snapshot::{Binding, Direction, Listener};
use tokio::net::TcpStream;

use super::NOBODY;
use crate::{
    view::View,
    worker::{InboundCapture, Worker},
};

/// Why a captured connection is closed without being served.
pub(super) enum Refusal {
    /// It was going to a capture port: forwarding it would come back here for ever.
    Loop,
    Unknown(io::Error),
}

/// Whether connections to a listener were on their way to somebody else, and somewhere else may be found for them.
pub(super) fn is_captured(accepting: &Listener) -> bool {
    accepting.direction != Direction::Gateway && !accepting.binding.is_dialled()
}

/// The original destination of a captured connection, else the local address.
pub(super) fn destination(
    worker: &Worker,
    stream: &TcpStream,
    view: &View,
    accepting: &Listener,
) -> Result<SocketAddr, Refusal> {
    if matches!(accepting.binding, Binding::Unix(_)) {
        return Ok(NOBODY);
    }
    let local = || stream.local_addr().map_err(Refusal::Unknown);
    if !is_captured(accepting) {
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
        let listener = view.snapshot.bound_listener(&(Ipv4Addr::UNSPECIFIED, port).into());
        listener.is_some_and(|id| view.snapshot.listener(id).direction == Direction::Outbound)
    };
    is_accepting || (accepting.direction == Direction::Inbound && is_outbound())
}
