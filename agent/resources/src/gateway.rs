//! `networking.istio.io` Gateway: which ports a gateway listens on, for which hosts.

mod tls;

use std::{net::IpAddr, str::FromStr};

pub use tls::{ServerTls, TlsCertificate, TlsMode};

use crate::{
    Labels, Path,
    decode::{Context, Decode, Fields, Shape, word},
    finding::{Problem, Rule},
    host,
    yaml::Node,
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
            Some(bind) if bind.starts_with("unix://") && self.port.number != 0 => {
                let problem = Problem::new("a unix socket has no port").found(self.port.number);
                context.error(&number, problem.expected("0 with this bind"));
            }
            Some(bind) if bind.starts_with("unix://") => {}
            Some(bind) if bind.parse::<IpAddr>().is_err() => {
                let problem = Problem::new("is no address to listen on").found(bind);
                context.error(&at.field("bind"), problem.expected("an IP address or `unix://` and a path"));
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
                context.warning(Rule::Invalid, &at_tls.field("httpsRedirect"), problem);
            }
            _ => {}
        }
    }
}

/// `Port` of a server.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ServerPort {
    /// Declared port, 1–65535; 0 with a unix socket only.
    pub number: u16,
    /// What is spoken there.
    pub protocol: Protocol,
    /// Name, unique within the Gateway.
    pub name: String,
}

impl Shape for ServerPort {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let MaybeZeroPort(number) = fields.required("number");
        Self { number, protocol: fields.required("protocol"), name: fields.required("name") }
    }
}

/// A port number where zero may be right; [`Server::check_bind`] decides.
#[derive(Default)]
pub(crate) struct MaybeZeroPort(u16);

impl MaybeZeroPort {
    pub(crate) fn get(self) -> u16 {
        self.0
    }
}

impl Decode for MaybeZeroPort {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        let number = u32::decode(node, at, context);
        Self(u16::try_from(number).unwrap_or_else(|_| {
            context.error(at, Problem::new("is out of range").found(number).expected("1–65535"));
            0
        }))
    }
}

/// Protocol of a server port; case does not matter when written.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Protocol {
    /// HTTP/1.1, and HTTP/2 with prior knowledge.
    #[default]
    Http,
    /// HTTP over TLS, or opaque TLS in mode PASSTHROUGH.
    Https,
    /// gRPC.
    Grpc,
    /// gRPC-Web, bridged to gRPC.
    GrpcWeb,
    /// HTTP/2.
    Http2,
    /// MongoDB, relayed as bytes.
    Mongo,
    /// Bytes.
    Tcp,
    /// TLS: passed through or terminated, then relayed as bytes.
    Tls,
    /// Redis, relayed as bytes.
    Redis,
    /// MySQL, relayed as bytes.
    Mysql,
}

impl Protocol {
    const NAMES: [(&'static str, Self); 10] = [
        ("HTTP", Self::Http),
        ("HTTPS", Self::Https),
        ("GRPC", Self::Grpc),
        ("GRPC-WEB", Self::GrpcWeb),
        ("HTTP2", Self::Http2),
        ("MONGO", Self::Mongo),
        ("TCP", Self::Tcp),
        ("TLS", Self::Tls),
        ("REDIS", Self::Redis),
        ("MYSQL", Self::Mysql),
    ];

    /// Clear-text HTTP of any version.
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2 | Self::Grpc | Self::GrpcWeb)
    }

    /// TLS on the wire.
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Tls)
    }
}

impl FromStr for Protocol {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let named = Self::NAMES.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
        named.map(|(_, protocol)| protocol).ok_or(())
    }
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name =
            Self::NAMES.into_iter().find(|(_, protocol)| protocol == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

impl Decode for Protocol {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        word(node, &Self::NAMES.map(|(name, _)| name), at, context)
    }
}

/// A host of a server, `[namespace/]host`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ServerHost {
    /// Which namespaces' VirtualServices may attach.
    pub namespace: HostNamespace,
    /// Name, `*.suffix`, `*` or IP address, in lower case.
    pub host: String,
}

/// The namespaces admitted by a [`ServerHost`].
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum HostNamespace {
    /// Every namespace (`*/`, or no namespace written).
    #[default]
    Any,
    /// The Gateway's own (`./`).
    Own,
    /// This one.
    Named(String),
}

impl Decode for ServerHost {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        let text = String::decode(node, at, context);
        let (namespace, host) = text.split_once('/').unwrap_or(("*", &text));
        let expected =
            "a host name with a dot, `*.suffix`, `*` or an IP address, after an optional `namespace/`";
        let namespace = match namespace {
            "*" => HostNamespace::Any,
            "." => HostNamespace::Own,
            name if host::is_namespace(name) => HostNamespace::Named(name.to_owned()),
            _ => {
                let problem = Problem::new("names no namespace").found(&text);
                context.error(at, problem.expected("`name/host`, `./host`, `*/host` or `host`"));
                HostNamespace::Any
            }
        };
        let wrong = match host::check_wildcard_host(host) {
            Ok(()) if host::is_short(host) => Some("is a short name"),
            Ok(()) => None,
            Err(wrong) => Some(wrong),
        };
        if let Some(wrong) = wrong.filter(|_| !text.is_empty() || !context.refused) {
            context.error(at, Problem::new(wrong).found(&text).expected(expected));
        }
        Self { namespace, host: host.to_ascii_lowercase() }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{findings, gateway};

