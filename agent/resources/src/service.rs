//! Kubernetes Service: a name, its addresses and its ports.

use std::{collections::HashSet, net::IpAddr, str::FromStr};

use crate::{
    Labels, Path, Protocol,
    decode::{Context, Decode, Fields, PortNumber, Shape, word},
    finding::{Problem, Rule},
    suggest::did_you_mean,
    yaml::Node,
};

/// Spec of a Service.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Service {
    /// Labels of the pods behind it; empty when the endpoints are written by hand.
    pub selector: Labels,
    /// Ports.
    pub ports: Vec<ServicePort>,
    /// Virtual addresses; empty for a headless service or before one is assigned.
    pub cluster_ips: Vec<IpAddr>,
    /// Whether clients are meant to reach the pods themselves (`clusterIP: None`).
    pub is_headless: bool,
    /// The name it is an alias of (`type: ExternalName`).
    pub external_name: Option<String>,
    /// Whether endpoints count that are not ready.
    pub publish_not_ready_addresses: bool,
}

impl Shape for Service {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        fields.ignore(&[
            "sessionAffinity",
            "sessionAffinityConfig",
            "loadBalancerIP",
            "loadBalancerSourceRanges",
            "loadBalancerClass",
            "externalIPs",
            "externalTrafficPolicy",
            "internalTrafficPolicy",
            "healthCheckNodePort",
            "ipFamilies",
            "ipFamilyPolicy",
            "allocateLoadBalancerNodePorts",
            "trafficDistribution",
        ]);
        let kind: Option<String> = fields.optional("type");
        let first: Option<ClusterIp> = fields.optional("clusterIP");
        let all: Vec<ClusterIp> = fields.or_default("clusterIPs");
        let external_name: Option<String> = fields.optional("externalName");
        let is_headless = first.as_ref().is_some_and(|ip| ip.0.is_none());
        let mut cluster_ips: Vec<IpAddr> = first.into_iter().chain(all).filter_map(|ip| ip.0).collect();
        let mut seen = HashSet::new();
        cluster_ips.retain(|ip| seen.insert(*ip));
        if kind.as_deref() == Some("ExternalName") && external_name.as_deref().is_none_or(str::is_empty) {
            let problem = Problem::new("is missing in a Service of type ExternalName");
            fields.error("externalName", problem.expected("the name it stands for"));
        }
        Self {
            selector: fields.or_default("selector"),
            ports: fields.or_default("ports"),
            cluster_ips,
            is_headless,
            external_name: external_name.filter(|_| kind.as_deref() == Some("ExternalName")),
            publish_not_ready_addresses: fields.or_default("publishNotReadyAddresses"),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        let ports = at.field("ports");
        let (mut names, mut numbers) = (HashSet::new(), HashSet::new());
        for (index, port) in self.ports.iter().enumerate() {
            let at = ports.index(index);
            if !numbers.insert((port.port, port.protocol)) {
                let problem = Problem::new("is a port of this Service already").found(port.port);
                context.error(&at.field("port"), problem.expected("each port once"));
            }
            if self.ports.len() > 1 && port.name.is_empty() {
                let problem = Problem::new("is missing although the Service has several ports");
                context.warning(
                    Rule::Invalid,
                    &at.field("name"),
                    problem.remedy("name it, such as `http-web`"),
                );
            } else if !names.insert(&port.name) {
                let problem = Problem::new("is the name of another port").found(&port.name);
                context.error(&at.field("name"), problem.expected("a name of its own"));
            }
        }
    }
}

impl Service {
    /// Whether pods with these labels stand behind the service. A service without a selector selects none.
    pub fn selects(&self, labels: &Labels) -> bool {
        !self.selector.is_empty() && self.selector.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

/// `clusterIP`: an address, `None`, or nothing yet.
#[derive(Default)]
struct ClusterIp(Option<IpAddr>);

impl Decode for ClusterIp {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        let text = String::decode(node, at, context);
        if matches!(text.as_str(), "None" | "") {
            return Self(None);
        }
        Self(text.parse().map(Some).unwrap_or_else(|_| {
            context
                .error(at, Problem::new("is no IP address").found(&text).expected("an address, or `None`"));
            None
        }))
    }
}

/// A port of a Service.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ServicePort {
    /// Name; its beginning says the protocol (`http-web`). Empty when the only port has none.
    pub name: String,
    /// Port that clients use.
    pub port: u16,
    /// Transport.
    pub protocol: IpProtocol,
    /// Port of the pods; absent means `port`.
    pub target_port: Option<TargetPort>,
    /// What is spoken, when written.
    pub app_protocol: Option<String>,
}

