//! Answers of our own, with the response flags and details that Envoy's access log has for them.

use snapshot::{AbortStatus, NoRoute};

use crate::upstream::ConnectError;

/// An answer that no upstream gave.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct LocalReply<'a> {
    pub(crate) status: u16,
    pub(crate) body: &'a str,
    /// Where the client is sent instead.
    pub(crate) location: Option<&'a str>,
    /// The status of gRPC; the body then goes as its message (see [`Self::for_grpc`]).
    pub(crate) grpc_status: Option<u8>,
    /// `%RESPONSE_FLAGS%`.
    pub(crate) flags: &'static str,
    /// `%RESPONSE_CODE_DETAILS%`.
    pub(crate) details: &'static str,
}

macro_rules! reset {
    ($reason:literal) => {
        concat!("upstream connect error or disconnect/reset before headers. reset reason: ", $reason)
    };
}

macro_rules! retried {
    ($($reason:literal),+) => {
        [$((
            reset!($reason),
            concat!(
                "upstream connect error or disconnect/reset before headers. \
                 retried and the latest reset reason: ",
                $reason
            ),
        )),+]
    };
}

/// Bodies about the first try, and what they are after more than one.
const RETRIED: [(&str, &str); 7] = retried!(
    "overflow",
    "connection termination",
    "protocol error",
    "remote reset",
    "remote refused stream reset",
    "connection timeout",
    "remote connection failure"
);

