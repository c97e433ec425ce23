//! Connections to an endpoint, and how they come about.

mod error;

use std::{
    io,
    net::SocketAddr,
    pin::pin,
    rc::Rc,
    time::{Duration, Instant},
};

use http1::BodyDecoder;
use snapshot::{Speaks, Tunnel};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::{Upstream, UpstreamStream, stats::Open, tunnel};
use crate::{
    alarm,
    cluster::{PendingRequest, Policy, PolicyGeneration, Slot},
    connection::connection_id,
    health::AttemptResult,
    proxy_protocol::ProxyHeader,
    sys::{self, Source},
    tls::{UpstreamSession, is_clear_text, is_outdated},
};

pub(crate) use self::error::ConnectError;

/// A connection to an endpoint.
pub(crate) struct UpstreamConnection {
    pub(crate) stream: UpstreamStream,
    /// Takes the framing off its bytes, those of the answer to a `POST` that has opened a tunnel.
    pub(crate) answer: Option<Box<BodyDecoder>>,
    pub(crate) end: Rc<OwnEnd>,
    /// Whether it has carried a request before: the peer may close it at any moment.
    pub(crate) reused: bool,
    /// Requests it has been used for.
    pub(super) requests: u32,
    pub(super) since: Instant,
    /// That of the rules it was made by.
    pub(super) generation: PolicyGeneration,
    /// How long its server keeps it while it is idle, as it said last.
    idle_timeout: Option<Duration>,
    /// Its place among the connections of a cluster that limits them.
    pub(super) slot: Option<Slot>,
    /// Counts it as open.
    pub(super) open: Open,
}

/// Our end of a connection to an endpoint, for the access log.
#[derive(Debug)]
pub(crate) struct OwnEnd {
    pub(crate) address: Option<SocketAddr>,
    /// No other connection has it, of clients or to endpoints.
    pub(crate) id: u64,
    /// What the handshake came to, if TLS is spoken.
    pub(crate) session: Option<UpstreamSession>,
}

impl Upstream {
    pub(super) async fn connect_as(
        &self,
        speaks: Speaks,
        proxy_header: Option<ProxyHeader>,
    ) -> Result<UpstreamConnection, ConnectError> {
        let policy = self.policy();
        // The limit of opaque connections is the cluster's alone, as in Envoy: each of them takes one for itself.
        let slot = self.slot(&policy, matches!(speaks, Speaks::Opaque))?;
        self.open(&policy, slot, (speaks, proxy_header)).await
    }

    pub(super) async fn connect_or_wait_as(
        &self,
        proxy_header: Option<ProxyHeader>,
    ) -> Result<Box<UpstreamConnection>, ConnectError> {
        let mut pending: Option<PendingRequest> = None;
        let slot = loop {
            // The rules may change while it waits.
            let policy = self.policy();
            if pending.is_some()
                && let Some(idle) = self.take_idle()
            {
                return Ok(idle);
            }
            let first = !self.stats.is_open();
            if (pending.is_some() || !self.must_wait(&policy, first))
                && let Ok(slot) = policy.slot(self.number, first)
            {
                break slot;
            }
            if pending.is_none() {
                pending = Some(policy.wait(self.number).map_err(|_| ConnectError::Overflow)?);
            }
            if let Some(pending) = &pending {
                pending.come().await;
            }
        };
        self.open(&self.policy(), slot, (Speaks::Http1, proxy_header)).await.map(Box::new)
    }

    fn slot(&self, policy: &Policy, is_opaque: bool) -> Result<Option<Slot>, ConnectError> {
        let slot = policy.slot(self.number, !is_opaque && !self.stats.is_open());
        if is_opaque && slot.is_err() {
            policy.note_refused_connection();
        }
        slot.map_err(|_| ConnectError::Overflow)
    }

    /// Whether others are to have a connection before a request that has just come, which may be the endpoint's `first`.
    pub(super) fn must_wait(&self, policy: &Policy, first: bool) -> bool {
        if first { policy.is_waited_for(self.number) } else { policy.has_waiting() }
    }

    pub(super) async fn open(
        &self,
        policy: &Policy,
        slot: Option<Slot>,
        (speaks, proxy_header): (Speaks, Option<ProxyHeader>),
    ) -> Result<UpstreamConnection, ConnectError> {
        let open = self.stats.open();
        let establishing = pin!(self.establish_anew(policy, speaks, proxy_header));
        let established = alarm::within(policy.connect_timeout, establishing).await;
        let established = established.unwrap_or(Err(ConnectError::Timeout));
        self.note_attempt(established.as_ref().err());
        let (stream, answer, end) = established?;
        Ok(UpstreamConnection {
            stream,
            answer,
            end: Rc::new(end),
            reused: false,
            requests: 1,
            since: Instant::now(),
            generation: policy.generation,
            idle_timeout: None,
            slot,
            open,
        })
    }

