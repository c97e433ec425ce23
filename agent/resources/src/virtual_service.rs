//! `networking.istio.io` VirtualService: where requests for a host go.

mod answer;
mod cors;
mod fault;
mod headers;
mod http;
mod http_match;
mod l4;
mod retries;
mod rewrite;
mod shadow;
mod string_match;
#[cfg(test)]
mod tests;

pub use answer::{Delegate, DirectResponse, Redirect};
pub use cors::{CorsPolicy, UnmatchedPreflights};
pub use fault::{Fault, FaultAbort, FaultDelay, GRPC_STATUS, Mirror, Percent};
pub use headers::{HeaderOperations, Headers};
pub(crate) use headers::{check_header_name, is_one_line};
pub use http::{HttpRoute, RouteDestination};
pub use http_match::HttpMatch;
pub use l4::{L4Match, TcpRoute, TlsMatch, TlsRoute};
pub use retries::{RETRY_ON, Retries};
pub use rewrite::{RegexRewrite, Rewrite};
pub use string_match::StringMatch;

use std::collections::HashSet;

use crate::{
    Path,
    decode::{Context, Decode, Fields, PortNumber, Shape, one_of},
    export_to::check_export_to,
    finding::{Problem, Rule},
    host,
    suggest::did_you_mean,
    yaml::Node,
};

/// Spec of a VirtualService.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VirtualService {
    /// Hosts the rules are for, in lower case: names, short names, `*.suffix` or `*`. Empty for a delegate.
    pub hosts: Vec<String>,
    /// Gateways the rules are for; never empty: `mesh` when none is written.
    pub gateways: Vec<GatewayRef>,
    /// Rules for HTTP.
    pub http: Vec<HttpRoute>,
    /// Rules for TLS that is not terminated.
    pub tls: Vec<TlsRoute>,
    /// Rules for opaque TCP.
    pub tcp: Vec<TcpRoute>,
    /// Namespaces that see the resource; empty means all.
    pub export_to: Vec<String>,
}

// Percentages are finite numbers, so equality is an equivalence.
impl Eq for VirtualService {}

impl Shape for VirtualService {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let Hosts(hosts) = fields.or_default("hosts");
        let mut gateways: Vec<GatewayRef> = fields.or_default("gateways");
        if gateways.is_empty() {
            gateways.push(GatewayRef::Mesh);
        }
        Self {
            hosts,
            gateways,
            http: fields.or_default("http"),
            tls: fields.or_default("tls"),
            tcp: fields.or_default("tcp"),
            export_to: fields.or_default("exportTo"),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        if self.http.is_empty() && self.tls.is_empty() && self.tcp.is_empty() {
            context
                .error(at, Problem::new("has no rules").expected("at least one of `http`, `tls` and `tcp`"));
        }
        self.check_width(at, context);
        check_export_to(&self.export_to, false, &at.field("exportTo"), context);
        self.check_server_names(at, context);
        self.check_claims(at, context);
        shadow::check(self, at, context);
        if self.is_delegate() {
            self.check_delegate(at, context);
        }
    }
}

impl VirtualService {
    /// Whether the rules are only used through other VirtualServices that delegate to this one.
    pub fn is_delegate(&self) -> bool {
        self.hosts.is_empty()
    }

    /// Whether the rules apply to calls from sidecars.
    pub fn is_for_mesh(&self) -> bool {
        self.gateways.contains(&GatewayRef::Mesh)
    }

    fn check_width(&self, at: &Path<'_>, context: &mut Context<'_>) {
        let hosts = at.field("hosts");
        for (index, host) in self.hosts.iter().enumerate() {
            if host == "*" && self.is_for_mesh() {
                let problem = Problem::new("is too wide for calls inside the mesh").found(host);
                let remedy = "name hosts, or list the `gateways` the rules are for";
                context.error(&hosts.index(index), problem.remedy(remedy));
            }
        }
    }

