//! Answers the workload's questions about names (DNS on 15053, where the interception rules send them): names of
//! services from the snapshot, all others from the name servers of the pod. On with `ISTIO_META_DNS_CAPTURE`.

mod answer;
mod ask;
mod servers;
#[cfg(test)]
mod tests;

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use tokio::{
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Semaphore,
};

pub(crate) use self::servers::{DNS_SERVERS, Servers};
use self::{answer::Question, ask::Transport};
use crate::{bounds, status::Status};

/// Bytes of a question that comes in one datagram.
const MAX_DATAGRAM: usize = 4096;

/// Sockets on both loopback addresses: from any other the answer would not find its way back through the rules.
#[derive(Debug)]
pub(crate) struct NameServer {
    udp: Vec<std::net::UdpSocket>,
    tcp: Vec<std::net::TcpListener>,
    known: Arc<Known>,
}

/// What answers are made of.
#[derive(Debug)]
struct Known {
    status: Arc<Status>,
    servers: Servers,
    /// Places for questions at name servers.
    places: Semaphore,
}

impl NameServer {
    /// Binds the port on loopback.
    ///
    /// # Errors
    /// It is taken.
    pub(crate) fn open(port: u16, servers: Servers, status: Arc<Status>) -> anyhow::Result<Self> {
        let (mut udp, mut tcp) = (Vec::new(), Vec::new());
        for address in [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), (Ipv6Addr::LOCALHOST, port).into()] {
            match bind(address) {
                Ok((datagrams, connections)) => {
                    udp.push(datagrams);
                    tcp.push(connections);
                }
                // Kernels without IPv6 have no use for the second one.
                Err(_) if address.is_ipv6() => {}
                Err(error) => {
                    return Err(error).with_context(|| {
                        format!(
                            "cannot listen on {address} for DNS (ISTIO_META_DNS_CAPTURE): expected a free port; \
                             see `ss -ulpn` for who has it"
                        )
                    });
                }
            }
        }
        let known = Known { status, servers, places: Semaphore::new(bounds::DNS_QUESTIONS) };
        Ok(Self { udp, tcp, known: Arc::new(known) })
    }

    /// Answers on a thread of its own until the process ends.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(crate) fn start(self) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let run = move || runtime.block_on(self.serve());
        std::thread::Builder::new().name("name-server".to_owned()).spawn(run).map(drop)
    }

    async fn serve(self) {
        for socket in self.udp.into_iter().filter_map(|socket| UdpSocket::from_std(socket).ok()) {
            tokio::spawn(serve_datagrams(Arc::new(socket), Arc::clone(&self.known)));
        }
        let connections = Arc::new(Semaphore::new(bounds::DNS_CONNECTIONS));
        for listener in self.tcp.into_iter().filter_map(|listener| TcpListener::from_std(listener).ok()) {
            tokio::spawn(serve_connections(listener, Arc::clone(&self.known), Arc::clone(&connections)));
        }
        std::future::pending::<()>().await;
    }
}

fn bind(address: SocketAddr) -> io::Result<(std::net::UdpSocket, std::net::TcpListener)> {
    let (udp, tcp) = (std::net::UdpSocket::bind(address)?, std::net::TcpListener::bind(address)?);
    udp.set_nonblocking(true)?;
    tcp.set_nonblocking(true)?;
    Ok((udp, tcp))
}

async fn serve_datagrams(socket: Arc<UdpSocket>, known: Arc<Known>) {
    let mut datagram = vec![0; MAX_DATAGRAM];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut datagram).await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let asked = datagram[..length].to_vec();
        match known.answer(&asked, Transport::Udp) {
            Reply::Known(answer) => _ = socket.send_to(&answer, from).await,
            Reply::Nothing => {}
            Reply::Elsewhere => {
                let (socket, known) = (Arc::clone(&socket), Arc::clone(&known));
                tokio::spawn(async move {
                    let answer = known.ask(&asked, Transport::Udp).await;
                    _ = socket.send_to(&answer, from).await;
                });
            }
        }
    }
}

async fn serve_connections(listener: TcpListener, known: Arc<Known>, places: Arc<Semaphore>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
            let known = Arc::clone(&known);
            tokio::spawn(async move {
                _ = serve_connection(stream, &known).await;
                drop(place);
            });
        }
    }
}

/// After an error that may last.
const PAUSE: Duration = Duration::from_millis(100);

/// One question after the other, each behind its length (RFC 1035 §4.2.2).
async fn serve_connection(mut stream: TcpStream, known: &Known) -> io::Result<()> {
    loop {
        let asked = tokio::time::timeout(bounds::DNS_IDLE, ask::receive(&mut stream)).await??;
        let answer = match known.answer(&asked, Transport::Tcp) {
            Reply::Known(answer) => answer,
            Reply::Elsewhere => known.ask(&asked, Transport::Tcp).await,
            Reply::Nothing => return Ok(()),
        };
        tokio::time::timeout(bounds::DNS_IDLE, ask::send(&mut stream, &answer)).await??;
    }
}

/// What becomes of a question.
enum Reply {
    Known(Vec<u8>),
    /// Name servers are to be asked.
    Elsewhere,
    /// It is none.
    Nothing,
}

impl Known {
    fn answer(&self, asked: &[u8], over: Transport) -> Reply {
        let Some(question) = Question::read(asked) else { return Reply::Nothing };
        let Some(snapshot) = self.status.snapshot() else { return Reply::Elsewhere };
        match question.answer(snapshot.names(), self.servers.search(), over) {
            Some(answer) => Reply::Known(answer),
            None => Reply::Elsewhere,
        }
    }

    async fn ask(&self, asked: &[u8], over: Transport) -> Vec<u8> {
        let answer = match self.places.try_acquire() {
            Ok(_place) => self.servers.ask(asked, over).await,
            Err(_) => None,
        };
        answer.unwrap_or_else(|| answer::failure(asked))
    }
}
