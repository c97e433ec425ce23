//! What the standard library does not offer of sockets and of the system. All `unsafe` of the data plane lives here.

mod memory;
mod queue;
mod timer;
mod unix;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    sync::LazyLock,
};

use nix::sys::socket::{setsockopt, sockopt};
use snapshot::{Address, Keepalive};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpSocket, TcpStream};

use crate::bounds;

pub use self::memory::{release_memory, trim_memory};
pub(crate) use self::queue::unacknowledged;
pub(crate) use self::timer::Timer;
pub(crate) use self::unix::{ListeningUnix, accepted as accepted_unix, listen as listen_unix};

/// Asks the kernel where a redirected connection was going (`SO_ORIGINAL_DST`, `IP6T_SO_ORIGINAL_DST`).
///
/// Returns `None` when the connection was not redirected: conntrack knows no translation for it.
///
/// # Errors
/// Whatever else the kernel answers, for example when connection tracking is not available.
pub fn original_destination(stream: &TcpStream) -> io::Result<Option<SocketAddr>> {
    let local = unmapped(stream.local_addr()?);
    let socket = SockRef::from(stream);
    let answer = match local.ip() {
        IpAddr::V4(_) => socket.original_dst_v4(),
        IpAddr::V6(_) => socket.original_dst_v6(),
    };
    match answer {
        Ok(address) => Ok(address.as_socket().filter(|original| *original != local)),
        Err(error) if error.raw_os_error() == Some(ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

// Linux's number for "no such entry", the same on every architecture.
const ENOENT: i32 = 2;

/// An address without the wrapping that a dual-stack socket puts around IPv4.
fn unmapped(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Opens a listening socket that several workers can share the port of (`SO_REUSEPORT`).
///
/// IPv6 sockets take IPv6 only, so that each family has a socket of its own and addresses are never mapped. Accepted
/// connections inherit what is set here (Linux): small writes leave at once, and a peer that vanished without a word is
/// found out by keep-alive probes.
///
/// A `transparent` one takes what TPROXY hands it, whatever the destination address, and needs CAP_NET_ADMIN.
pub(crate) fn listen(
    address: SocketAddr,
    share_port: bool,
    transparent: bool,
) -> io::Result<std::net::TcpListener> {
    let socket = bind(address, share_port, transparent)?;
    socket.listen(bounds::BACKLOG)?;
    Ok(socket.into())
}

/// Whether nobody listens on an address, shared or not. Nobody can connect meanwhile: who did would be dropped.
///
/// # Errors
/// As [`listen`] without sharing the port would.
pub(crate) fn check_free(address: SocketAddr, transparent: bool) -> io::Result<()> {
    bind(address, false, transparent).map(drop)
}

fn bind(address: SocketAddr, share_port: bool, transparent: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if transparent {
        set_transparent(&socket, address)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_keepalive(true)?;
    socket.set_reuse_port(share_port)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Lets a socket have an address that is not this machine's.
fn set_transparent(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    match address {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true),
        SocketAddr::V6(_) => socket.set_ip_transparent_v6(true),
    }
}

/// The local address of a connection.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Source {
    /// An address of this machine.
    Own(IpAddr),
    /// Anybody's address, on a socket with a mark by which the interception rules know it; with port 0 the kernel
    /// chooses the port. Needs CAP_NET_ADMIN.
    Foreign(SocketAddr, u32),
}

impl Source {
    /// The same with a port of the kernel's choice.
    pub(crate) fn any_port(self) -> Self {
        match self {
            Self::Own(_) => self,
            Self::Foreign(address, mark) => Self::Foreign(SocketAddr::new(address.ip(), 0), mark),
        }
    }

    /// With a port, at random where none is chosen: one from below those that kernels give to clients. Two connections
    /// of a client to the same port of the pod, one of them ours in its name, must not have one port.
    pub(crate) fn with_port(self) -> Self {
        match self {
            Self::Foreign(address, mark) if address.port() == 0 => {
                Self::Foreign(SocketAddr::new(address.ip(), fastrand::u16(RARE_PORTS)), mark)
            }
            _ => self,
        }
    }

    /// Whether the port is chosen already.
    pub(crate) fn has_port(&self) -> bool {
        matches!(self, Self::Foreign(address, _) if address.port() != 0)
    }
}

/// Linux begins at 32768 (`net.ipv4.ip_local_port_range`), most others at 49152. `IP_LOCAL_PORT_RANGE` cannot leave the
/// machine's own range.
const RARE_PORTS: RangeInclusive<u16> = 10_000..=32_767;

/// Connects to `destination`, from `source` when one is given; unix sockets have no use for one.
pub(crate) async fn connect(destination: &Address, source: Option<Source>) -> io::Result<TcpStream> {
    let destination = match destination {
        Address::Socket(destination) => *destination,
        // In a box of its own: connections to others should not hold room for it.
        Address::Unix(path) => return Box::pin(unix::connect(path)).await,
    };
    let socket = bound_socket(destination, source)?;
    TcpSocket::from_std_stream(socket.into()).connect(destination).await
}

/// Opens a socket towards `destination`, bound to `source` when one is given.
///
/// `IP_BIND_ADDRESS_NO_PORT` leaves the choice of port to connect(), so that one source address serves as many
/// connections as there are distinct destinations.
pub(crate) fn bound_socket(destination: SocketAddr, source: Option<Source>) -> io::Result<Socket> {
    let socket =
        Socket::new(Domain::for_address(destination), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    let address = match source {
        None => None,
        Some(Source::Own(address)) => Some(SocketAddr::new(address, 0)),
        Some(Source::Foreign(address, mark)) => {
            set_transparent(&socket, destination)?;
            socket.set_mark(mark)?;
            // Clients use one port towards several ports of the pod.
            socket.set_reuse_address(address.port() != 0)?;
            Some(address)
        }
    };
    if let Some(address) = address {
        setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
        socket.bind(&address.into())?;
    }
    Ok(socket)
}

/// Lets the kernel probe a silent peer; what is not said is the kernel's default.
pub(crate) fn set_keepalive(stream: &TcpStream, keepalive: &Keepalive) -> io::Result<()> {
    let mut wanted = TcpKeepalive::new();
    if let Some(time) = keepalive.time {
        wanted = wanted.with_time(time);
    }
    if let Some(interval) = keepalive.interval {
        wanted = wanted.with_interval(interval);
    }
    if let Some(probes) = keepalive.probes {
        wanted = wanted.with_retries(probes);
    }
    SockRef::from(stream).set_tcp_keepalive(&wanted)
}

/// The machine's name, which in a pod is the pod's.
pub(crate) static HOSTNAME: LazyLock<String> = LazyLock::new(|| {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default()
});

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn accepted_connections_inherit_the_listeners_options() {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0)), true, false).unwrap();
        listener.set_nonblocking(false).unwrap();
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert!(accepted.nodelay().unwrap());
        assert!(SockRef::from(&accepted).keepalive().unwrap());
    }

    #[test]
    fn probes_are_sent_as_asked() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let seconds = Duration::from_secs;
            let keepalive =
                Keepalive { probes: Some(4), time: Some(seconds(300)), interval: Some(seconds(7)) };
            set_keepalive(&stream, &keepalive).unwrap();
            let socket = SockRef::from(&stream);
            assert!(socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), 4);
            assert_eq!(socket.tcp_keepalive_time().unwrap(), seconds(300));
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), seconds(7));
        });
    }
}