impl LocalReply<'static> {
    const fn new(status: u16, flags: &'static str, details: &'static str, body: &'static str) -> Self {
        Self { status, body, location: None, grpc_status: None, flags, details }
    }

    pub(crate) const NO_CLUSTER: Self = Self::new(503, "NC", "cluster_not_found", "");
    pub(crate) const NO_HEALTHY_UPSTREAM: Self =
        Self::new(503, "UH", "no_healthy_upstream", "no healthy upstream");
    /// The name that was asked for has no address.
    pub(crate) const NOT_RESOLVED: Self =
        Self::new(503, "DF", "dns_resolution_failure", "DNS resolution failure");
    /// The cluster has as much under way as it may.
    pub(crate) const OVERFLOW: Self =
        Self::new(503, "UO", "upstream_reset_before_response_started{overflow}", reset!("overflow"));
    pub(crate) const UPSTREAM_CLOSED: Self = Self::new(
        503,
        "UC",
        "upstream_reset_before_response_started{connection_termination}",
        reset!("connection termination"),
    );
    pub(crate) const UPSTREAM_PROTOCOL_ERROR: Self = Self::new(
        502,
        "UPE",
        "upstream_reset_before_response_started{protocol_error}",
        reset!("protocol error"),
    );
    pub(crate) const UPSTREAM_RESET: Self =
        Self::new(503, "UR", "upstream_reset_before_response_started{remote_reset}", reset!("remote reset"));
    pub(crate) const UPSTREAM_REFUSED: Self = Self::new(
        503,
        "UR",
        "upstream_reset_before_response_started{remote_refused_stream_reset}",
        reset!("remote refused stream reset"),
    );
    /// The client sent what no endpoint can be given: a body that breaks its own framing, a path that is no URI.
    pub(crate) const BAD_REQUEST: Self = Self::new(400, "DPE", "http1.codec_error", "Bad Request");
    /// The same over HTTP/2, of what its codec lets through.
    pub(crate) const BAD_HTTP2: Self =
        Self::new(400, "DPE", "http2.violation.of.messaging.rule", "Bad Request");
    /// A body over HTTP/2 that is not as its head says; its stream has been reset.
    pub(crate) const BROKEN_HTTP2: Self = Self::new(0, "DPE", "http2.remote_reset", "");
    /// A path without a normal form.
    pub(crate) const BAD_PATH: Self = Self::new(400, "", "path_normalization_failed", "");
    /// `OPTIONS *`: routes are for paths, and which server it would ask is not to be known.
    pub(crate) const NO_PATH: Self = Self::new(404, "", "absolute_path_rejected", "");
    /// An absolute form for `https` from a client in clear text: whoever judged it by its scheme would be deceived.
    pub(crate) const HTTPS_IN_CLEAR_TEXT: Self =
        Self::new(403, "DPE", "http1.https_url_on_plaintext_connection", "Forbidden");
    /// A field whose name some servers take for another one's, where such are refused.
    pub(crate) const UNDERSCORE: Self = Self::new(400, "DPE", "http1.unexpected_underscore", "Bad Request");
    /// The same over HTTP/2, whose stream is reset.
    pub(crate) const UNDERSCORE_RESET: Self = Self::new(0, "DR", "http2.unexpected_underscore", "");
    /// An HTTP/2 request with more fields than an HTTP/1 one may have; as bytes they are bounded by the codec.
    pub(crate) const TOO_MANY_FIELDS: Self = Self::new(431, "DPE", "http2.too_many_headers", "");
    /// The client went away; nobody gets this.
    pub(crate) const CLIENT_GONE: Self = Self::new(0, "DC", "downstream_remote_disconnect", "");
    /// The route's limit for the whole request has passed.
    pub(crate) const TIMEOUT: Self = Self::new(504, "UT", "response_timeout", "upstream request timeout");
    /// The route's limit for one try has passed.
    pub(crate) const TRY_TIMEOUT: Self =
        Self::new(504, "UT", "upstream_per_try_timeout", "upstream request timeout");
    /// The limit that a gRPC client set has passed.
    pub(crate) const DEADLINE: Self = Self { grpc_status: Some(4), ..Self::TIMEOUT };
    /// A cross-origin preflight; what it says is added to it.
    pub(crate) const PREFLIGHT: Self = Self::new(200, "", "cors_response", "");
    /// A request's body stopped coming.
    pub(crate) const STREAM_TIMEOUT: Self = Self::new(408, "SI", "stream_idle_timeout", "stream timeout");
    /// Another protocol is asked for, in a way that leaves nothing else to answer.
    pub(crate) const UPGRADE_FAILED: Self = Self::new(403, "", "upgrade_failed", "");
    /// Nothing has come of an answer for as long as the listener lets a request stand still.
    pub(crate) const ANSWER_TIMEOUT: Self = Self { status: 504, ..Self::STREAM_TIMEOUT };
    /// A request did not arrive within the time that the listener gives it.
    pub(crate) const REQUEST_TIMEOUT: Self = Self::new(408, "", "request_overall_timeout", "request timeout");
    /// The listener's limit for a request and its answer has passed.
    pub(crate) const STREAM_EXPIRED: Self = Self {
        grpc_status: Some(4),
        ..Self::new(504, "", "max_duration_timeout", "downstream duration timeout")
    };
    /// A request's head did not arrive in time.
    pub(crate) const HEAD_TIMEOUT: Self =
        Self::new(408, "", "request_header_timeout", "request header timeout");

    /// The process has too little memory left. Envoy has a flag for it, `OM`, and sets none.
    pub(crate) const OVERLOADED: Self = Self::new(503, "", "overload", "envoy overloaded");

    /// The host is served under another server name, where clients are asked for other things (RFC 9110 §15.5.20).
    pub(crate) const MISDIRECTED: Self = Self::new(
        421,
        "NR",
        "misdirected_request",
        "Misdirected Request: use a new connection for this host",
    );

    /// To a connection that is not served any more: another one may be, over TLS after another handshake.
    pub(crate) fn unserved(over_tls: bool) -> Self {
        if over_tls { Self::MISDIRECTED } else { Self::no_route(NoRoute::Route) }
    }

    /// Envoy's answer to a request that no route takes.
    pub(crate) fn no_route(_: NoRoute) -> Self {
        Self::new(404, "NR", "route_not_found", "")
    }

    /// The answer when no endpoint could be connected to.
    pub(crate) fn connect_failed(error: &ConnectError) -> Self {
        match error {
            ConnectError::Timeout => Self::new(
                503,
                "UF",
                "upstream_reset_before_response_started{connection_timeout}",
                reset!("connection timeout"),
            ),
            ConnectError::NotHttp2(_) => Self::UPSTREAM_PROTOCOL_ERROR,
            ConnectError::Overflow => Self::OVERFLOW,
            // Envoy's word for a handshake that fails is that of any failed connection.
            ConnectError::Failed(_)
            | ConnectError::FailedAtOnce { .. }
            | ConnectError::Tls(_)
            | ConnectError::ClearText
            | ConnectError::TunnelAnswered(_)
            | ConnectError::TunnelRefused(_) => Self::new(
                503,
                "UF",
                "upstream_reset_before_response_started{remote_connection_failure}",
                reset!("remote connection failure"),
            ),
        }
    }

    /// The same after more than one try.
    pub(crate) fn retried(self) -> Self {
        let again = RETRIED.iter().find(|(first, _)| *first == self.body);
        Self { body: again.map_or(self.body, |(_, again)| again), ..self }
    }

    /// An injected abort.
    pub(crate) fn fault(status: AbortStatus) -> Self {
        let reply = |status| Self::new(status, "FI", "fault_filter_abort", "fault filter abort");
        match status {
            AbortStatus::Http(status) => reply(status),
            // Others than gRPC's clients get the 200 that carries its status, as from Envoy.
            AbortStatus::Grpc(status) => Self { grpc_status: Some(status), ..reply(200) },
        }
    }

    /// The answer to a request that is not HTTP as RFC 9112 has it.
    pub(crate) fn malformed(error: http1::RequestError) -> Self {
        use http1::{FramingError, HeadError, RequestError as Wrong, TargetError};
        let refused =
            |details| Self::new(error.status(), "DPE", details, http1::reason_phrase(error.status()));
        match error {
            // Envoy's codec reads these; its connection manager refuses them.
            Wrong::MissingHost => Self::new(400, "", "missing_host_header", ""),
            Wrong::Target(TargetError::Fragment) => Self::BAD_PATH,
            Wrong::Target(TargetError::InvalidScheme) => refused("http1.invalid_scheme"),
            Wrong::Head(HeadError::TooLarge) => refused("http1.headers_too_large"),
            Wrong::Head(HeadError::TooManyHeaders) => refused("http1.too_many_headers"),
            Wrong::Head(HeadError::InvalidValue) => refused("http1.invalid_characters"),
            Wrong::Framing(FramingError::LengthAndTransferEncoding) => {
                refused("http1.content_length_and_chunked_not_allowed")
            }
            Wrong::Framing(FramingError::UnknownTransferCoding | FramingError::InvalidTransferEncoding) => {
                refused("http1.invalid_transfer_encoding")
            }
            _ => refused("http1.codec_error"),
        }
    }
}