    fn server(fields: &str) -> String {
        let body = fields.replace('\n', "\n    ");
        format!(
            "kind: Gateway\nmetadata: {{name: gw}}\napiVersion: networking.istio.io/v1\nspec:\n  servers:\n  - {body}\n"
        )
    }

    const PORT: &str = "port: {number: 80, name: http, protocol: HTTP}";

    fn one(fields: &str) -> String {
        let findings = findings(&server(fields));
        assert_eq!(findings.len(), 1, "{findings:#?}");
        findings[0].strip_prefix("test.yaml:").unwrap().replace("Gateway default/gw: spec.servers[0]", "")
    }

    #[test]
    fn hosts_carry_the_namespaces_they_admit() {
        let text =
            server(&format!("{PORT}\nhosts: ['*', '*/a.com', ./B.com, 'prod/*.c.com', 10.0.0.1, 'fd00::1']"));
        let hosts: Vec<_> =
            gateway(&text).servers[0].hosts.iter().map(|h| format!("{:?} {}", h.namespace, h.host)).collect();
        let expected =
            ["Any *", "Any a.com", "Own b.com", "Named(\"prod\") *.c.com", "Any 10.0.0.1", "Any fd00::1"];
        assert_eq!(hosts, expected);
    }

    #[test]
    fn malformed_hosts_are_refused() {
        let expected = "expected a host name with a dot, `*.suffix`, `*` or an IP address, after an optional `namespace/`";
        let cases = [
            ("web", "is a short name"),
            ("*web.com", "is a partial wildcard"),
            ("foo.*.bar", "has a wildcard that is not at its beginning"),
        ];
        for (host, wrong) in cases {
            assert_eq!(
                one(&format!("{PORT}\nhosts: ['{host}']")),
                format!("7:13: .hosts[0]: {wrong} (found `{host}`; {expected})")
            );
        }
        assert!(one(&format!("{PORT}\nhosts: ['~/a.com']")).contains("names no namespace (found `~/a.com`"));
        assert_eq!(
            one(&format!("{PORT}\nhosts: []")),
            "7:5: .hosts: is empty (expected at least one host, or `*`)"
        );
    }

    #[test]
    fn ports_are_complete_and_in_range() {
        let hosts = "hosts: ['*']";
        let port = |fields: &str| one(&format!("port: {{{fields}}}\n{hosts}"));
        assert_eq!(port("number: 80, protocol: HTTP"), "6:5: .port.name: is missing");
        assert!(
            port("number: 70000, name: a, protocol: HTTP")
                .ends_with("is out of range (found `70000`; expected 1–65535)")
        );
        assert!(
            port("number: 0, name: a, protocol: HTTP")
                .ends_with("is out of range (found `0`; expected 1–65535)")
        );
        assert!(port("number: '80', name: a, protocol: HTTP").ends_with("remove the quotes)"));
        assert!(
            port("number: eighty, name: a, protocol: HTTP").contains("has the wrong type (found `eighty`")
        );
        assert!(port("number: 80, name: a, protocol: HTPP").ends_with("did you mean `HTTP`?)"));
        assert!(port("number: 80, name: a, protocol: HTTP, targetPort: 8080").contains("targetPort"));
        assert_eq!(one(hosts), "6:5: .port: is missing");
    }

    #[test]
    fn binds_are_addresses_or_unix_paths() {
        assert!(one(&format!("{PORT}\nhosts: ['*']\nbind: eth0")).contains("is no address to listen on"));
        assert!(one(&format!("{PORT}\nhosts: ['*']\nbind: unix:///a")).contains("a unix socket has no port"));
        let unix = server("port: {number: 0, name: a, protocol: HTTP}\nhosts: ['*']\nbind: unix://@a");
        assert_eq!(gateway(&unix).servers[0].bind.as_deref(), Some("unix://@a"));
    }

    #[test]
    fn tls_stands_where_it_has_a_meaning() {
        let with = |protocol: &str, tls: &str| {
            format!("port: {{number: 443, name: a, protocol: {protocol}}}\nhosts: ['*']\n{tls}")
        };
        assert!(one(&with("HTTPS", "")).contains(".tls: is missing on a port of protocol HTTPS"));
        assert!(
            one(&with("TCP", "tls: {mode: PASSTHROUGH}"))
                .contains("has no meaning on a port of protocol TCP")
        );
        assert!(
            one(&with("HTTP", "tls: {mode: SIMPLE, credentialName: a}"))
                .contains("holds more than `httpsRedirect`")
        );
        assert!(
            gateway(&server(&with("HTTP", "tls: {httpsRedirect: true}"))).servers[0]
                .tls
                .as_ref()
                .unwrap()
                .https_redirect
        );
    }

    #[test]
    fn servers_of_one_gateway_have_names_of_their_own() {
        let text = server(&format!("{PORT}\nhosts: ['*']"))
            + "  - port: {number: 81, name: http, protocol: HTTP}\n    hosts: ['*']\n";
        let findings = findings(&text);
        assert_eq!(findings.len(), 1);
        assert!(
            findings[0].contains("spec.servers[1].port.name: is used by an earlier server"),
            "{findings:?}"
        );
    }

    #[test]
    fn a_misnamed_list_is_one_message() {
        let text = server(PORT).replace("servers:", "apps:");
        let expected = "test.yaml:5:3: Gateway default/gw: spec.servers: field `servers` is missing and there is no field \
                        `apps` (found `apps`; expected `servers`; rename it if that is what is meant)";
        assert_eq!(findings(&text), [expected]);
    }
}
