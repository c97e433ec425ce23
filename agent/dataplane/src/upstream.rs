//! One endpoint as one worker knows it: how busy it is, and the idle connections to it.

mod http2;

use std::{
    cell::{Cell, RefCell},
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::net::TcpStream;

use self::http2::Http2Connections;
use crate::sys;

pub(crate) use self::http2::Http2Stream;

/// An endpoint, or an original destination, with this worker's connections to it.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    source: Option<IpAddr>,
    connect_timeout: Duration,
    active: Cell<u32>,
    idle: RefCell<Vec<Idle>>,
    http2: Http2Connections,
    retired: Cell<bool>,
}

struct Idle {
    connection: UpstreamConnection,
    since: Instant,
}

/// A connection to an endpoint.
pub(crate) struct UpstreamConnection {
    pub(crate) stream: TcpStream,
    /// Our side of it, for the access log.
    pub(crate) local: Option<SocketAddr>,
    /// Whether it has carried a request before: the peer may close it at any moment.
    pub(crate) reused: bool,
}

/// Why no connection to an endpoint came about.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("connection timeout")]
    Timeout,
    #[error("remote connection failure")]
    Failed(#[source] io::Error),
    #[error("the endpoint does not speak HTTP/2: {0}")]
    NotHttp2(String),
}

impl ConnectError {
    /// The same for another who waited for the connection.
    fn again(&self) -> Self {
        match self {
            Self::Timeout => Self::Timeout,
            Self::Failed(error) => Self::Failed(io::Error::new(error.kind(), error.to_string())),
            Self::NotHttp2(error) => Self::NotHttp2(error.clone()),
        }
    }
}

/// Idle connections kept per endpoint and worker; more are closed instead.
const MAX_IDLE: usize = 256;
/// How long an idle connection is kept (Istio's `connectionPool.http.idleTimeout` default).
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

impl Upstream {
    pub(crate) fn new(address: SocketAddr, source: Option<IpAddr>, connect_timeout: Duration) -> Self {
        let (active, idle, retired) = (Cell::new(0), RefCell::default(), Cell::new(false));
        Self { address, source, connect_timeout, active, idle, http2: Http2Connections::default(), retired }
    }

    /// Whether connections made under other settings may go on serving under these.
    pub(crate) fn is_same(&self, source: Option<IpAddr>, connect_timeout: Duration) -> bool {
        self.source == source && self.connect_timeout == connect_timeout
    }

    /// Requests and connections under way.
    pub(crate) fn active(&self) -> u32 {
        self.active.get()
    }

    /// Counts one more request or connection until the lease is dropped.
    pub(crate) fn lease(self: &Rc<Self>) -> Lease {
        self.active.set(self.active.get() + 1);
        Lease(Rc::clone(self))
    }

    /// The idle connection used last, or `None` when there is none alive.
    ///
    /// The one read costs no system call as long as nothing arrived: tokio remembers that the socket is not
    /// readable. Bytes or an end of stream on an idle connection both make it useless.
    pub(crate) fn checkout(&self) -> Option<UpstreamConnection> {
        let mut idle = self.idle.borrow_mut();
        while let Some(Idle { mut connection, .. }) = idle.pop() {
            if connection.is_quiet() {
                connection.reused = true;
                return Some(connection);
            }
        }
        None
    }

    /// Opens a new connection.
    pub(crate) async fn connect(&self) -> Result<UpstreamConnection, ConnectError> {
        let connecting = async {
            let socket = sys::upstream_socket(self.address, self.source)?;
            let stream = socket.connect(self.address).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        match tokio::time::timeout(self.connect_timeout, connecting).await {
            Ok(Ok(stream)) => {
                let local = stream.local_addr().ok();
                Ok(UpstreamConnection { stream, local, reused: false })
            }
            Ok(Err(error)) => Err(ConnectError::Failed(error)),
            Err(_) => Err(ConnectError::Timeout),
        }
    }

    /// Keeps a connection on which a request has ended cleanly for the next one.
    pub(crate) fn give_back(&self, connection: UpstreamConnection) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < MAX_IDLE && !self.retired.get() {
            idle.push(Idle { connection, since: Instant::now() });
        }
    }

    /// Closes idle connections that the peer closed or that have been idle for too long.
    pub(crate) fn sweep(&self, now: Instant) {
        self.http2.sweep(now, IDLE_TIMEOUT);
        self.idle
            .borrow_mut()
            .retain(|idle| now.duration_since(idle.since) < IDLE_TIMEOUT && idle.connection.is_quiet());
    }

    /// Closes the idle connections and keeps none from now on: nothing new comes here.
    pub(crate) fn retire(&self) {
        self.retired.set(true);
        self.idle.borrow_mut().clear();
        self.http2.retire();
    }

    /// Whether nothing would be lost by forgetting this endpoint.
    pub(crate) fn is_unused(&self) -> bool {
        self.active.get() == 0 && self.idle.borrow().is_empty() && self.http2.is_unused()
    }
}

impl UpstreamConnection {
    /// Whether the peer has neither sent anything nor closed.
    pub(crate) fn is_quiet(&self) -> bool {
        let mut byte = [0];
        matches!(self.stream.try_read(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// One request or connection under way at an endpoint.
pub(crate) struct Lease(Rc<Upstream>);

impl Lease {
    /// Room for a request on an HTTP/2 connection to the endpoint.
    pub(crate) async fn http2_stream(&self) -> Result<Http2Stream, ConnectError> {
        self.0.http2_stream().await
    }
}

impl std::ops::Deref for Lease {
    type Target = Upstream;

    fn deref(&self) -> &Upstream {
        &self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get() - 1);
    }
}
