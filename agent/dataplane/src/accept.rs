//! Accepts connections on one listening socket of one worker.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};

use snapshot::Address;
use tokio::{
    net::{TcpListener, TcpStream, UnixListener},
    task::spawn_local,
};

use crate::{alarm, connection, sockets::ListeningSocket, sys, worker::Worker};

/// A listening socket that is watched for connections.
pub(crate) enum Accepts {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Accepts {
    pub(crate) fn new(socket: ListeningSocket) -> io::Result<Self> {
        match socket {
            ListeningSocket::Tcp(socket) => TcpListener::from_std(socket).map(Self::Tcp),
            ListeningSocket::Unix(socket) => UnixListener::from_std(socket).map(Self::Unix),
        }
    }

    /// The next connection, and its client's address if that has one.
    async fn next(&self) -> io::Result<(TcpStream, Option<SocketAddr>)> {
        match self {
            Self::Tcp(socket) => socket.accept().await.map(|(stream, peer)| (stream, Some(peer))),
            Self::Unix(socket) => Ok((sys::accepted_unix(socket.accept().await?.0)?, None)),
        }
    }
}

// Accepting fails for want of descriptors or memory; neither comes back at once.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts until the task is aborted.
pub(crate) async fn accept(worker: Rc<Worker>, socket: Rc<Accepts>, listener: Address) {
    let mut failing = false;
    loop {
        match socket.next().await {
            Ok((stream, peer)) => {
                failing = false;
                admit(&worker, stream, peer, listener.clone());
            }
            // A client that left before it was accepted: the next one is not made to wait for it.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            Err(error) => {
                // Said once, not ten times a second while it lasts.
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%listener, %error, "cannot accept; is the limit of open files too low?");
                }
                alarm::sleep(PAUSE).await;
            }
        }
    }
}

fn admit(worker: &Rc<Worker>, stream: TcpStream, peer: Option<SocketAddr>, listener: Address) {
    worker.count(|counts| counts.connections += 1);
    let Some(admitted) = Admitted::new(worker) else {
        worker.count(|counts| counts.over_limit += 1);
        return;
    };
    spawn_local(connection::serve(admitted, stream, peer.unwrap_or(connection::NOBODY), listener));
}

/// A connection that counts as active until this is dropped.
pub(crate) struct Admitted(Rc<Worker>);

impl Admitted {
    /// `None` when the worker, or the process, has as many as it may.
    fn new(worker: &Rc<Worker>) -> Option<Self> {
        let is_full = worker.active_connections() >= worker.settings.max_connections as u64;
        if is_full || !worker.settings.overload.admit() {
            return None;
        }
        worker.count(|counts| counts.active_connections += 1);
        Some(Self(Rc::clone(worker)))
    }

    pub(crate) fn worker(&self) -> &Rc<Worker> {
        &self.0
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.0.count(|counts| counts.active_connections -= 1);
        self.0.settings.overload.leave();
    }
}
