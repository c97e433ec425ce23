//! What the proxy takes for its workload.

use std::net::{IpAddr, SocketAddr};

use super::{CaptureMode, SidecarPort, warn_of_http_pool};
use crate::{
    ConnectionPool, Path, ServerTls, TlsMode,
    decode::{Context, Decode, Fields, Shape},
    finding::Problem,
    unix_socket,
    yaml::Node,
};

/// `IstioIngressListener`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct IngressListener {
    /// Port taken.
    pub port: SidecarPort,
    /// Address listened on; absent means the workload's own.
    pub bind: Option<IpAddr>,
    /// How traffic reaches it.
    pub capture_mode: CaptureMode,
    /// Where it goes; absent means the same port of the workload.
    pub default_endpoint: Option<IngressEndpoint>,
    /// TLS of clients outside the mesh, where mutual TLS is off.
    pub tls: Option<ServerTls>,
    /// Limits of connections to the workload.
    pub connection_pool: Option<ConnectionPool>,
}

impl Shape for IngressListener {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let bind: Option<IngressBind> = fields.optional("bind");
        Self {
            port: fields.required("port"),
            bind: bind.and_then(|bind| bind.0),
            capture_mode: fields.or_default("captureMode"),
            default_endpoint: fields.optional::<WrittenEndpoint>("defaultEndpoint").and_then(|end| end.0),
            tls: fields.optional("tls"),
            connection_pool: fields.optional("connectionPool"),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        if self.port.number == 0 {
            let number = at.field("port");
            let problem = Problem::new("is missing or zero").expected("1–65535");
            context.error(&number.field("number"), problem);
        }
        if let Some(tls) = &self.tls {
            check_tls(tls, &at.field("tls"), context);
        }
        warn_of_http_pool(self.connection_pool.as_ref(), &self.port, &at.field("connectionPool"), context);
    }
}

/// A workload's proxy terminates TLS with certificates by path, and that is all.
fn check_tls(tls: &ServerTls, at: &Path<'_>, context: &mut Context<'_>) {
    if !matches!(tls.mode, TlsMode::Simple | TlsMode::Mutual) {
        let problem = Problem::new("is no mode of a Sidecar").found(tls.mode.name());
        context.error(&at.field("mode"), problem.expected("SIMPLE or MUTUAL"));
    }
    for (written, name) in [
        (tls.https_redirect, "httpsRedirect"),
        (!tls.subject_alt_names.is_empty(), "subjectAltNames"),
        (tls.credential_name.is_some(), "credentialName"),
        (!tls.credential_names.is_empty(), "credentialNames"),
    ] {
        if written {
            let problem = Problem::new("is not for Sidecars");
            context.error(&at.field(name), problem.remedy("use `serverCertificate` and `privateKey`"));
        }
    }
}

#[derive(Default)]
struct IngressBind(Option<IpAddr>);

impl Decode for IngressBind {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        let text = String::decode(node, at, context);
        if text.is_empty() {
            return Self(None);
        }
        Self(text.parse().map(Some).unwrap_or_else(|_| {
            let problem = Problem::new("is no address to listen on").found(&text);
            context.error(at, problem.expected("an IP address"));
            None
        }))
    }
}

/// Where the traffic of a listener goes (`defaultEndpoint`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum IngressEndpoint {
    /// The loopback address, or the unspecified one, which stands for the workload's own; and a port.
    Address(SocketAddr),
    /// The unix socket at this path, or of this name after `@`.
    Unix(String),
}

#[derive(Default)]
struct WrittenEndpoint(Option<IngressEndpoint>);

impl Decode for WrittenEndpoint {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        let text = String::decode(node, at, context);
        if text.is_empty() {
            return Self(None);
        }
        let endpoint = match unix_socket::path_of(&text) {
            Some(path) => path.map(|path| IngressEndpoint::Unix(path.to_owned())),
            None => text.parse().ok().filter(is_own).map(IngressEndpoint::Address).ok_or_else(|| {
                let problem = Problem::new("is no place in the workload").found(&text);
                let own = "`127.0.0.1:PORT`, `[::1]:PORT`, `0.0.0.0:PORT`, `[::]:PORT`";
                problem.expected(format!("{own} or {}", unix_socket::FORM))
            }),
        };
        Self(endpoint.map_err(|problem| context.error(at, problem)).ok())
    }
}

fn is_own(address: &SocketAddr) -> bool {
    use std::net::{Ipv4Addr, Ipv6Addr};
    let own = [
        IpAddr::from(Ipv4Addr::LOCALHOST),
        IpAddr::from(Ipv4Addr::UNSPECIFIED),
        IpAddr::from(Ipv6Addr::LOCALHOST),
        IpAddr::from(Ipv6Addr::UNSPECIFIED),
    ];
    address.port() != 0 && own.contains(&address.ip())
}
