//! `networking.istio.io` ServiceEntry: a service that Kubernetes does not know.

mod check;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use ipnet::IpNet;

use crate::{
    IpProtocol, Labels, Path, Protocol, WorkloadEntry,
    decode::{Context, Decode, Fields, PortNumber, Shape, word_of},
    finding::{Problem, Rule},
    host,
    labels::check_labels,
    service,
    yaml::Node,
};

/// Spec of a ServiceEntry.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ServiceEntry {
    /// Names of the service, in lower case; names or `*.suffix`, at least one.
    pub hosts: Vec<String>,
    /// Virtual addresses; a single address is a network of its full length.
    pub addresses: Vec<IpNet>,
    /// Ports.
    pub ports: Vec<ServiceEntryPort>,
    /// Whether the service belongs to the mesh.
    pub location: Location,
    /// How endpoints are found.
    pub resolution: Resolution,
    /// Endpoints written here.
    pub endpoints: Vec<WorkloadEntry>,
    /// Labels of the pods and WorkloadEntries behind the service (`workloadSelector.labels`).
    pub workload_selector: Option<Labels>,
    /// Namespaces that see the service; empty means all, `~` none.
    pub export_to: Vec<String>,
    /// Names of which the endpoints' certificates must carry one.
    pub subject_alt_names: Vec<String>,
    /// Addresses that the control plane has given to hosts, where `addresses` is empty (`status.addresses`).
    pub allocated: Vec<(String, IpAddr)>,
}

impl Shape for ServiceEntry {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let hosts: Vec<EntryHost> = fields.required("hosts");
        let addresses: Vec<EntryAddress> = fields.or_default("addresses");
        let selector: Option<EntrySelector> = fields.optional("workloadSelector");
        Self {
            hosts: hosts.into_iter().map(|host| host.0).collect(),
            addresses: addresses.into_iter().filter_map(|address| address.0).collect(),
            ports: fields.or_default("ports"),
            location: fields.or_default("location"),
            resolution: fields.or_default("resolution"),
            endpoints: fields.or_default("endpoints"),
            workload_selector: selector.map(|selector| selector.0),
            export_to: fields.or_default("exportTo"),
            subject_alt_names: fields.or_default("subjectAltNames"),
            allocated: Vec::new(),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        check::check(self, at, context);
    }
}

/// The whole resource: what its author has written, and what the control plane has.
#[derive(Default)]
pub(crate) struct WholeServiceEntry(pub(crate) ServiceEntry);

impl Shape for WholeServiceEntry {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        fields.ignore(&["apiVersion", "kind", "metadata"]);
        let spec: ServiceEntry = fields.required("spec");
        let EntryStatus(allocated) = fields.or_default("status");
        Self(ServiceEntry { allocated, ..spec })
    }
}

#[derive(Default)]
struct EntryStatus(Vec<(String, IpAddr)>);

impl Shape for EntryStatus {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        fields.ignore_rest();
        let addresses: Vec<Allocated> = fields.or_default("addresses");
        // Nobody's mistake that its author could mend: what is no address is not there.
        let parsed =
            |Allocated { host, value }: Allocated| Some((host.to_ascii_lowercase(), value.parse().ok()?));
        Self(addresses.into_iter().filter_map(parsed).collect())
    }
}

/// `ServiceEntryAddress`.
#[derive(Default)]
struct Allocated {
    host: String,
    value: String,
}

impl Shape for Allocated {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        fields.ignore_rest();
        Self { host: fields.or_default("host"), value: fields.or_default("value") }
    }
}

/// A port of a ServiceEntry (`ServicePort`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ServiceEntryPort {
    /// Port that clients use.
    pub number: u16,
    /// Name, unique within the ServiceEntry.
    pub name: String,
    /// Transport: UDP when `protocol` says so.
    pub transport: IpProtocol,
    /// What is spoken there, as `protocol` says.
    pub protocol: Option<Protocol>,
    /// Port of the endpoints; absent means `number`.
    pub target_port: Option<u16>,
}

impl ServiceEntryPort {
    /// What is spoken there by Istio's rules: `protocol`, else as of a Service port of this name and number; `None`
    /// means it is detected from the first bytes.
    pub fn application_protocol(&self) -> Option<Protocol> {
        self.protocol.or_else(|| service::protocol_of(&self.name, self.number))
    }
}

