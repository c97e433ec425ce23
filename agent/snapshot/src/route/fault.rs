//! Faults that a route injects.

use std::time::Duration;

use super::Share;

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
