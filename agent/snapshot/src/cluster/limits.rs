//! Limits of a cluster and the care of its connections (DestinationRule `connectionPool`, `outlierDetection`).

use std::time::Duration;

/// How much may be under way at once; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// Connections.
    pub max_connections: Option<u32>,
    /// Requests waiting for a connection.
    pub max_pending_requests: Option<u32>,
    /// Requests under way, whatever their version.
    pub max_requests: Option<u32>,
    /// Retries under way.
    pub max_retries: Option<u32>,
    /// Retries under way as a share of requests; replaces `max_retries`.
    pub retry_budget: Option<RetryBudget>,
}

/// Retries allowed as a share of the requests under way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryBudget {
    /// Percentage of requests under way, 0–100.
    pub percent: f64,
    /// Retries allowed whatever the share.
    pub minimum: u32,
}

impl RetryBudget {
    /// Retries allowed while so many requests are under way.
    #[must_use]
    pub fn of(&self, requests: u32) -> u32 {
        ((f64::from(requests) * self.percent / 100.0) as u32).max(self.minimum)
    }
}

/// How long connections live and how they are kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Connections {
    /// Idle HTTP connections are closed after it; `None` never.
    pub idle_timeout: Option<Duration>,
    /// Opaque connections without a byte either way are closed after it; `None` never.
    pub tcp_idle_timeout: Option<Duration>,
    /// Connections are closed at this age; `None` never.
    pub max_duration: Option<Duration>,
    /// Requests on one connection; `None` is no limit.
    pub max_requests: Option<u32>,
    /// Streams at once on one HTTP/2 connection; `None` leaves it to the server.
    pub max_concurrent_streams: Option<u32>,
    /// TCP probes of a silent peer; `None` leaves them off.
    pub keepalive: Option<Keepalive>,
    /// HTTP/2 pings.
    pub http2_keepalive: Option<Http2KeepAlive>,
}

impl Default for Connections {
    /// An hour idle and otherwise no limit.
    fn default() -> Self {
        const HOUR: Option<Duration> = Some(Duration::from_secs(3600));
        Self {
            idle_timeout: HOUR,
            tcp_idle_timeout: HOUR,
            max_duration: None,
            max_requests: None,
            max_concurrent_streams: None,
            keepalive: None,
            http2_keepalive: None,
        }
    }
}

/// TCP keepalive; what is `None` is the kernel's default.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Keepalive {
    /// Probes unanswered before the connection is given up.
    pub probes: Option<u32>,
    /// Silence before the first probe.
    pub time: Option<Duration>,
    /// Time between probes.
    pub interval: Option<Duration>,
}

/// HTTP/2 pings.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Http2KeepAlive {
    /// Time between pings.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
}

/// When an endpoint is left alone for a while (DestinationRule `outlierDetection`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OutlierDetection {
    /// Answers 5xx in a row (or those of `error_codes`); `None` does not count them.
    pub consecutive_5xx: Option<u32>,
    /// Answers 502–504 in a row; `None` does not count them.
    pub consecutive_gateway_errors: Option<u32>,
    /// Failures to connect in a row, counted apart from answers; `None` counts them as 5xx.
    pub consecutive_local_failures: Option<u32>,
    /// Answers that count instead of 5xx, sorted.
    pub error_codes: Vec<u16>,
    /// How often ejected endpoints are looked at.
    pub interval: Duration,
    /// First time away; each further one is so much longer.
    pub base_ejection_time: Duration,
    /// Longest time away.
    pub max_ejection_time: Duration,
    /// Percentage of endpoints that may be away at once, though one always may.
    pub max_ejection_percent: u32,
    /// Percentage of healthy endpoints below which all are used again; 0 never.
    pub min_health_percent: u32,
}

impl Default for OutlierDetection {
    /// Istio's defaults for an empty `outlierDetection`.
    fn default() -> Self {
        Self {
            consecutive_5xx: Some(5),
            consecutive_gateway_errors: None,
            consecutive_local_failures: None,
            error_codes: Vec::new(),
            interval: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_time: Duration::from_secs(300),
            max_ejection_percent: 10,
            min_health_percent: 0,
        }
    }
}
