//! What workers are started with.

use std::{io, net::SocketAddr, time::Duration};

use tokio::net::TcpStream;

use crate::{
    access_log::AccessLog, bounds, dns::NameSettings, http::PeerMetadata, loopback::LoopbackAnswers,
    overload::Overload, upgrades::Upgrades,
};

/// Asks where a captured connection was going; see [`crate::original_destination`]. Tests put their own here.
pub type OriginalDestination = fn(&TcpStream) -> io::Result<Option<SocketAddr>>;

/// How connections to the workload come to the inbound listener.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum InboundCapture {
    /// Rewritten by the kernel (REDIRECT): the original destination is asked for, and the application is called from
    /// the address its cluster says.
    Redirect,
    /// Untouched (TPROXY): the local address is the original destination, and the application is called from the
    /// client's own address, on sockets with this mark.
    Transparent {
        /// By which the interception rules know the proxy's connections.
        mark: u32,
        /// Whether an application that is called at loopback can be called from the client's port too.
        loopback: LoopbackAnswers,
    },
}

/// What a head may cost, of a request or of an answer.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct HeadLimits(http1::Limits);

impl HeadLimits {
    /// The most bytes of a head that can be allowed.
    pub const MAX_BYTES: usize = bounds::LARGEST_HEAD;
    /// The most fields of a head that can be allowed.
    pub const MAX_FIELDS: usize = bounds::MOST_FIELDS;

    /// Heads of so many bytes and fields, or as many as can be allowed; what is not given is as usual: 60 KiB, 100.
    #[must_use]
    pub fn new(bytes: Option<usize>, fields: Option<usize>) -> Self {
        let usual = http1::Limits::default();
        Self(http1::Limits {
            head_bytes: bytes.unwrap_or(usual.head_bytes).min(Self::MAX_BYTES),
            fields: fields.unwrap_or(usual.fields).min(Self::MAX_FIELDS),
        })
    }

    /// Bytes, as HTTP/2 announces them.
    pub(crate) fn bytes(self) -> u32 {
        u32::try_from(self.0.head_bytes).unwrap_or(u32::MAX)
    }

    /// As the codec of HTTP/1 takes them.
    pub(crate) fn codec(&self) -> &http1::Limits {
        &self.0
    }
}

/// What the workers are started with; the same for all of them.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Number of worker threads, at least 1.
    pub workers: usize,
    /// Connections from clients that one worker serves at a time; more are closed at once and counted.
    pub max_connections: usize,
    /// What the process as a whole may have, of which every worker refuses what is too much.
    pub overload: Overload,
    /// How connections to the workload are captured.
    pub inbound_capture: InboundCapture,
    /// Whether connections to gateways begin with a PROXY header; those that do not are closed.
    pub gateway_proxy_protocol: bool,
    /// Proxies before gateways: the client's address is the entry of `x-forwarded-for` so far from its end, and
    /// `x-forwarded-proto` is believed, if there are any.
    pub gateway_trusted_proxies: u32,
    /// How the original destination of a captured connection is found.
    pub original_destination: OriginalDestination,
    /// How long a connection may have nothing to do: before the first request, and between two.
    pub keep_alive: Duration,
    /// How long connections that are to end have for a request that is on its way: the answer before has said that there
    /// may be another.
    pub draining_patience: Duration,
    /// How long nothing may move of what is under way: a body, an answer that a client does not read, a websocket.
    pub idle_timeout: Duration,
    /// How long the head of a request may take to arrive once it has begun.
    pub head_timeout: Duration,
    /// What heads of requests and answers may cost.
    pub heads: HeadLimits,
    /// Bytes of bodies that one worker holds at a time, to send them again or to mirrors.
    pub held_bodies: usize,
    /// What requests may switch their connections to.
    pub upgrades: Upgrades,
    /// How long a TLS client may take to say what it wants, and again to finish its handshake.
    pub handshake_timeout: Duration,
    /// TLS handshakes that one worker has under way at a time, at least 1; the oldest makes room for one more.
    pub max_handshakes: usize,
    /// How names of endpoints are resolved.
    pub names: NameSettings,
    /// What other proxies of the mesh are told of the workload, for their metrics.
    pub peer_metadata: Option<PeerMetadata>,
    /// Where the access log goes, if it is on.
    pub access_log: Option<AccessLog>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            workers: 1,
            max_connections: 8192,
            overload: Overload::default(),
            inbound_capture: InboundCapture::Redirect,
            gateway_proxy_protocol: false,
            gateway_trusted_proxies: 0,
            original_destination: crate::original_destination,
            keep_alive: bounds::KEEP_ALIVE,
            draining_patience: Duration::from_secs(1),
            idle_timeout: bounds::STANDSTILL,
            head_timeout: bounds::HEAD_TIME,
            heads: HeadLimits::default(),
            held_bodies: bounds::HELD_BODIES,
            upgrades: Upgrades::default(),
            handshake_timeout: bounds::HANDSHAKE_TIME,
            max_handshakes: bounds::HANDSHAKES,
            names: NameSettings::default(),
            peer_metadata: None,
            access_log: None,
        }
    }
}
