//! How much a worker has done.

/// How much a worker has done; sums over the workers describe the proxy.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Connections from clients that are open.
    pub active_connections: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Connections closed at once because the worker, or the process, had as many as it may, or too little memory.
    pub over_limit: u64,
    /// Connections closed because they were going to the proxy itself.
    pub looped: u64,
    /// Connections closed because no filter chain takes them.
    pub no_filter_chain: u64,
    /// Connections to gateways closed because they did not begin with the PROXY header that is expected there.
    pub without_proxy_header: u64,
    /// Connections closed because their TLS handshake failed or took too long.
    pub failed_handshakes: u64,
    /// Connections closed within their TLS handshake because newer handshakes needed the place.
    pub crowded_out_handshakes: u64,
    /// HTTP requests.
    pub requests: u64,
    /// HTTP requests that the proxy answered itself.
    pub local_replies: u64,
    /// Copies for mirrors that were not made: too many were under way, or they held too much.
    pub dropped_copies: u64,
}

impl std::ops::Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            active_connections: self.active_connections + other.active_connections,
            connections: self.connections + other.connections,
            over_limit: self.over_limit + other.over_limit,
            looped: self.looped + other.looped,
            no_filter_chain: self.no_filter_chain + other.no_filter_chain,
            without_proxy_header: self.without_proxy_header + other.without_proxy_header,
            failed_handshakes: self.failed_handshakes + other.failed_handshakes,
            crowded_out_handshakes: self.crowded_out_handshakes + other.crowded_out_handshakes,
            requests: self.requests + other.requests,
            local_replies: self.local_replies + other.local_replies,
            dropped_copies: self.dropped_copies + other.dropped_copies,
        }
    }
}
