//! `networking.istio.io` Gateway: which ports a gateway listens on, for which hosts.

mod host;
mod port;
#[cfg(test)]
mod tests;
mod tls;

use std::net::IpAddr;

pub use host::{HostNamespace, ServerHost};
pub(crate) use port::MaybeZeroPort;
pub use port::{Protocol, ServerPort};
pub use tls::{ServerTls, TlsCertificate, TlsMode, TlsVersion};

use crate::{
    Labels, Path,
    decode::{Context, Fields, Shape},
    finding::{Problem, Rule},
    labels::check_labels,
    unix_socket,
};

/// Spec of a Gateway.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Gateway {
    /// Labels a gateway's pod must all have to be configured by this resource; empty selects every gateway.
    pub selector: Labels,
    /// What to listen on; at least one.
    pub servers: Vec<Server>,
}

impl Shape for Gateway {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self { selector: fields.or_default("selector"), servers: fields.required("servers") }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        check_labels(&self.selector, &at.field("selector"), context);
        let servers = at.field("servers");
        if self.servers.is_empty() {
            context.error(&servers, Problem::new("is empty").expected("at least one server"));
        }
        let mut names = std::collections::HashSet::new();
        for (index, server) in self.servers.iter().enumerate() {
            if !names.insert(&server.port.name) {
                let problem =
                    Problem::new("is used by an earlier server of this Gateway").found(&server.port.name);
                let problem = problem.expected("a name of its own for each server");
                context.error(&servers.index(index).field("port").field("name"), problem);
            }
        }
    }
}

/// One listening port and the hosts served there (`Server`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Server {
    /// Declared port.
    pub port: ServerPort,
    /// Address or `unix://` path to listen on; absent means every address.
    pub bind: Option<String>,
    /// Hosts served; at least one.
    pub hosts: Vec<ServerHost>,
    /// TLS settings; required for HTTPS and TLS ports.
    pub tls: Option<ServerTls>,
    /// Name of the server, for statistics.
    pub name: Option<String>,
}

impl Shape for Server {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let server = Self {
            port: fields.required("port"),
            bind: fields.optional("bind"),
            hosts: fields.required("hosts"),
            tls: fields.optional("tls"),
            name: fields.optional("name"),
        };
        // Istio never implemented it, so nothing is lost but somebody may wait for it.
        let _: Option<String> = fields.planned("defaultEndpoint");
        server
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        if self.hosts.is_empty() {
            context.error(&at.field("hosts"), Problem::new("is empty").expected("at least one host, or `*`"));
        }
        self.check_bind(at, context);
        self.check_tls(at, context);
    }
}

impl Server {
    fn check_bind(&self, at: &Path<'_>, context: &mut Context<'_>) {
        let number = at.field("port");
        let number = number.field("number");
        match self.bind.as_deref() {
            Some(bind) if unix_socket::is_unix(bind) => {
                if let Some(Err(problem)) = unix_socket::path_of(bind) {
                    context.error(&at.field("bind"), problem);
                }
                if self.port.number != 0 {
                    let problem = Problem::new("a unix socket has no port").found(self.port.number);
                    context.error(&number, problem.expected("0 with this bind"));
                }
            }
            Some(bind) if bind.parse::<IpAddr>().is_err() => {
                let problem = Problem::new("is no address to listen on").found(bind);
                context.error(
                    &at.field("bind"),
                    problem.expected(format!("an IP address or {}", unix_socket::FORM)),
                );
            }
            _ if self.port.number == 0 => {
                context.error(&number, Problem::new("is out of range").found(0).expected("1–65535"));
            }
            _ => {}
        }
    }

    fn check_tls(&self, at: &Path<'_>, context: &mut Context<'_>) {
        let (protocol, at_tls) = (self.port.protocol, at.field("tls"));
        match &self.tls {
            None if protocol.is_tls() => {
                let problem = Problem::new(format!("is missing on a port of protocol {protocol}"));
                context
                    .error(&at_tls, problem.expected("at least a `mode`, such as SIMPLE with a certificate"));
            }
            Some(tls) if protocol.is_http() && !tls.is_redirect_only() => {
                let problem =
                    Problem::new(format!("holds more than `httpsRedirect` on a port of protocol {protocol}"));
                context.error(&at_tls, problem.remedy("use protocol HTTPS to terminate TLS"));
            }
            Some(_) if !protocol.is_http() && !protocol.is_tls() => {
                let problem = Problem::new(format!("has no meaning on a port of protocol {protocol}"));
                context.error(&at_tls, problem.remedy("use protocol TLS"));
            }
            Some(tls) if tls.https_redirect && !protocol.is_http() => {
                let problem = Problem::new(format!("has no effect on a port of protocol {protocol}"));
                context.warning(
                    Rule::Invalid,
                    &at_tls.field("httpsRedirect"),
                    problem.expected("protocol HTTP"),
                );
            }
            _ => {}
        }
    }
}
