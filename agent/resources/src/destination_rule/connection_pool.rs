//! Limits and time-outs of connections to endpoints.

use std::time::Duration;

use crate::{
    Path,
    decode::{Context, Decode, Fields, Interval, Limit, Shape, word_of},
    finding::Problem,
    yaml::Node,
};

/// `ConnectionPoolSettings`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ConnectionPool {
    /// What holds for every connection.
    pub tcp: TcpPool,
    /// What holds for HTTP.
    pub http: HttpPool,
}

impl ConnectionPool {
    /// These settings, with what they leave out taken from `base`.
    #[must_use]
    pub fn over(&self, base: &Self) -> Self {
        Self { tcp: self.tcp.over(&base.tcp), http: self.http.over(&base.http) }
    }
}

impl Shape for ConnectionPool {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let tcp: Option<TcpPool> = fields.optional("tcp");
        let http: Option<HttpPool> = fields.optional("http");
        if tcp.is_none() && http.is_none() {
            fields.error_here(Problem::new("is empty").expected("`tcp` or `http`"));
        }
        Self { tcp: tcp.unwrap_or_default(), http: http.unwrap_or_default() }
    }
}

/// `ConnectionPoolSettings.TCPSettings`. Limits that are absent or zero do not limit.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TcpPool {
    /// Most connections to the service.
    pub max_connections: Option<u32>,
    /// Longest time to connect; 10 s when absent.
    pub connect_timeout: Option<Duration>,
    /// Keep-alive probes of the kernel.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// Longest life of a connection.
    pub max_connection_duration: Option<Duration>,
    /// Longest silence of a connection; one hour when absent, zero for no limit.
    pub idle_timeout: Option<Duration>,
}

impl TcpPool {
    fn over(&self, base: &Self) -> Self {
        Self {
            max_connections: self.max_connections.or(base.max_connections),
            connect_timeout: self.connect_timeout.or(base.connect_timeout),
            tcp_keepalive: match (&self.tcp_keepalive, &base.tcp_keepalive) {
                (Some(own), Some(base)) => Some(own.over(base)),
                (own, base) => own.as_ref().or(base.as_ref()).cloned(),
            },
            max_connection_duration: self.max_connection_duration.or(base.max_connection_duration),
            idle_timeout: self.idle_timeout.or(base.idle_timeout),
        }
    }
}

impl Shape for TcpPool {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let interval = |interval: Option<Interval>| interval.map(Interval::get);
        Self {
            max_connections: fields.optional("maxConnections").and_then(Limit::get),
            connect_timeout: interval(fields.optional("connectTimeout")),
            tcp_keepalive: fields.optional("tcpKeepalive"),
            max_connection_duration: interval(fields.optional("maxConnectionDuration")),
            idle_timeout: fields.optional("idleTimeout"),
        }
    }
}

/// `TcpKeepalive`; what is absent is as the kernel has it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TcpKeepalive {
    /// Probes that may go unanswered.
    pub probes: Option<u32>,
    /// Silence before the first probe.
    pub time: Option<Duration>,
    /// Pause between probes.
    pub interval: Option<Duration>,
}

impl TcpKeepalive {
    /// These settings, with what they leave out taken from `base`.
    pub(crate) fn over(&self, base: &Self) -> Self {
        Self {
            probes: self.probes.or(base.probes),
            time: self.time.or(base.time),
            interval: self.interval.or(base.interval),
        }
    }
}

impl Shape for TcpKeepalive {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let interval = |interval: Option<Interval>| interval.map(Interval::get);
        Self {
            probes: fields.optional("probes").and_then(Limit::get),
            time: interval(fields.optional("time")),
            interval: interval(fields.optional("interval")),
        }
    }
}

