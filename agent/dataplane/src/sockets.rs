//! The one place where listening sockets are made: one per worker and address, sharing the port.
//!
//! Kept apart from the workers so that a supervising parent can later hold the sockets and hand them over.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener},
    os::unix::net::UnixListener,
};

use snapshot::{Address, Binding, Direction, Listener, Snapshot};

use crate::{
    sys::{self, ListeningUnix},
    worker::InboundCapture,
};

/// Which addresses are open, and for which listener.
#[derive(Debug)]
pub(crate) struct Sockets {
    workers: usize,
    inbound_capture: InboundCapture,
    /// Bound address → the socket that stays open there.
    open: BTreeMap<Address, Open>,
}

/// What is open at an address.
#[derive(Debug)]
struct Open {
    /// Address of the listener it serves.
    listener: Address,
    /// Kept for its file, which goes with it.
    _unix: Option<ListeningUnix>,
}

/// Sockets of one address, one for each worker.
pub(crate) struct Opened {
    pub(crate) address: Address,
    pub(crate) listener: Address,
    pub(crate) per_worker: Vec<ListeningSocket>,
}

/// A listening socket of one worker.
#[derive(Debug)]
pub(crate) enum ListeningSocket {
    Tcp(TcpListener),
    /// Shared with the other workers: whoever is first has the connection.
    Unix(UnixListener),
}

/// What opening came to.
#[derive(Default)]
pub(crate) struct Openings {
    pub(crate) opened: Vec<Opened>,
    pub(crate) refused: Vec<BindError>,
}

/// Why a listener has no socket.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for {listener}: {reason}{remedy}", remedy = remedy(reason, address))]
pub struct BindError {
    /// Istio's name of the listener.
    pub listener: String,
    /// The address that was asked for.
    pub address: Address,
    /// What the kernel said.
    pub reason: io::Error,
}

fn remedy(error: &io::Error, address: &Address) -> String {
    match (error.kind(), address) {
        (io::ErrorKind::AddrInUse, Address::Socket(at)) => {
            let port = at.port();
            format!("; find its owner with `ss -ltnp 'sport = :{port}'` and stop it, or choose another port")
        }
        (io::ErrorKind::AddrInUse, Address::Unix(_)) => {
            "; somebody listens there, or the file is no socket: find the owner with `ss -lxp` and stop it, or choose \
             another path"
                .to_owned()
        }
        (io::ErrorKind::NotFound, Address::Unix(_)) => "; make or mount its directory".to_owned(),
        (io::ErrorKind::PermissionDenied, Address::Unix(_)) => {
            "; the proxy's user must be allowed to write to its directory".to_owned()
        }
        (io::ErrorKind::PermissionDenied, Address::Socket(_)) => {
            "; ports below 1024 need CAP_NET_BIND_SERVICE: map the port to a higher \
             one with a Service that selects this gateway (port → targetPort)"
                .to_owned()
        }
        (io::ErrorKind::AddrNotAvailable, _) => "; the address belongs to no interface of this machine".to_owned(),
        _ => String::new(),
    }
}

/// Opens a listening socket that is no worker's: the admin interface, probes. `listener` names it in the error.
///
/// # Errors
/// The kernel refused, with the remedy where there is one.
pub fn listen(listener: &str, address: SocketAddr) -> Result<TcpListener, BindError> {
    sys::listen(address, false, false).map_err(|reason| BindError {
        listener: listener.to_owned(),
        address: address.into(),
        reason,
    })
}

impl Sockets {
    /// No sockets yet, for this many workers.
    pub(crate) fn new(workers: usize, inbound_capture: InboundCapture) -> Self {
        Self { workers, inbound_capture, open: BTreeMap::new() }
    }

    /// Forgets the sockets that `snapshot` no longer listens on, or for another listener, and names them. They must be
    /// closed before others are opened: an address may give way to one that covers it.
    pub(crate) fn close(&mut self, snapshot: &Snapshot) -> Vec<Address> {
        let wanted = wanted_addresses(snapshot);
        let is_wanted = |address: &Address, open: &Open| {
            wanted.get(address).is_some_and(|(wanted, _)| *wanted == open.listener)
        };
        let gone = self.open.iter().filter(|(address, open)| !is_wanted(address, open));
        let closed = gone.map(|(address, _)| address.clone()).collect();
        self.open.retain(|address, open| is_wanted(address, open));
        closed
    }

    /// Opens what `snapshot` listens on and is not open yet.
    ///
    /// A listener on the unspecified IPv4 address is opened for IPv6 too, unless the kernel has no IPv6. One listener
    /// that cannot be opened does not keep the others from it.
    pub(crate) fn open(&mut self, snapshot: &Snapshot) -> Openings {
        let mut openings = Openings::default();
        for (address, (listener, name)) in wanted_addresses(snapshot) {
            if self.open.contains_key(&address) {
                continue;
            }
            let is_capture =
                |l: &Listener| l.direction == Direction::Inbound && matches!(l.binding, Binding::Socket(_));
            let transparent = self.inbound_capture != InboundCapture::Redirect
                && snapshot.bound_listener(&listener).is_some_and(|id| is_capture(snapshot.listener(id)));
            match self.listen(&address, transparent) {
                Ok((per_worker, unix)) => {
                    self.open.insert(address.clone(), Open { listener: listener.clone(), _unix: unix });
                    openings.opened.push(Opened { address, listener, per_worker });
                }
                Err(error) if is_ipv6(&address) && !is_ipv6(&listener) && is_without_ipv6(&error) => {
                    tracing::debug!(%address, listener = name, "no IPv6 here");
                }
                Err(reason) => {
                    let reason = if transparent { transparent_refused(reason) } else { reason };
                    openings.refused.push(BindError { listener: name.to_owned(), address, reason });
                }
            }
        }
        openings
    }