    /// Counts how an attempt to connect has ended, and remembers a refusal for the picks that follow.
    fn note_attempt(&self, error: Option<&ConnectError>) {
        let Some(error) = error else {
            self.stats.refused.set(None);
            return self.observe(AttemptResult::Connected);
        };
        self.stats.connect_failures.add(1);
        if error.is_refusal() {
            self.stats.refused.set(Some(Instant::now()));
        }
        self.observe(AttemptResult::LocalFailure);
    }

    /// Establishes a connection, once more where the endpoint no longer takes the TLS session that was kept of it.
    async fn establish_anew(
        &self,
        policy: &Policy,
        speaks: Speaks,
        proxy_header: Option<ProxyHeader>,
    ) -> Result<Established, ConnectError> {
        let mut is_again = false;
        loop {
            // In a box of its own: a client that is only connected holds no room for what it may lead to.
            let establishing = Box::pin(self.establish(policy, speaks, proxy_header));
            match establishing.await {
                // The next handshake is a whole one.
                Err(ConnectError::Tls(error)) if is_outdated(&error) && !is_again => is_again = true,
                made => return made,
            }
        }
    }

    /// Dials and does what there is to do before the first byte of a request.
    async fn establish(
        &self,
        policy: &Policy,
        speaks: Speaks,
        proxy_header: Option<ProxyHeader>,
    ) -> Result<Established, ConnectError> {
        let mut stream = self.dial().await.map_err(|error| ConnectError::of(error, &self.address))?;
        if self.address.socket().is_some() {
            stream.set_nodelay(true)?;
            if let Some(keepalive) = &policy.connections.keepalive {
                sys::set_keepalive(&stream, keepalive)?;
            }
        }
        if let Some(proxy_header) = proxy_header {
            stream.write_all(&proxy_header.header()).await?;
        }
        let mut end = OwnEnd { address: stream.local_addr().ok(), id: connection_id(), session: None };
        let connector = policy.tls.as_ref().filter(|tls| tls.is_spoken_to(self.speaks_mesh_tls));
        let through = policy.tunnel.as_deref().filter(|_| matches!(speaks, Speaks::Opaque));
        let Some(connector) = connector else {
            return tunnelled(UpstreamStream::Tcp(stream), through, end).await;
        };
        // In a box of its own: the state of a handshake is large, and clear text should not hold room for it.
        let handshake =
            Box::pin(connector.connect(stream, (self.address.ip(), self.host.as_deref()), speaks));
        let (stream, session) = handshake.await.map_err(|error| match is_clear_text(&error) {
            true => ConnectError::ClearText,
            false => ConnectError::Tls(error),
        })?;
        end.session = Some(session);
        tunnelled(UpstreamStream::Tls(Box::new(stream)), through, end).await
    }

    /// Connects from the source, or from a port of the kernel's choice where the one that was chosen has a connection to
    /// the endpoint already: of another request of the same client, or one that the kernel has not forgotten yet.
    async fn dial(&self) -> io::Result<TcpStream> {
        if self.policy.borrow().leads_to_itself(&self.address) {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "the endpoint is a port of the proxy itself",
            ));
        }
        let source = self.source.map(Source::with_port);
        match (sys::connect(&self.address, source).await, source) {
            (Err(error), Some(source)) if source.has_port() && is_taken(&error) => {
                tracing::debug!(?source, upstream = %self.address, %error, "the port is taken");
                sys::connect(&self.address, Some(source.any_port())).await
            }
            (connected, _) => connected,
        }
    }
}

/// A connection, what takes the framing off its bytes, and our end of it.
type Established = (UpstreamStream, Option<Box<BodyDecoder>>, OwnEnd);

/// The connection once it leads to the far end of a tunnel, where there is to be one.
async fn tunnelled(
    mut stream: UpstreamStream,
    tunnel: Option<&Tunnel>,
    end: OwnEnd,
) -> Result<Established, ConnectError> {
    let answer = match tunnel {
        // In a box of its own: hardly any connection goes through a tunnel.
        Some(tunnel) => Box::pin(tunnel::open(&mut stream, tunnel)).await?,
        None => None,
    };
    Ok((stream, answer.map(Box::new), end))
}

fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable)
}

impl UpstreamConnection {
    /// Whether the peer has neither sent anything nor closed.
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.stream.is_quiet()
    }

    /// Takes what an answer says of how long the server keeps the connection.
    pub(crate) fn learn_idle_timeout(&mut self, told: Option<Duration>) {
        self.idle_timeout = told.or(self.idle_timeout);
    }

    /// Whether its server may be closing it, idle since `since`: a request that is sent then is lost. It is left to
    /// the server for the last second, or half of the time when that is less.
    pub(super) fn is_about_to_end(&self, since: Instant) -> bool {
        self.idle_timeout.is_some_and(|limit| {
            let margin = Duration::from_secs(1).min(limit / 2);
            since.elapsed() >= limit - margin
        })
    }

    pub(super) fn is_too_old(&self, policy: &Policy, now: Instant) -> bool {
        policy.connections.max_duration.is_some_and(|limit| now.duration_since(self.since) >= limit)
    }
}
