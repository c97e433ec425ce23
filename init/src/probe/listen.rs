//! Listeners on the ports of the proxy, each telling who arrived and where they wanted to go.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use rules::ports::Port;
use rules::settings::Settings;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Somebody arrived.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    /// The port they arrived on.
    pub(super) port: Port,
    /// What they say first.
    said: Vec<u8>,
    /// Where they wanted to go, as far as the kernel remembers it.
    pub(super) original: Option<SocketAddr>,
}

/// Listeners on every port of the proxy; closed when dropped.
pub(super) struct Listeners {
    arrivals: Mutex<Receiver<Arrival>>,
    stop: Arc<AtomicBool>,
}

/// How often a listener looks whether it is still wanted.
const GLANCE: Duration = Duration::from_millis(10);

impl Listeners {
    /// Listens on loopback, where redirected connections of this machine arrive.
    pub(super) fn open(settings: &Settings, dns: bool) -> Result<Self> {
        let (sender, arrivals) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        for address in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            for port in [settings.outbound_port, settings.inbound_port] {
                open_tcp(address, port, &sender, &stop)?;
            }
            if dns {
                open_udp(address, Port::DNS, &sender, &stop)?;
            }
        }
        Ok(Self { arrivals: Mutex::new(arrivals), stop })
    }

    /// Waits a little for whoever says the word; strangers are forgotten.
    pub(super) fn arrival_of(&self, word: &Nonce) -> Option<Arrival> {
        let deadline = Instant::now() + Duration::from_millis(500);
        let arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match arrivals.recv_timeout(left) {
                Ok(arrival) if arrival.said == word.0 => return Some(arrival),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn open_tcp(address: IpAddr, port: Port, sender: &Sender<Arrival>, stop: &Arc<AtomicBool>) -> Result<()> {
    let Some(socket) = bound(address, port, Type::STREAM, Protocol::TCP)? else { return Ok(()) };
    socket.listen(16).map_err(|error| taken(address, port, &error))?;
    let (sender, stop) = (sender.clone(), Arc::clone(stop));
    std::thread::spawn(move || {
        until(&stop, || {
            let (stream, _) = socket.accept()?;
            let _ = sender.send(welcome(stream, port)?);
            Ok(())
        });
    });
    Ok(())
}

/// What a probe says to be told from strangers: nobody else can know it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Nonce([u8; LENGTH_OF_NONCE]);

const LENGTH_OF_NONCE: usize = 16;

impl Nonce {
    /// One that nobody has used.
    pub(super) fn new() -> Self {
        // The keys of each state are random, which is all that is asked for here.
        let number = || RandomState::new().build_hasher().finish();
        let mut bytes = [0; LENGTH_OF_NONCE];
        bytes[..8].copy_from_slice(&number().to_ne_bytes());
        bytes[8..].copy_from_slice(&number().to_ne_bytes());
        Self(bytes)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Answers with the original port, as Istio's validator does, and notes what is said.
fn welcome(stream: Socket, port: Port) -> std::io::Result<Arrival> {
    let peer = stream.peer_addr()?.as_socket().ok_or(ErrorKind::AddrNotAvailable)?;
    let original = match peer {
        SocketAddr::V4(_) => stream.original_dst_v4(),
        SocketAddr::V6(_) => stream.original_dst_v6(),
    };
    let original = original.ok().and_then(|original| original.as_socket());
    let mut stream = TcpStream::from(stream);
    if let Some(original) = original {
        // The probe itself does not need the answer; somebody else's validator may.
        let _ = stream.write_all(original.port().to_string().as_bytes());
    }
    stream.set_nonblocking(false)?;
    // A stranger who says nothing may not keep us from the next one.
    stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    let mut said = vec![0; LENGTH_OF_NONCE];
    if stream.read_exact(&mut said).is_err() {
        said.clear();
    }
    Ok(Arrival { port, said, original })
}

fn open_udp(address: IpAddr, port: Port, sender: &Sender<Arrival>, stop: &Arc<AtomicBool>) -> Result<()> {
    let Some(socket) = bound(address, port, Type::DGRAM, Protocol::UDP)? else { return Ok(()) };
    let socket = std::net::UdpSocket::from(socket);
    let (sender, stop) = (sender.clone(), Arc::clone(stop));
    std::thread::spawn(move || {
        until(&stop, || {
            let mut said = vec![0; 512];
            let length = socket.recv(&mut said)?;
            said.truncate(length);
            let _ = sender.send(Arrival { port, said, original: None });
            Ok(())
        });
    });
    Ok(())
}

/// Repeats `step` until it is time to stop. A step that has nothing to do, or fails for one peer, is repeated.
fn until(stop: &AtomicBool, mut step: impl FnMut() -> std::io::Result<()>) {
    while !stop.load(Ordering::Relaxed) {
        if step().is_err() {
            std::thread::sleep(GLANCE);
        }
    }
}

/// A socket on this port that does not block; none when the machine has no such family.
fn bound(address: IpAddr, port: Port, kind: Type, protocol: Protocol) -> Result<Option<Socket>> {
    let address = SocketAddr::new(address, port.number());
    let fail = |error: &std::io::Error| taken(address.ip(), port, error);
    let Ok(socket) = Socket::new(Domain::for_address(address), kind, Some(protocol)) else { return Ok(None) };
    socket.set_reuse_address(true).map_err(|error| fail(&error))?;
    socket.set_reuse_port(true).map_err(|error| fail(&error))?;
    socket.set_nonblocking(true).map_err(|error| fail(&error))?;
    match socket.bind(&SockAddr::from(address)) {
        Ok(()) => Ok(Some(socket)),
        Err(error) if address.is_ipv6() && error.kind() == ErrorKind::AddrNotAvailable => Ok(None),
        Err(error) => Err(fail(&error)),
    }
}

fn taken(address: IpAddr, port: Port, error: &std::io::Error) -> anyhow::Error {
    let remedy = if error.kind() == ErrorKind::AddrInUse { "; validate before the proxy starts" } else { "" };
    anyhow!("cannot listen on port {port} of {address}: {error}{remedy}")
}
