//! Tunnels through proxies at the endpoints.

/// How proxies at the endpoints are asked to take opaque connections further.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tunnel {
    /// Where to, `<host>:<port>`.
    pub far_end: String,
    /// By which request.
    pub method: TunnelMethod,
}

/// The request that opens a tunnel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TunnelMethod {
    /// `CONNECT`: after consent the connection is the client's.
    Connect,
    /// `POST`: what the client sends is the body of the request, what it gets that of the answer.
    Post,
}

impl TunnelMethod {
    /// As it stands in the request.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::Post => "POST",
        }
    }
}
