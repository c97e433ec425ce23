//! Answers of our own, with the response flags and details that Envoy's access log has for them.

use snapshot::NoRoute;

use crate::upstream::ConnectError;

/// An answer that no upstream gave.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct LocalReply<'a> {
    pub(crate) status: u16,
    pub(crate) body: &'a str,
    /// Where the client is sent instead.
    pub(crate) location: Option<&'a str>,
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

impl LocalReply<'static> {
    const fn new(status: u16, flags: &'static str, details: &'static str, body: &'static str) -> Self {
        Self { status, body, location: None, flags, details }
    }

    pub(crate) const NO_CLUSTER: Self = Self::new(503, "NC", "cluster_not_found", "");
    pub(crate) const NO_HEALTHY_UPSTREAM: Self =
        Self::new(503, "UH", "no_healthy_upstream", "no healthy upstream");
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
    /// A path without a normal form.
    pub(crate) const BAD_PATH: Self = Self::new(400, "", "path_normalization_failed", "");
    /// An HTTP/2 request with more fields than an HTTP/1 one may have; as bytes they are bounded by the codec.
    pub(crate) const TOO_MANY_FIELDS: Self = Self::new(431, "DPE", "http2.too_many_headers", "");
    /// The client went away; nobody gets this.
    pub(crate) const CLIENT_GONE: Self = Self::new(0, "DC", "downstream_remote_disconnect", "");
    /// A request's head did not arrive in time.
    pub(crate) const HEAD_TIMEOUT: Self = Self::new(408, "", "request_header_timeout", "");

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
            ConnectError::Failed(_) => Self::new(
                503,
                "UF",
                "upstream_reset_before_response_started{remote_connection_failure}",
                reset!("remote connection failure"),
            ),
        }
    }

    /// The answer to a request that is not HTTP as RFC 9112 has it.
    pub(crate) fn malformed(error: http1::RequestError) -> Self {
        let body = if error.status() == 400 { "Bad Request" } else { "" };
        Self::new(error.status(), "DPE", "http1.codec_error", body)
    }
}

impl<'a> LocalReply<'a> {
    /// Sends the client elsewhere for good.
    pub(crate) fn moved(location: &'a str) -> Self {
        Self { status: 301, body: "", location: Some(location), flags: "", details: "direct_response" }
    }

    /// The answer that a route itself holds.
    pub(crate) fn direct(status: u16, body: &'a str) -> Self {
        // RFC 9112 §6.3: these end with their head; bytes after it would be taken for the next answer.
        let body = if matches!(status, 204 | 304) { "" } else { body };
        Self { status, body, location: None, flags: "", details: "direct_response" }
    }
}