    // A port shared with SO_REUSEPORT would also be shared with a second proxy that nobody meant to run. Binding once
    // without it tells whether the port is free.
    fn listen(
        &self,
        address: &Address,
        transparent: bool,
    ) -> io::Result<(Vec<ListeningSocket>, Option<ListeningUnix>)> {
        match address {
            Address::Socket(address) => {
                sys::check_free(*address, transparent)?;
                let listen = |_| sys::listen(*address, true, transparent).map(ListeningSocket::Tcp);
                Ok(((0..self.workers).map(listen).collect::<io::Result<_>>()?, None))
            }
            Address::Unix(path) => {
                let unix = sys::listen_unix(path)?;
                let share = |_| unix.socket.try_clone().map(ListeningSocket::Unix);
                Ok(((0..self.workers).map(share).collect::<io::Result<_>>()?, Some(unix)))
            }
        }
    }
}

fn transparent_refused(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::PermissionDenied => io::Error::other(
            "a transparent socket needs CAP_NET_ADMIN: give the capability to the proxy's container \
             (securityContext.capabilities.add: [NET_ADMIN]), or capture with --interception-mode REDIRECT",
        ),
        _ => error,
    }
}

fn is_ipv6(address: &Address) -> bool {
    address.ip().is_some_and(|ip| ip.is_ipv6())
}

fn is_without_ipv6(error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(EAFNOSUPPORT)
}

/// Address to bind → address and name of the listener.
fn wanted_addresses(snapshot: &Snapshot) -> BTreeMap<Address, (Address, &str)> {
    let mut wanted = BTreeMap::new();
    for listener in snapshot.listeners() {
        let Some(address) = listener.binding.bound() else { continue };
        wanted.insert(address.clone(), (address.clone(), listener.name.as_str()));
        if let Some(at) = address.socket()
            && let IpAddr::V4(ip) = at.ip()
            && ip.is_unspecified()
        {
            let both = Address::from((Ipv6Addr::UNSPECIFIED, at.port()));
            wanted.entry(both).or_insert((address, listener.name.as_str()));
        }
    }
    wanted
}

#[cfg(test)]
mod tests {
    use std::{io::Read, net::TcpStream, sync::mpsc, thread};

    use snapshot::{Direction, Draft, Listener};

    use super::*;

    fn snapshot(addresses: &[SocketAddr]) -> Snapshot {
        let listener = |address: &SocketAddr| Listener {
            name: format!("{}_{}", address.ip(), address.port()),
            direction: Direction::Gateway,
            binding: Binding::Socket(*address),
            filter_chains: vec![],
            default_filter_chain: None,
        };
        Draft { listeners: addresses.iter().map(listener).collect(), ..Draft::default() }.finish()
    }

    fn free_port() -> u16 {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
    }

    #[test]
    fn each_worker_gets_a_socket_and_what_is_no_longer_wanted_is_closed() {
        let mut sockets = Sockets::new(3, InboundCapture::Redirect);
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let openings = sockets.open(&snapshot(&[address]));
        assert!(openings.refused.is_empty(), "{:?}", openings.refused);
        assert_eq!(openings.opened[0].per_worker.len(), 3);
        assert!(sockets.close(&snapshot(&[address])).is_empty());
        assert!(sockets.open(&snapshot(&[address])).opened.is_empty());
        assert_eq!(sockets.close(&snapshot(&[])), [address.into()]);
    }

    #[test]
    fn a_taken_port_costs_only_its_own_listener_and_names_the_remedy() {
        // Also when whoever has it would share it, as another proxy.
        for shared in [false, true] {
            let taken = sys::listen(SocketAddr::from(([127, 0, 0, 1], 0)), shared, false).unwrap();
            let free = SocketAddr::from(([127, 0, 0, 1], free_port()));
            let mut sockets = Sockets::new(1, InboundCapture::Redirect);
            let openings = sockets.open(&snapshot(&[taken.local_addr().unwrap(), free]));
            assert_eq!(openings.opened.len(), 1);
            let message = openings.refused[0].to_string();
            assert!(message.contains("Address already in use") && message.contains("ss -ltnp"), "{message}");
        }
    }

    /// One that comes too early is refused; whoever is taken stays, even before a worker accepts.
    #[test]
    fn no_connection_that_was_taken_is_dropped_while_a_listener_opens() {
        for _ in 0..2000 {
            let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
            let (refused, trying) = mpsc::channel();
            let client = thread::spawn(move || {
                loop {
                    match TcpStream::connect(address) {
                        Ok(stream) => return stream,
                        Err(_) => _ = refused.send(()),
                    }
                }
            });
            trying.recv().unwrap();
            let openings = Sockets::new(2, InboundCapture::Redirect).open(&snapshot(&[address]));
            assert!(openings.refused.is_empty(), "{:?}", openings.refused);
            let mut client = client.join().unwrap();
            client.set_nonblocking(true).unwrap();
            let told = client.read(&mut [0]).map_err(|error| error.kind());
            assert_eq!(told, Err(io::ErrorKind::WouldBlock));
        }
    }

    #[test]
    fn the_unspecified_address_is_opened_for_both_families() {
        let mut sockets = Sockets::new(1, InboundCapture::Redirect);
        let opened = sockets.open(&snapshot(&[SocketAddr::from(([0, 0, 0, 0], free_port()))])).opened;
        assert!(opened.iter().any(|opened| !is_ipv6(&opened.address)));
        assert!(opened.iter().all(|opened| !is_ipv6(&opened.listener)));
    }
}
