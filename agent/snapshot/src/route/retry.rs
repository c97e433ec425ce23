//! When and how a request is tried again.

use std::time::Duration;

/// When and how a request is tried again (VirtualService `retries`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RetryPolicy {
    /// Tries after the first.
    pub attempts: u32,
    /// What counts as worth another try.
    pub on: RetryOn,
    /// Longest time for one try; `None` is no limit of its own.
    pub per_try_timeout: Option<Duration>,
    /// First wait; each further one doubles, drawn between 0 and the whole, at most ten times the first.
    pub backoff: Duration,
    /// Whether endpoints tried already are avoided.
    pub avoid_previous_hosts: bool,
    /// Whether other localities are tried early (`retryRemoteLocalities`).
    pub remote_localities: bool,
    /// Whether requests that an endpoint may have acted upon are sent again only when that does no harm, by their method
    /// (RFC 9110 §9.2.2).
    pub only_idempotent: bool,
}

/// Outcomes that are worth another try (Envoy's `retry_on`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RetryOn {
    /// The named conditions.
    pub conditions: Vec<RetryCondition>,
    /// Status codes actually received, sorted.
    pub statuses: Vec<u16>,
}

impl RetryOn {
    /// Adds what `other` holds. Codes count only beside [`RetryCondition::RetriableStatusCodes`], as in Envoy.
    pub fn merge(&mut self, other: &Self) {
        self.conditions.extend(&other.conditions);
        let mut seen = Vec::new();
        self.conditions.retain(|condition| {
            !seen.contains(condition) && {
                seen.push(*condition);
                true
            }
        });
        if self.conditions.contains(&RetryCondition::RetriableStatusCodes) {
            self.statuses.extend(&other.statuses);
            self.statuses.sort_unstable();
            self.statuses.dedup();
        }
    }
}

/// A named condition of Envoy's `retry_on`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "Envoy's own names")]
pub enum RetryCondition {
    ServerError,
    GatewayError,
    Reset,
    ResetBeforeRequest,
    ConnectFailure,
    EnvoyRateLimited,
    Retriable4xx,
    RefusedStream,
    RetriableStatusCodes,
    RetriableHeaders,
    Http3PostConnectFailure,
    GrpcCancelled,
    GrpcDeadlineExceeded,
    GrpcInternal,
    GrpcResourceExhausted,
    GrpcUnavailable,
}

impl RetryCondition {
    /// Every condition.
    pub const ALL: [Self; 16] = [
        Self::ServerError,
        Self::GatewayError,
        Self::Reset,
        Self::ResetBeforeRequest,
        Self::ConnectFailure,
        Self::EnvoyRateLimited,
        Self::Retriable4xx,
        Self::RefusedStream,
        Self::RetriableStatusCodes,
        Self::RetriableHeaders,
        Self::Http3PostConnectFailure,
        Self::GrpcCancelled,
        Self::GrpcDeadlineExceeded,
        Self::GrpcInternal,
        Self::GrpcResourceExhausted,
        Self::GrpcUnavailable,
    ];

    /// The condition that Envoy has this word for.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|condition| condition.name() == name)
    }

    /// Whether it is about statuses of gRPC.
    pub fn is_of_grpc(self) -> bool {
        matches!(
            self,
            Self::GrpcCancelled
                | Self::GrpcDeadlineExceeded
                | Self::GrpcInternal
                | Self::GrpcResourceExhausted
                | Self::GrpcUnavailable
        )
    }

    /// Envoy's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ServerError => "5xx",
            Self::GatewayError => "gateway-error",
            Self::Reset => "reset",
            Self::ResetBeforeRequest => "reset-before-request",
            Self::ConnectFailure => "connect-failure",
            Self::EnvoyRateLimited => "envoy-ratelimited",
            Self::Retriable4xx => "retriable-4xx",
            Self::RefusedStream => "refused-stream",
            Self::RetriableStatusCodes => "retriable-status-codes",
            Self::RetriableHeaders => "retriable-headers",
            Self::Http3PostConnectFailure => "http3-post-connect-failure",
            Self::GrpcCancelled => "cancelled",
            Self::GrpcDeadlineExceeded => "deadline-exceeded",
            Self::GrpcInternal => "internal",
            Self::GrpcResourceExhausted => "resource-exhausted",
            Self::GrpcUnavailable => "unavailable",
        }
    }
}
