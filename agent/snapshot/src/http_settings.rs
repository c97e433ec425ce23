//! How HTTP connections of clients are treated beyond their routes.

use std::time::Duration;

/// Position of settings in [`Draft::http_settings`](crate::Draft::http_settings). The first are those of chains that say
/// nothing.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct HttpSettingsId(pub u8);

/// What holds for a connection from its first request to its end: it keeps those it began with.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HttpSettings {
    /// Fields that the proxy itself puts into heads.
    pub headers: ProxyHeaders,
    /// What `x-forwarded-client-cert` tells of a client's certificate; `None` is what Istio tells: gateways all but the
    /// chain, sidecars not the certificate itself either.
    pub client_cert_details: Option<ClientCertDetails>,
    /// What clients may do, and for how long.
    pub limits: ClientLimits,
}

/// What clients may do, and for how long (`ProxyConfig.connectionSettings`); what is absent is as the proxy has it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ClientLimits {
    /// How long a connection may have nothing to do.
    pub idle_timeout: Option<Duration>,
    /// How long the head of a request may take to arrive once it has begun.
    pub head_timeout: Option<Duration>,
    /// How long nothing may move of a request or its answer, the time without an answer included. What is absent limits
    /// bodies under way alone.
    pub stream_idle_timeout: Option<Duration>,
    /// How long a request may take to arrive with its body; until its answer begins.
    pub request_timeout: Option<Duration>,
    /// How long a request and its answer may take together.
    pub max_stream_duration: Option<Duration>,
    /// How long a connection may last; what is under way then ends.
    pub max_connection_duration: Option<Duration>,
    /// Concurrent requests of one HTTP/2 connection.
    pub streams: Option<u32>,
    /// Bytes that an HTTP/2 client may send ahead, per request; at least 65,535.
    pub stream_window: Option<u32>,
    /// The same for all of a connection; at least 65,535.
    pub connection_window: Option<u32>,
    /// What becomes of fields whose names hold `_`.
    pub underscores: Underscores,
}

/// What becomes of fields whose names hold `_`, which some servers take for `-`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Underscores {
    /// They are like others.
    #[default]
    Allowed,
    /// Their requests are refused.
    Refused,
    /// They do not go on.
    Dropped,
}

/// What `x-forwarded-client-cert` tells of a client's certificate besides its hash.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ClientCertDetails {
    /// The distinguished name.
    pub subject: bool,
    /// The certificate itself.
    pub cert: bool,
    /// All certificates that the client has sent.
    pub chain: bool,
    /// Its host names.
    pub dns: bool,
    /// Its URIs.
    pub uri: bool,
}

/// Fields that the proxy itself puts into heads (`ProxyConfig.proxyHeaders`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProxyHeaders {
    /// What answers say of their server.
    pub server: ServerHeader,
    /// Whether requests get an `x-request-id`.
    pub request_id: bool,
    /// Whether endpoints are told in `x-envoy-attempt-count` how often they were asked.
    pub attempt_count: bool,
    /// Whether endpoints and clients are told what happened on the way: `x-envoy-upstream-service-time`,
    /// `x-envoy-overloaded`, `x-envoy-expected-rq-timeout-ms`, `x-envoy-original-path` and `-host`.
    pub debug: bool,
    /// Whether a host that a route replaces is told in `x-forwarded-host`.
    pub forwarded_host: bool,
    /// Whether gateways tell in `x-forwarded-port` the port that the client came by.
    pub forwarded_port: bool,
}

impl Default for ProxyHeaders {
    fn default() -> Self {
        Self {
            server: ServerHeader::default(),
            request_id: true,
            attempt_count: true,
            debug: true,
            forwarded_host: false,
            forwarded_port: false,
        }
    }
}

/// What `server` says in answers.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum ServerHeader {
    /// The name that Istio gives a proxy of its side.
    #[default]
    Proxy,
    /// This name.
    Named(String),
    /// What the endpoint says; answers of the proxy itself say nothing.
    Endpoint,
}