/// `ConnectionPoolSettings.HTTPSettings`. Limits that are absent or zero do not limit.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HttpPool {
    /// Most requests that wait for a connection.
    pub http1_max_pending_requests: Option<u32>,
    /// Most requests under way, of any version of HTTP.
    pub http2_max_requests: Option<u32>,
    /// Most requests over one connection; 1 turns keep-alive off.
    pub max_requests_per_connection: Option<u32>,
    /// Most retries under way.
    pub max_retries: Option<u32>,
    /// How long an idle connection is kept; one hour when absent.
    pub idle_timeout: Option<Duration>,
    /// Whether HTTP/1.1 becomes HTTP/2 towards the endpoints.
    pub h2_upgrade_policy: H2Upgrade,
    /// Whether the endpoint is spoken to as the client speaks.
    pub use_client_protocol: bool,
    /// Most streams in one HTTP/2 connection.
    pub max_concurrent_streams: Option<u32>,
    /// HTTP/2 PINGs.
    pub http2_keepalive: Option<HttpKeepalive>,
}

impl HttpPool {
    fn over(&self, base: &Self) -> Self {
        // The two exclude each other, so that saying one of them says both.
        let says_protocol = self.use_client_protocol || self.h2_upgrade_policy != H2Upgrade::Default;
        let protocol = if says_protocol { self } else { base };
        Self {
            http1_max_pending_requests: self.http1_max_pending_requests.or(base.http1_max_pending_requests),
            http2_max_requests: self.http2_max_requests.or(base.http2_max_requests),
            max_requests_per_connection: self
                .max_requests_per_connection
                .or(base.max_requests_per_connection),
            max_retries: self.max_retries.or(base.max_retries),
            idle_timeout: self.idle_timeout.or(base.idle_timeout),
            h2_upgrade_policy: protocol.h2_upgrade_policy,
            use_client_protocol: protocol.use_client_protocol,
            max_concurrent_streams: self.max_concurrent_streams.or(base.max_concurrent_streams),
            http2_keepalive: self.http2_keepalive.clone().or_else(|| base.http2_keepalive.clone()),
        }
    }
}

impl Shape for HttpPool {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let limit = |limit: Option<Limit>| limit.and_then(Limit::get);
        Self {
            http1_max_pending_requests: limit(fields.optional("http1MaxPendingRequests")),
            http2_max_requests: limit(fields.optional("http2MaxRequests")),
            max_requests_per_connection: limit(fields.optional("maxRequestsPerConnection")),
            max_retries: limit(fields.optional("maxRetries")),
            idle_timeout: fields.optional("idleTimeout").map(Interval::get),
            h2_upgrade_policy: fields.optional("h2UpgradePolicy").unwrap_or_default(),
            use_client_protocol: fields.optional("useClientProtocol").unwrap_or_default(),
            max_concurrent_streams: limit(fields.optional("maxConcurrentStreams")),
            http2_keepalive: fields.optional("http2KeepAlive"),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        if self.use_client_protocol && self.h2_upgrade_policy == H2Upgrade::Upgrade {
            let problem = Problem::new("cannot be combined with `h2UpgradePolicy: UPGRADE`");
            context.error(&at.field("useClientProtocol"), problem.remedy("remove one of the two"));
        }
    }
}

/// `HTTPSettings.H2UpgradePolicy`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum H2Upgrade {
    /// As the mesh says, which is not to.
    #[default]
    Default,
    /// HTTP/1.1 stays.
    DoNotUpgrade,
    /// HTTP/2.
    Upgrade,
}

impl Decode for H2Upgrade {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        let words =
            [("DEFAULT", Self::Default), ("DO_NOT_UPGRADE", Self::DoNotUpgrade), ("UPGRADE", Self::Upgrade)];
        word_of(node, &words, at, context)
    }
}

/// HTTP/2 PINGs on connections to endpoints (`http2KeepAlive`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HttpKeepalive {
    /// Pause between PINGs.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
}

impl Shape for HttpKeepalive {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self {
            interval: fields.required::<Interval>("interval").get(),
            timeout: fields.required::<Interval>("timeout").get(),
        }
    }
}
