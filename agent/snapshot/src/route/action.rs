//! What a route does with a request.

use std::{sync::Arc, time::Duration};

use super::{
    pattern::{MAX_SIZE, clause},
    weighted::{ClusterTarget, WeightedClusters},
};
use crate::format::Format;

/// What a route does with a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RouteAction {
    /// Sends it to one of several clusters.
    Forward(Forward),
    /// Answers that it is somewhere else.
    Redirect(Redirect),
    /// Answers it without an upstream.
    DirectResponse {
        /// Status code, 200–599.
        status: u16,
        /// Body as it is sent; may be empty.
        body: String,
    },
}

/// How a request is sent upstream. What is rarely written is boxed: most routes only have clusters.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Forward {
    /// One is picked per request.
    pub clusters: WeightedClusters,
    /// Changes to path and authority.
    pub rewrite: Option<Box<Rewrite>>,
    /// From the request's end to the end of the answer, retries included; `None` is no limit.
    pub timeout: Option<Duration>,
    /// When to try again; `None` is never. Most routes share one policy.
    pub retries: Option<Arc<RetryPolicy>>,
    /// Copies sent elsewhere, whose answers nobody reads.
    pub mirrors: Vec<Mirror>,
}

impl From<WeightedClusters> for Forward {
    /// Without timeout, retries, rewrites or mirrors.
    fn from(clusters: WeightedClusters) -> Self {
        Self { clusters, rewrite: None, timeout: None, retries: None, mirrors: Vec::new() }
    }
}

impl Forward {
    /// The host that a request for `asked` is for once it goes to `target`.
    pub fn authority<'f>(&'f self, target: &'f ClusterTarget, asked: &'f str) -> &'f str {
        let rewritten = self.rewrite.as_deref().and_then(|rewrite| rewrite.authority.as_deref());
        target.authority.as_deref().or(rewritten).unwrap_or(asked)
    }
}

/// Changes to path and authority of a forwarded request (VirtualService `rewrite`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Rewrite {
    /// Change to the path.
    pub path: Option<PathRewrite>,
    /// New `Host` or `:authority`.
    pub authority: Option<String>,
}

/// Change to a path; the query stays.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PathRewrite {
    /// The whole path becomes this.
    Whole(String),
    /// So many bytes at the beginning become this text; nothing is added or removed at the seam.
    Prefix {
        /// Length of what the route matched.
        matched: usize,
        /// What takes its place.
        text: String,
    },
    /// Every match of the expression becomes `replacement`.
    Regex {
        /// Searched anywhere in the path.
        search: SearchPattern,
        /// With groups as `\1`.
        replacement: String,
    },
}

/// A regular expression that is searched for in text.
#[derive(Clone, Debug)]
pub struct SearchPattern {
    compiled: regex::Regex,
}

impl SearchPattern {
    /// Compiles an expression.
    ///
    /// # Errors
    ///
    /// A clause when the expression is not valid or would need more than a megabyte.
    pub fn new(source: &str) -> Result<Self, String> {
        let compiled = regex::RegexBuilder::new(source).size_limit(MAX_SIZE).build();
        compiled.map(|compiled| Self { compiled }).map_err(|error| clause(&error))
    }

    /// The expression as written.
    pub fn source(&self) -> &str {
        self.compiled.as_str()
    }

    /// The compiled expression.
    pub fn regex(&self) -> &regex::Regex {
        &self.compiled
    }
}

impl PartialEq for SearchPattern {
    fn eq(&self, other: &Self) -> bool {
        self.source() == other.source()
    }
}

impl Eq for SearchPattern {}

/// An answer that sends the client elsewhere (VirtualService `redirect`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// Change to the path. [`PathRewrite::Whole`] with a `?` in it drops the request's query.
    pub path: Option<PathRewrite>,
    /// Host to name instead of the request's, port included if it has one.
    pub authority: Option<String>,
    /// Port to name; `None` keeps what the authority says.
    pub port: Option<RedirectPort>,
    /// `http` or `https`; `None` keeps the request's.
    pub scheme: Option<String>,
}

/// Port that a redirect names. The scheme's default port is never written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RedirectPort {
    /// This one.
    Number(u16),
    /// The scheme's own (`FROM_PROTOCOL_DEFAULT`).
    SchemeDefault,
    /// The listener's (`FROM_REQUEST_PORT`).
    Request,
}

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

/// Faults injected before a request is forwarded (VirtualService `fault`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Fault {
    /// Waits first.
    pub delay: Option<(Duration, Share)>,
    /// Answers instead of the upstream.
    pub abort: Option<(AbortStatus, Share)>,
}

/// What an injected abort answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AbortStatus {
    /// An HTTP status, 200–599.
    Http(u16),
    /// A gRPC status code.
    Grpc(u8),
}

/// A part of all requests, in millionths.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Share(u32);

impl Share {
    /// Every request.
    pub const ALL: Self = Self(1_000_000);

    /// A percentage, 0–100, with a resolution of 0.0001.
    pub fn of_percent(percent: f64) -> Self {
        let millionths = (percent.clamp(0.0, 100.0) * 10_000.0).round();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within 0..=1,000,000")]
        Self(millionths as u32)
    }

    /// The percentage.
    pub fn percent(self) -> f64 {
        f64::from(self.0) / 10_000.0
    }

    /// Whether a uniformly random number falls within the share.
    pub fn takes(self, draw: u64) -> bool {
        draw % 1_000_000 < u64::from(self.0)
    }
}

/// A copy of requests for another cluster (VirtualService `mirror`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mirror {
    /// Where it goes.
    pub target: ClusterTarget,
    /// How many requests are copied.
    pub share: Share,
    /// Whether copies are told by their host, which gets `-shadow` at its end.
    pub marks_host: bool,
}

/// Changes to the headers of requests and answers (VirtualService `headers`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HeaderEdits {
    /// On the request before it goes upstream.
    pub request: Edits,
    /// On the answer before it goes downstream.
    pub response: Edits,
}

impl HeaderEdits {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.request.is_empty() && self.response.is_empty()
    }
}

/// Changes to one head: what is removed goes first, then `set` replaces, then `add` appends lines. Names are in lower
/// case; each list is sorted by name.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Edits {
    /// Names whose lines all go.
    pub remove: Vec<String>,
    /// Lines that replace all others of that name.
    pub set: Vec<(String, Format)>,
    /// Lines added to those there are.
    pub add: Vec<(String, Format)>,
}

impl Edits {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }
}
