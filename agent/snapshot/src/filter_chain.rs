//! Filter chains: ways of serving a connection, and the choice of one for a newly accepted connection.

use std::net::SocketAddr;

use ipnet::IpNet;

use crate::{
    EscapedSlashes, HttpSettingsId, PathNormalization, RouteConfigId, hosts::HostPattern,
    route::WeightedClusters, tls::TlsContextId,
};

/// One way of serving a connection, and the connections it is meant for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FilterChain {
    /// Istio's name, for logs and dumps.
    pub name: String,
    /// Conditions; all must hold.
    pub matches: FilterChainMatch,
    /// How TLS is terminated; `None` leaves the bytes as they are.
    pub tls: Option<TlsContextId>,
    /// What serves the connection.
    pub filter: NetworkFilter,
}

/// Conditions of a filter chain; those absent hold for every connection.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct FilterChainMatch {
    /// Port of the original destination.
    pub destination_port: Option<u16>,
    /// Networks of the original destination, any one of these; empty means any. A chain for a narrower network is
    /// asked first, and the wider ones only when no chain of the narrower takes the connection.
    pub destination_subnets: Vec<IpNet>,
    /// Server names asked for in the client hello; empty means any or none. An address stands for clients that dialled
    /// it: they send no name.
    pub server_names: Vec<HostPattern>,
    /// Whether the client speaks TLS.
    pub transport: Option<Transport>,
    /// What the bytes look like.
    pub application: Option<Application>,
}

/// How the first bytes of a connection are wrapped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Transport {
    /// Clear text.
    RawBuffer,
    /// A TLS record.
    Tls,
}

/// What the first bytes of a connection tell of what it carries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Application {
    /// Clear text that begins with an HTTP/1 request line or the HTTP/2 preface.
    Http,
    /// Clear text that is anything else, nothing, or a server that spoke first; TLS that offers no protocol of the
    /// mesh.
    Opaque,
    /// TLS that offers one of the protocols by which proxies of the mesh know each other (`istio`,
    /// `istio-peer-exchange`). As a condition it takes [`Self::MeshHttp`] too.
    Mesh,
    /// TLS that offers HTTP between proxies of the mesh (`istio-http/1.0`, `istio-http/1.1`, `istio-h2`).
    MeshHttp,
}

impl Application {
    /// What the protocols that a client hello offers (ALPN) tell.
    pub fn of_offered<'p>(protocols: impl IntoIterator<Item = &'p [u8]>) -> Self {
        let mut application = Self::Opaque;
        for protocol in protocols {
            match protocol {
                b"istio-http/1.0" | b"istio-http/1.1" | b"istio-h2" => return Self::MeshHttp,
                b"istio" | b"istio-peer-exchange" => application = Self::Mesh,
                _ => {}
            }
        }
        application
    }
}

/// What serves a connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NetworkFilter {
    /// HTTP requests, each routed by itself.
    Http(HttpConnections),
    /// Bytes, relayed to one upstream.
    Tcp(TcpProxy),
    /// Nothing: closed at once.
    Blackhole,
}

/// How HTTP requests of a chain are served.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HttpConnections {
    /// The route table.
    pub route_config: RouteConfigId,
    /// What is done to paths before they are matched.
    pub path_normalization: PathNormalization,
    /// What becomes of escaped slashes in paths before that.
    pub escaped_slashes: EscapedSlashes,
    /// What endpoints are told of clients' certificates.
    pub forward_client_cert: ForwardClientCert,
    /// Whether gRPC-Web becomes gRPC on its way to endpoints of HTTP/2.
    pub grpc_web: bool,
    /// What else holds for its connections.
    pub settings: HttpSettingsId,
}

/// What becomes of `x-forwarded-client-cert` on the way to endpoints, in Envoy's words. But for the last a field that
/// comes from a client without a certificate is always removed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ForwardClientCert {
    /// It is removed.
    #[default]
    Sanitize,
    /// It goes on as it came.
    ForwardOnly,
    /// What the client has shown is added to it.
    AppendForward,
    /// What the client has shown takes its place.
    SanitizeSet,
    /// It goes on as it came, whoever sent it.
    AlwaysForwardOnly,
}

impl ForwardClientCert {
    /// Envoy's word for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sanitize => "SANITIZE",
            Self::ForwardOnly => "FORWARD_ONLY",
            Self::AppendForward => "APPEND_FORWARD",
            Self::SanitizeSet => "SANITIZE_SET",
            Self::AlwaysForwardOnly => "ALWAYS_FORWARD_ONLY",
        }
    }
}

impl HttpConnections {
    /// Served by this route table, in Istio's default way.
    pub fn new(route_config: RouteConfigId) -> Self {
        let (path_normalization, escaped_slashes, forward_client_cert, settings) = Default::default();
        Self {
            route_config,
            path_normalization,
            escaped_slashes,
            forward_client_cert,
            grpc_web: false,
            settings,
        }
    }
}

/// Where the bytes of an opaque connection go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TcpProxy {
    /// One cluster is picked per connection.
    pub clusters: WeightedClusters,
}

/// What is known about a connection when its filter chain is chosen.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionFacts<'c> {
    /// Where the client wanted to go: the original destination when captured, else the local address.
    pub destination: SocketAddr,
    /// Server name of the client hello.
    pub server_name: Option<&'c str>,
    /// Whether the client speaks TLS.
    pub transport: Transport,
    /// What the bytes look like.
    pub application: Application,
}

/// What has to be read of a connection before its filter chain is known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Inspection {
    /// Nothing.
    Nothing,
    /// A TLS client hello: nobody is served who does not send one, so the client speaks first.
    Hello,
    /// Enough to tell TLS, HTTP and everything else apart; the server may speak first.
    Protocol {
        /// Whether the hello of a client that speaks TLS is to be read whole.
        hello: bool,
    },
}