impl Shape for ServicePort {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        fields.ignore(&["nodePort"]);
        let port: PortNumber = fields.required("port");
        Self {
            name: fields.or_default("name"),
            port: port.get(),
            protocol: fields.or_default("protocol"),
            target_port: fields.optional("targetPort"),
            app_protocol: fields.optional("appProtocol"),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        let detected = |problem: Problem| problem.remedy("it is detected from the first bytes");
        let known = "such as `http`, `http2`, `grpc`, `https`, `tls`, `tcp`";
        match &self.app_protocol {
            Some(text) if named(text).is_none() => {
                let problem = Problem::new("is not a known protocol").found(text).expected(known);
                context.warning(Rule::Invalid, &at.field("appProtocol"), detected(problem));
            }
            None if self.names_no_protocol() => {
                let problem = Problem::new("begins with no known protocol").found(&self.name);
                let problem = detected(problem.expected(format!("{known}, alone or before a `-`")));
                let beginning = self.name.split('-').next().unwrap_or_default();
                let meant = did_you_mean(beginning, PREFIXES);
                context.warning(Rule::Invalid, &at.field("name"), problem.perhaps_remedy(meant));
            }
            _ => {}
        }
    }
}

/// Ports on which the server speaks first, so that waiting for the client's first bytes would not end.
const SERVER_FIRST_PORTS: [u16; 4] = [25, 53, 3306, 27017];

impl ServicePort {
    /// What is spoken there by Istio's rules: `appProtocol`, else the name up to the first `-`, else TCP on ports
    /// known to be server-first; `None` means it is detected from the first bytes.
    pub fn application_protocol(&self) -> Option<Protocol> {
        protocol_of(self.app_protocol.as_deref().unwrap_or(&self.name), self.port)
    }

    fn names_no_protocol(&self) -> bool {
        // Istio's own chart calls the gateway's port of readiness so; nobody routes it.
        let is_status = self.name == "status-port";
        let is_named = self.protocol == IpProtocol::Tcp && !self.name.is_empty() && !is_status;
        is_named && self.application_protocol().is_none()
    }
}

/// What is spoken on a port by its `appProtocol` or name, and its number.
pub(crate) fn protocol_of(written: &str, port: u16) -> Option<Protocol> {
    named(written).or_else(|| SERVER_FIRST_PORTS.contains(&port).then_some(Protocol::Tcp))
}

/// The protocol that a port name or `appProtocol` begins with.
/// The words that port names usually begin with.
const PREFIXES: [&str; 7] = ["http", "http2", "https", "grpc", "grpc-web", "tls", "tcp"];

fn named(text: &str) -> Option<Protocol> {
    match text {
        "kubernetes.io/h2c" => return Some(Protocol::Http2),
        "kubernetes.io/ws" => return Some(Protocol::Http),
        "kubernetes.io/wss" => return Some(Protocol::Https),
        _ => {}
    }
    let lower = text.to_ascii_lowercase();
    if lower.starts_with("grpc-web") {
        return Some(Protocol::GrpcWeb);
    }
    lower.split('-').next().and_then(|first| first.parse().ok())
}

/// Transport of a port.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum IpProtocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP; not intercepted.
    Udp,
    /// SCTP; not intercepted.
    Sctp,
}

impl FromStr for IpProtocol {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "TCP" => Ok(Self::Tcp),
            "UDP" => Ok(Self::Udp),
            "SCTP" => Ok(Self::Sctp),
            _ => Err(()),
        }
    }
}

impl Decode for IpProtocol {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        word(node, &["TCP", "UDP", "SCTP"], at, context)
    }
}

/// Port of the pods behind a service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TargetPort {
    /// This number.
    Number(u16),
    /// The container port of this name.
    Name(String),
}

impl Default for TargetPort {
    fn default() -> Self {
        Self::Number(0)
    }
}

impl Decode for TargetPort {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        match node.text() {
            Some(text) if text.contains(|c: char| c.is_ascii_alphabetic()) => Self::Name(text.to_owned()),
            _ => Self::Number(PortNumber::decode(node, at, context).get()),
        }
    }
}

#[cfg(test)]
mod tests;
