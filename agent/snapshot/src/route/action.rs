//! What a route does with a request.

use std::{sync::Arc, time::Duration};

use super::{
    Redirect, RetryPolicy, Rewrite, Share,
    weighted::{ClusterTarget, WeightedClusters},
};

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