    /// Connections reach a rule by the hosts of the resource, so another name would never do.
    fn check_server_names(&self, at: &Path<'_>, context: &mut Context<'_>) {
        let tls = at.field("tls");
        let hosts: HashSet<&str> = self.hosts.iter().map(String::as_str).collect();
        for (rule_index, rule) in self.tls.iter().enumerate().filter(|_| !self.is_delegate()) {
            let rule_at = tls.index(rule_index);
            let matches = rule_at.field("match");
            for (index, condition) in rule.matches.iter().enumerate() {
                let match_at = matches.index(index);
                let names = match_at.field("sniHosts");
                for (index, name) in condition.sni_hosts.iter().enumerate() {
                    let is_address = name.parse::<std::net::IpAddr>().is_ok();
                    if is_address {
                        let problem = Problem::new("is an address, which clients do not send as server name");
                        let problem = problem.found(name).expected("a host name");
                        context.warning(Rule::Invalid, &names.index(index), problem);
                    } else if !host::is_covered(name, &hosts) {
                        let problem = Problem::new("is within none of the hosts").found(name);
                        context.error(
                            &names.index(index),
                            problem.remedy("add it to `hosts`, or remove it here"),
                        );
                    }
                }
            }
        }
    }

    /// Sidecars verify no tokens on the way out.
    fn check_claims(&self, at: &Path<'_>, context: &mut Context<'_>) {
        let http = at.field("http");
        for (rule_index, rule) in self.http.iter().enumerate() {
            let rule_at = http.index(rule_index);
            let matches = rule_at.field("match");
            for (index, condition) in rule.matches.iter().enumerate().filter(|(_, m)| m.reads_claims()) {
                let gateways =
                    if condition.gateways.is_empty() { &self.gateways } else { &condition.gateways };
                if gateways.contains(&GatewayRef::Mesh) {
                    let problem = Problem::new("asks for claims of a token, which only gateways look at");
                    let remedy = "list the `gateways` it is for, without `mesh`";
                    context.error(&matches.index(index), problem.remedy(remedy));
                }
            }
        }
    }

    fn check_delegate(&self, at: &Path<'_>, context: &mut Context<'_>) {
        let written_gateways = self.gateways != [GatewayRef::Mesh];
        let wrong =
            [(written_gateways, "gateways"), (!self.tls.is_empty(), "tls"), (!self.tcp.is_empty(), "tcp")];
        for (_, field) in wrong.into_iter().filter(|(written, _)| *written) {
            let problem = Problem::new("has no meaning in a VirtualService without hosts");
            context.error(&at.field(field), problem.remedy("add `hosts`, or remove it from the delegate"));
        }
    }
}

const MOST_COMPARED: usize = 1_000;

/// The hosts, looked at for themselves: whatever else is wrong, one that is there twice is told.
#[derive(Default)]
struct Hosts(Vec<String>);

impl Decode for Hosts {
    const FORM: &'static str = Vec::<VirtualServiceHost>::FORM;

    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        let hosts: Vec<VirtualServiceHost> = Decode::decode(node, at, context);
        let hosts: Vec<String> = hosts.into_iter().map(|host| host.0).collect();
        for (index, host) in hosts.iter().enumerate() {
            // Pairs are compared only in lists that a person could have written.
            let mut earlier = hosts[..index].iter().take(MOST_COMPARED);
            let problem = match earlier.find(|other| host::overlap(host, other)) {
                None => continue,
                Some(other) if other == host => {
                    Problem::new("is written twice").found(host).remedy("remove one of the two")
                }
                Some(other) => Problem::new("overlaps another host of this VirtualService")
                    .found(host)
                    .remedy(format!("keep only one of `{other}` and `{host}`")),
            };
            context.error(&at.index(index), problem);
        }
        Self(hosts)
    }
}

/// A host as written, in lower case.
#[derive(Default)]
struct VirtualServiceHost(String);

