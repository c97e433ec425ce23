//! Cross-origin rules: which requests they are about, and which preflights the proxy answers itself.

use super::TextMatch;
use crate::RequestHead;

/// Cross-origin rules (VirtualService `corsPolicy`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CorsPolicy {
    /// Origins allowed; any suffices.
    pub allow_origins: Vec<TextMatch>,
    /// Value of `access-control-allow-methods`; empty is not sent.
    pub allow_methods: String,
    /// Value of `access-control-allow-headers`; empty is not sent.
    pub allow_headers: String,
    /// Value of `access-control-expose-headers`; empty is not sent.
    pub expose_headers: String,
    /// Value of `access-control-max-age` in seconds.
    pub max_age: Option<u64>,
    /// Whether `access-control-allow-credentials: true` is sent.
    pub allow_credentials: bool,
    /// Whether preflights from other origins are answered here, without rules, instead of being forwarded.
    pub ignore_unmatched_preflights: bool,
}

/// What cross-origin rules mean for one request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CorsVerdict<'r> {
    /// Nothing.
    Unconcerned,
    /// A preflight from this origin, answered with the rules.
    Preflight(&'r [u8]),
    /// A preflight from elsewhere, answered without rules, so that the browser sends nothing.
    Denied,
    /// A request from this origin, whose answer the page may read.
    Allowed(&'r [u8]),
}

impl CorsPolicy {
    /// Judges a request.
    ///
    /// A preflight is `OPTIONS` with `origin` and `access-control-request-method`; no other request is answered by the
    /// proxy.
    pub fn judge<'r>(&self, request: &'r impl RequestHead) -> CorsVerdict<'r> {
        let Some(origin) = request.header("origin").filter(|origin| !origin.is_empty()) else {
            return CorsVerdict::Unconcerned;
        };
        let allowed = self.allow_origins.iter().any(|allowed| allowed.matches(origin));
        let asked = request.header("access-control-request-method").is_some_and(|method| !method.is_empty());
        match (request.method() == "OPTIONS" && asked, allowed) {
            (true, true) => CorsVerdict::Preflight(origin),
            (true, false) if self.ignore_unmatched_preflights => CorsVerdict::Denied,
            (false, true) => CorsVerdict::Allowed(origin),
            (_, false) => CorsVerdict::Unconcerned,
        }
    }
}
