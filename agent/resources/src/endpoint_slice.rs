//! Kubernetes EndpointSlice: addresses that serve a Service.

use std::{net::IpAddr, str::FromStr};

use crate::{
    IpProtocol, Path,
    decode::{Context, Decode, Fields, PortNumber, Shape, word},
    finding::{Problem, Rule},
    yaml::Node,
};

/// Label that names the Service an EndpointSlice belongs to.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// Contents of an EndpointSlice. The Service it belongs to stands in its label [`SERVICE_NAME_LABEL`].
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct EndpointSlice {
    /// Family of the addresses.
    pub address_type: AddressType,
    /// The addresses.
    pub endpoints: Vec<SliceEndpoint>,
    /// The ports every address serves.
    pub ports: Vec<EndpointPort>,
}

impl Shape for EndpointSlice {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        fields.ignore(&["apiVersion", "kind", "metadata"]);
        Self {
            address_type: fields.required("addressType"),
            endpoints: fields.or_default("endpoints"),
            ports: fields.or_default("ports"),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        let list = at.field("endpoints");
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            let at = list.index(index);
            if endpoint.has_names && self.address_type != AddressType::Fqdn {
                let problem = Problem::new("hold a name").expected("IP addresses, or `addressType: FQDN`");
                context.error(&at.field("addresses"), problem);
            }
            if endpoint.addresses.iter().any(|address| !self.address_type.holds(*address)) {
                let problem = Problem::new("hold an address of another family than `addressType`");
                context.error(&at.field("addresses"), problem.remedy("use one EndpointSlice per family"));
            }
        }
        if self.address_type == AddressType::Fqdn {
            let problem = Problem::new("is not supported yet: its endpoints are left out").found("FQDN");
            let problem = problem.expected("`IPv4` or `IPv6`");
            context.warning(Rule::NotSupported, &at.field("addressType"), problem);
        }
    }
}

/// Family of the addresses of an EndpointSlice.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum AddressType {
    /// IPv4.
    #[default]
    Ipv4,
    /// IPv6.
    Ipv6,
    /// Names; no addresses are read.
    Fqdn,
}

impl AddressType {
    fn holds(self, address: IpAddr) -> bool {
        match self {
            Self::Ipv4 => address.is_ipv4(),
            Self::Ipv6 => address.is_ipv6(),
            Self::Fqdn => true,
        }
    }
}

impl FromStr for AddressType {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "IPv4" => Ok(Self::Ipv4),
            "IPv6" => Ok(Self::Ipv6),
            "FQDN" => Ok(Self::Fqdn),
            _ => Err(()),
        }
    }
}

impl Decode for AddressType {
    const FORM: &'static str = "`IPv4`, `IPv6` or `FQDN`";

    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        word(node, &["IPv4", "IPv6", "FQDN"], at, context)
    }
}

/// One endpoint of a slice.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SliceEndpoint {
    /// Its addresses; all lead to the same pod.
    pub addresses: Vec<IpAddr>,
    /// Whether names, which are not read, stand among its addresses.
    has_names: bool,
    /// Whether it takes new connections; absent in the resource means yes.
    pub ready: bool,
    /// Whether it serves, ready or shutting down; absent means as `ready`.
    pub serving: bool,
    /// Whether it is shutting down.
    pub terminating: bool,
    /// Zone it runs in.
    pub zone: Option<String>,
    /// Node it runs on (`nodeName`).
    pub node: Option<String>,
    /// Its own name below that of a headless Service.
    pub hostname: Option<String>,
}

impl Shape for SliceEndpoint {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        fields.ignore(&["targetRef", "hints", "deprecatedTopology"]);
        let addresses: Vec<Address> = fields.required("addresses");
        let Conditions { ready, serving, terminating } = fields.or_default("conditions");
        let ready = ready.unwrap_or(true);
        Self {
            has_names: addresses.iter().any(|address| address.is_name),
            addresses: addresses.into_iter().filter_map(|address| address.ip).collect(),
            ready,
            serving: serving.unwrap_or(ready),
            terminating: terminating.unwrap_or(false),
            zone: fields.optional("zone"),
            node: fields.optional("nodeName"),
            hostname: fields.optional("hostname"),
        }
    }
}