impl Decode for VirtualServiceHost {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        let text = String::decode(node, at, context);
        if let Err(wrong) = host::check_wildcard_host(&text) {
            let problem = Problem::new(wrong).found(&text);
            context.error(at, problem.expected("a host name, `*.suffix`, `*` or an IP address"));
        }
        Self(text.to_ascii_lowercase())
    }
}

/// A gateway named by a VirtualService.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum GatewayRef {
    /// All sidecars (`mesh`).
    #[default]
    Mesh,
    /// A Gateway resource.
    Named {
        /// Namespace of the Gateway.
        namespace: String,
        /// Name of the Gateway.
        name: String,
    },
}

impl Decode for GatewayRef {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        let text = String::decode(node, at, context);
        if text == "mesh" {
            return Self::Mesh;
        }
        let (namespace, name) = match (text.split_once('/'), text.split_once('.')) {
            (Some((".", name)), _) => (context.namespace().to_owned(), name),
            (Some((namespace, name)), _) => (namespace.to_owned(), name),
            (None, Some((name, rest))) => {
                let namespace = rest.split('.').next().unwrap_or_default().to_owned();
                let remedy = format!("write `{namespace}/{name}`");
                context.warning(
                    Rule::Deprecated,
                    at,
                    Problem::new("names a Gateway by an old form").found(&text).remedy(remedy),
                );
                (namespace, name)
            }
            (None, None) => (context.namespace().to_owned(), text.as_str()),
        };
        if !host::is_label(name) || !host::is_namespace(&namespace) {
            let problem = Problem::new("names no Gateway").found(&text);
            context.error(at, problem.expected("`name`, `namespace/name` or `mesh`"));
        }
        Self::Named { namespace, name: name.to_owned() }
    }
}

impl std::fmt::Display for GatewayRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Mesh => f.write_str("mesh"),
            Self::Named { namespace, name } => write!(f, "{namespace}/{name}"),
        }
    }
}

/// A service that requests or connections are sent to (`Destination`).
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Destination {
    /// Service name, short or full, in lower case.
    pub host: String,
    /// Subset of a DestinationRule.
    pub subset: Option<String>,
    /// Port of the service; may be left out when it has only one.
    pub port: Option<u16>,
}

impl Shape for Destination {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let host: String = fields.required("host");
        let port: Option<PortSelector> = fields.optional("port");
        Self {
            host: host.to_ascii_lowercase(),
            subset: fields.optional("subset"),
            port: port.map(|port| port.0),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        let wrong = match host::check_wildcard_host(&self.host) {
            Ok(()) if self.host == "*" => Some("is a wildcard"),
            Ok(()) => None,
            Err(wrong) => Some(wrong),
        };
        if let Some(wrong) = wrong {
            let problem = Problem::new(wrong).found(&self.host).expected("the name of a service");
            context.error(&at.field("host"), problem);
        }
        if let Some(subset) = self.subset.as_ref().filter(|subset| !host::is_label(subset)) {
            let problem = Problem::new("is not a subset name").found(subset);
            context.error(&at.field("subset"), problem.expected("letters, digits and `-`"));
        }
    }
}

/// `PortSelector`: an object for the sake of a port name that was never implemented.
#[derive(Default)]
pub(crate) struct PortSelector(pub(crate) u16);

impl Shape for PortSelector {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let number: PortNumber = fields.required("number");
        Self(number.get())
    }
}

fn check_one_of(word: Option<&str>, words: &[&'static str], at: &Path<'_>, context: &mut Context<'_>) {
    if let Some(word) = word.filter(|word| !words.contains(word)) {
        let problem = Problem::new("is not a known word").found(word).expected(one_of(words));
        context.error(at, problem.perhaps_remedy(did_you_mean(word, words.iter().copied())));
    }
}

fn check_status(status: u32, range: std::ops::RangeInclusive<u32>, at: &Path<'_>, context: &mut Context<'_>) {
    if !range.contains(&status) {
        let problem = Problem::new("is no status code that can be sent").found(status);
        context.error(at, problem.expected(format!("{}–{}", range.start(), range.end())));
    }
}
