//! `networking.istio.io` WorkloadEntry: an endpoint that is no pod; also the endpoints of a ServiceEntry.

use std::{collections::BTreeMap, net::IpAddr};

use crate::{
    Labels, Path,
    decode::{Context, Decode, Fields, PortNumber, Shape},
    finding::{Problem, Rule},
    host,
    labels::check_labels,
    unix_socket,
    yaml::Node,
};

/// Spec of a WorkloadEntry.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct WorkloadEntry {
    /// Where it is; absent for a workload of another network, which is reached through that network's gateway.
    pub address: Option<WorkloadAddress>,
    /// Ports by the name of the service's port, where they differ from what the service says.
    pub ports: BTreeMap<String, u16>,
    /// Labels, as a pod's.
    pub labels: Labels,
    /// Network it is in.
    pub network: Option<String>,
    /// `region/zone/subzone`, from the left as far as it is known.
    pub locality: Option<String>,
    /// Share of the traffic relative to the other endpoints; 1 when absent or zero.
    pub weight: Option<u32>,
    /// Service account it runs as.
    pub service_account: Option<String>,
}

impl Shape for WorkloadEntry {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let address: Option<MaybeAddress> = fields.optional("address");
        let ports: BTreeMap<String, PortNumber> = fields.or_default("ports");
        Self {
            address: address.and_then(|address| address.0),
            ports: ports.into_iter().map(|(name, port)| (name, port.get())).collect(),
            labels: fields.or_default("labels"),
            network: fields.unused("network"),
            locality: fields.optional("locality"),
            weight: fields.optional("weight"),
            service_account: fields.optional("serviceAccount"),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        self.check_address(at, context);
        let ports = at.field("ports");
        for name in self.ports.keys().filter(|name| !host::is_label(name)) {
            let problem = Problem::new("is not a port name").found(name);
            context.error(&ports.key(name), problem.expected("letters, digits and `-`"));
        }
        check_labels(&self.labels, &at.field("labels"), context);
    }
}

impl WorkloadEntry {
    fn check_address(&self, at: &Path<'_>, context: &mut Context<'_>) {
        let address = at.field("address");
        match (&self.address, &self.network) {
            (None, None) => {
                let problem =
                    Problem::new("is missing").expected("an IP address, a host name or `unix://` and a path");
                context.error(&address, problem);
            }
            (None, Some(_)) => {
                let problem =
                    Problem::new("is missing, so the workload is reached through its network's gateway only");
                context.warning(
                    Rule::Invalid,
                    &address,
                    problem.remedy("give it an `address` to reach it directly"),
                );
            }
            (Some(WorkloadAddress::Unix(path)), _) if !self.ports.is_empty() => {
                let problem = Problem::new("is written for a unix socket, which has no ports").found(path);
                context.error(&at.field("ports"), problem.remedy("remove it"));
            }
            _ => {}
        }
    }
}

/// Where a workload is.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum WorkloadAddress {
    /// At this address.
    Ip(IpAddr),
    /// At the addresses of this name, in lower case.
    Name(String),
    /// At this unix socket: an absolute path, or `@` and an abstract name.
    Unix(String),
}

impl WorkloadAddress {
    /// Reads an address, a host name or `unix://` and a path.
    ///
    /// # Errors
    ///
    /// What is wrong with the text.
    fn parse(text: &str) -> Result<Self, Problem> {
        if let Some(path) = unix_socket::path_of(text) {
            return path.map(|path| Self::Unix(path.to_owned()));
        }
        match text.parse() {
            Ok(address) => Ok(Self::Ip(address)),
            Err(_) if host::is_dns_name(text) && !host::looks_like_address(text) => {
                Ok(Self::Name(text.to_ascii_lowercase()))
            }
            Err(_) => {
                let problem = Problem::new("is no address").found(text);
                Err(problem.expected(format!("an IP address, a host name, or {}", unix_socket::FORM)))
            }
        }
    }
}

/// An address as written; empty text is none.
#[derive(Default)]
struct MaybeAddress(Option<WorkloadAddress>);

impl Decode for MaybeAddress {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        let text = String::decode(node, at, context);
        if text.is_empty() {
            return Self(None);
        }
        Self(WorkloadAddress::parse(&text).map_err(|problem| context.error(at, problem)).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Resource, testing};

    fn text(spec: &str) -> String {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: vm}}\nspec: {spec}\n"
        )
    }

    #[test]
    fn every_field_is_read() {
        let spec = "{address: 10.0.0.9, ports: {http: 8080}, labels: {app: web}, network: n1, \
                    locality: eu/a, weight: 3, serviceAccount: web}";
        let Resource::WorkloadEntry(entry) = testing::valid(&text(spec)) else { panic!() };
        let expected = WorkloadEntry {
            address: Some(WorkloadAddress::Ip([10, 0, 0, 9].into())),
            ports: BTreeMap::from([("http".to_owned(), 8080)]),
            labels: Labels::from([("app".to_owned(), "web".to_owned())]),
            network: Some("n1".to_owned()),
            locality: Some("eu/a".to_owned()),
            weight: Some(3),
            service_account: Some("web".to_owned()),
        };
        assert_eq!(entry.spec, expected);
    }

    #[test]
    fn addresses_are_told_apart() {
        for (text, expected) in [
            ("fd00::1", Ok(WorkloadAddress::Ip("fd00::1".parse().unwrap()))),
            ("VM.example.com", Ok(WorkloadAddress::Name("vm.example.com".to_owned()))),
            ("unix:///run/a.sock", Ok(WorkloadAddress::Unix("/run/a.sock".to_owned()))),
            ("unix://@a", Ok(WorkloadAddress::Unix("@a".to_owned()))),
            ("unix://run/a.sock", Err("is no path of a unix socket (found `unix://run/a.sock`")),
            ("10.0.0.300", Err("is no address (found `10.0.0.300`")),
            ("*.a.com", Err("is no address (found `*.a.com`")),
        ] {
            match (WorkloadAddress::parse(text), expected) {
                (Err(problem), Err(wrong)) => assert!(problem.to_string().starts_with(wrong), "{problem}"),
                (parsed, expected) => assert_eq!(parsed.ok(), expected.ok(), "{text}"),
            }
        }
    }

    #[test]
    fn mistakes_are_one_message_each() {
        testing::assert_complaints(
            &[
                ("{}", "spec.address: is missing (expected an IP address"),
                ("{network: n1}", "spec.address: is missing, so the workload is reached through"),
                ("{address: 'a b'}", "spec.address: is no address (found `a b`"),
                ("{address: 'unix://a'}", "spec.address: is no path of a unix socket"),
                ("{address: 'unix:///a', ports: {a: 1}}", "spec.ports: is written for a unix socket"),
                ("{address: 10.0.0.1, ports: {a: 0}}", "spec.ports[a]: is out of range (found `0`"),
                ("{address: 10.0.0.1, ports: {a: 65536}}", "spec.ports[a]: is out of range"),
                ("{address: 10.0.0.1, ports: {'a b': 1}}", "spec.ports[a b]: is not a port name"),
                ("{address: 10.0.0.1, labels: {'a b': c}}", "spec.labels[a b]: is not a label name"),
                ("{address: 10.0.0.1, netwrk: n}", "did you mean `network`?"),
            ],
            text,
        );
    }
}