/// `EndpointConditions`, each of which may be unknown.
#[derive(Default)]
struct Conditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

impl Shape for Conditions {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self {
            ready: fields.optional("ready"),
            serving: fields.optional("serving"),
            terminating: fields.optional("terminating"),
        }
    }
}

/// An IP address; names (of slices of type FQDN) are read as none.
#[derive(Default)]
pub(crate) struct Address {
    pub(crate) ip: Option<IpAddr>,
    is_name: bool,
}

impl Decode for Address {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        let text = String::decode(node, at, context);
        let ip = text.parse().ok();
        let is_name = text.contains(|c: char| c.is_ascii_alphabetic()) && !text.contains(':');
        if ip.is_none() && !is_name && !text.is_empty() {
            context.error(at, Problem::new("is no IP address").found(&text).expected("such as `10.0.0.1`"));
        }
        Self { ip, is_name }
    }
}

/// A port of a slice or of Endpoints.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct EndpointPort {
    /// Name of the Service port it stands for; empty when that has none.
    pub name: String,
    /// Port of the pods; absent means every port, which no Service uses.
    pub port: Option<u16>,
    /// Transport.
    pub protocol: IpProtocol,
}

impl Shape for EndpointPort {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        fields.ignore(&["appProtocol"]);
        let port: Option<PortNumber> = fields.optional("port");
        Self {
            name: fields.or_default("name"),
            port: port.map(PortNumber::get),
            protocol: fields.or_default("protocol"),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Resource, testing};

    fn text(contents: &str) -> String {
        format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: web-1}}\n{contents}\n"
        )
    }

    #[test]
    fn absent_conditions_mean_ready() {
        let contents = "addressType: IPv4\nports: [{name: http, port: 8080}]\nendpoints:\n- addresses: [10.0.0.1]\n\
                        - addresses: [10.0.0.2]\n  conditions: {ready: false}\n\
                        - addresses: [10.0.0.3]\n  conditions: {ready: false, serving: true, terminating: true}\n";
        let Resource::EndpointSlice(slice) = testing::valid(&text(contents)) else {
            panic!("no EndpointSlice")
        };
        let conditions: Vec<_> =
            slice.spec.endpoints.iter().map(|e| (e.ready, e.serving, e.terminating)).collect();
        assert_eq!(conditions, [(true, true, false), (false, false, false), (false, true, true)]);
        assert_eq!(slice.spec.ports[0].port, Some(8080));
    }

    #[test]
    fn bad_addresses_are_refused() {
        for (contents, wrong) in [
            (
                "addressType: IPv4\nendpoints: [{addresses: [10.0.0.300]}]",
                "endpoints[0].addresses[0]: is no IP address",
            ),
            (
                "addressType: IPv4\nendpoints: [{addresses: ['fd00::1']}]",
                "endpoints[0].addresses: hold an address of another",
            ),
            (
                "addressType: IPv4\nendpoints: [{addresses: [a.com]}]",
                "endpoints[0].addresses: hold a name (expected IP addresses",
            ),
            ("addressType: ipv4", "did you mean `IPv4`?"),
            ("addressType: IPv4\nports: [{port: 0}]", "ports[0].port: is out of range"),
            ("addressType: FQDN\nendpoints: [{addresses: [a.com]}]", "addressType: is not supported yet"),
            ("endpoints: []", "addressType: is missing"),
        ] {
            let findings = testing::findings(&text(contents));
            assert_eq!(findings.len(), 1, "{contents}: {findings:#?}");
            assert!(findings[0].contains(wrong), "{contents}: {findings:#?}");
        }
    }
}