impl<'a> LocalReply<'a> {
    /// Sends the client elsewhere.
    pub(crate) fn redirect(status: u16, location: &'a str) -> Self {
        Self { location: Some(location), ..Self::direct(status, "") }
    }

    /// Sends the client to the same path without escaped slashes.
    pub(crate) fn unescaped(location: &'a str) -> Self {
        Self { details: LocalReply::BAD_PATH.details, ..Self::redirect(307, location) }
    }

    /// The answer that a route itself holds.
    pub(crate) fn direct(status: u16, body: &'a str) -> Self {
        // RFC 9112 §6.3: these end with their head; bytes after it would be taken for the next answer.
        let body = if matches!(status, 204 | 304) { "" } else { body };
        Self { status, body, location: None, grpc_status: None, flags: "", details: "direct_response" }
    }

    /// The same in the form that a client gets: one of gRPC gets 200 and a gRPC status in the head, without a body
    /// ("trailers-only"); another one gets no gRPC status.
    pub(crate) fn for_client(self, grpc: bool) -> Self {
        match (grpc, self.grpc_status) {
            (false, _) => Self { grpc_status: None, ..self },
            (true, Some(_)) => Self { status: 200, ..self },
            (true, None) => Self { grpc_status: Some(http_to_grpc(self.status)), status: 200, ..self },
        }
    }

    /// The same for a client of gRPC-Web, as Envoy's filter leaves it: with its own status, and the body as the message
    /// of one of gRPC.
    pub(crate) fn for_grpc_web(self) -> Self {
        let status = self.grpc_status.unwrap_or_else(|| http_to_grpc(self.status));
        Self { grpc_status: (!self.body.is_empty()).then_some(status), ..self }
    }

    /// The body as it is sent.
    pub(crate) fn sent_body(&self) -> &'a str {
        if self.grpc_status.is_some() { "" } else { self.body }
    }
}

/// gRPC's own table for answers that are not its own (<https://grpc.github.io/grpc/core/md_doc_http-grpc-status-mapping.html>).
fn http_to_grpc(status: u16) -> u8 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}

/// The HTTP status that stands for one of gRPC, as in Envoy.
pub(crate) fn grpc_to_http(status: u8) -> u16 {
    match status {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    }
}
