//! What is asked of [`explain`](super::explain).

use std::net::{IpAddr, SocketAddr};

/// A connection and a request on it, as a client would make them.
#[derive(Clone, Copy, Debug)]
pub struct Question<'q, R> {
    /// Where the client's connection comes in or was going to.
    pub entry: Entry,
    /// Address of the proxy that the client dials, where it is known: clients that dial an address send no server name,
    /// and servers whose host is an address are told by it.
    pub dialled: Option<IpAddr>,
    /// Server name of the client hello; `None` in clear text or when the client names none.
    pub server_name: Option<&'q str>,
    /// What the client speaks.
    pub spoken: Spoken,
    /// The request.
    pub request: &'q R,
}

/// What a client speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Spoken {
    /// HTTP in clear text.
    ClearText,
    /// TLS.
    Tls,
    /// HTTP in mutual TLS, as proxies of the mesh do among themselves.
    MeshTls,
}

/// How the connection reached the proxy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Entry {
    /// Directly: a gateway's port, or one that a sidecar's clients dial.
    Port(u16),
    /// Captured on its way out of the workload to this address.
    Outbound(SocketAddr),
    /// Captured on its way into the workload at this address.
    Inbound(SocketAddr),
}
