//! Where connections are neither accepted nor refused.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use nix::sys::socket::{Backlog, listen};

/// An address whose queue is full.
pub(super) struct Full {
    pub(super) address: SocketAddr,
    _queue: TcpListener,
    _queued: Vec<TcpStream>,
}

impl Full {
    pub(super) fn new() -> Self {
        let queue = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listen(&queue, Backlog::new(0).unwrap()).unwrap();
        let address = queue.local_addr().unwrap();
        let connect = |_| TcpStream::connect_timeout(&address, Duration::from_millis(100)).ok();
        let queued = (0..4).map_while(connect).collect();
        Self { address, _queue: queue, _queued: queued }
    }
}