impl Shape for ServiceEntryPort {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let number: PortNumber = fields.required("number");
        let (transport, protocol) = match fields.optional("protocol") {
            Some(EntryProtocol::Udp) => (IpProtocol::Udp, None),
            Some(EntryProtocol::Tcp(protocol)) => (IpProtocol::Tcp, protocol),
            None => (IpProtocol::Tcp, None),
        };
        let target_port: Option<PortNumber> = fields.optional("targetPort");
        Self {
            number: number.get(),
            name: fields.required("name"),
            transport,
            protocol,
            target_port: target_port.map(PortNumber::get),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        if !host::is_label(&self.name) {
            let problem = Problem::new("is not a port name").found(&self.name);
            context.error(&at.field("name"), problem.expected("letters, digits and `-`"));
        }
    }
}

/// `protocol`: what a Gateway's port may say, or UDP; empty means it is not said.
enum EntryProtocol {
    Udp,
    Tcp(Option<Protocol>),
}

impl Default for EntryProtocol {
    fn default() -> Self {
        Self::Tcp(None)
    }
}

impl Decode for EntryProtocol {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        match node.text() {
            Some("") => Self::Tcp(None),
            Some(text) if text.eq_ignore_ascii_case("UDP") => Self::Udp,
            _ => Self::Tcp(Some(Protocol::decode(node, at, context))),
        }
    }
}

/// Whether a service belongs to the mesh (`ServiceEntry.Location`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Location {
    /// Outside: no mutual TLS of the mesh.
    #[default]
    MeshExternal,
    /// Inside.
    MeshInternal,
}

impl Decode for Location {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        let words = [("MESH_EXTERNAL", Self::MeshExternal), ("MESH_INTERNAL", Self::MeshInternal)];
        word_of(node, &words, at, context)
    }
}

/// How the endpoints of a service are found (`ServiceEntry.Resolution`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Resolution {
    /// Not at all: connections go to the address they were going to.
    #[default]
    None,
    /// They are written down.
    Static,
    /// By name; every address is an endpoint.
    Dns,
    /// By name, anew for each connection; the first address is the endpoint.
    DnsRoundRobin,
    /// By the name each request or connection asks for.
    DynamicDns,
}

impl Resolution {
    const NAMES: [(&'static str, Self); 5] = [
        ("NONE", Self::None),
        ("STATIC", Self::Static),
        ("DNS", Self::Dns),
        ("DNS_ROUND_ROBIN", Self::DnsRoundRobin),
        ("DYNAMIC_DNS", Self::DynamicDns),
    ];

    /// The resolution as Istio spells it.
    pub fn name(self) -> &'static str {
        Self::NAMES.into_iter().find(|(_, resolution)| *resolution == self).map_or("", |(name, _)| name)
    }
}

impl Decode for Resolution {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        word_of(node, &Self::NAMES, at, context)
    }
}

#[derive(Default)]
struct EntryHost(String);

impl Decode for EntryHost {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        let text = String::decode(node, at, context).to_ascii_lowercase();
        let expected = "a host name or `*.suffix`";
        match host::check_wildcard_host(&text) {
            Ok(()) if text == "*" => {
                context.error(at, Problem::new("is too wide").found(&text).expected(expected));
            }
            Ok(()) => {}
            Err("is a partial wildcard") => {
                let problem =
                    Problem::new("is a partial wildcard, which Istio matches by suffix").found(&text);
                context.warning(Rule::Invalid, at, problem.expected(expected));
            }
            Err(wrong) => context.error(at, Problem::new(wrong).found(&text).expected(expected)),
        }
        Self(text)
    }
}

#[derive(Default)]
struct EntryAddress(Option<IpNet>);

impl Decode for EntryAddress {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        let text = String::decode(node, at, context);
        let single = text.parse::<IpAddr>().map(IpNet::from);
        Self(single.or_else(|_| text.parse()).ok().or_else(|| {
            let problem = Problem::new("is no address").found(&text);
            context.error(at, problem.expected("an address such as `10.0.0.1`, or `10.0.0.0/8`"));
            None
        }))
    }
}

/// `workloadSelector` of a ServiceEntry or Sidecar, whose labels stand under `labels`.
#[derive(Default)]
pub(crate) struct EntrySelector(pub(crate) Labels);

impl Shape for EntrySelector {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self(fields.or_default("labels"))
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        if self.0.is_empty() {
            let problem = Problem::new("names no label, so every workload of the namespace is meant");
            context.warning(Rule::Invalid, at, problem.remedy("add `labels`, or remove the selector"));
        }
        check_labels(&self.0, &at.field("labels"), context);
    }
}
