//! Kubernetes Endpoints: the older form of EndpointSlice. Its name is the Service's.

use std::net::IpAddr;

use crate::{
    Path,
    decode::{Context, Fields, Shape},
    endpoint_slice::{Address, EndpointPort},
    finding::Problem,
};

/// Contents of an Endpoints resource.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Endpoints {
    /// Addresses with the ports they serve.
    pub subsets: Vec<EndpointSubset>,
}

impl Shape for Endpoints {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        fields.ignore(&["apiVersion", "kind", "metadata"]);
        Self { subsets: fields.or_default("subsets") }
    }
}

/// Every address serves every port.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct EndpointSubset {
    /// Addresses that take connections.
    pub addresses: Vec<IpAddr>,
    /// Addresses that do not.
    pub not_ready_addresses: Vec<IpAddr>,
    /// Ports.
    pub ports: Vec<EndpointPort>,
}

impl Shape for EndpointSubset {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let ready: Vec<EndpointAddress> = fields.or_default("addresses");
        let not_ready: Vec<EndpointAddress> = fields.or_default("notReadyAddresses");
        let addresses =
            |list: Vec<EndpointAddress>| list.into_iter().filter_map(|address| address.0).collect();
        Self {
            addresses: addresses(ready),
            not_ready_addresses: addresses(not_ready),
            ports: fields.or_default("ports"),
        }
    }
}

#[derive(Default)]
struct EndpointAddress(Option<IpAddr>);

impl Shape for EndpointAddress {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        fields.ignore(&["hostname", "nodeName", "targetRef"]);
        let address: Address = fields.required("ip");
        Self(address.ip)
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        if self.0.is_none() {
            let problem = Problem::new("is no IP address").expected("such as `10.0.0.1`, not a name");
            context.error(&at.field("ip"), problem);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Resource, testing};

    #[test]
    fn ready_and_not_ready_addresses_are_told_apart() {
        let text = "apiVersion: v1\nkind: Endpoints\nmetadata: {name: web}\nsubsets:\n\
                    - addresses: [{ip: 10.0.0.1, nodeName: a}]\n  notReadyAddresses: [{ip: 10.0.0.2}]\n  ports: [{port: 80}]\n";
        let Resource::Endpoints(endpoints) = testing::valid(text) else { panic!("no Endpoints") };
        let subset = &endpoints.spec.subsets[0];
        assert_eq!((subset.addresses.len(), subset.not_ready_addresses.len()), (1, 1));
        assert_eq!(subset.ports[0].port, Some(80));
    }

    #[test]
    fn names_are_refused() {
        let text =
            "apiVersion: v1\nkind: Endpoints\nmetadata: {name: web}\nsubsets: [{addresses: [{ip: a.com}]}]\n";
        let findings = testing::findings(text);
        assert_eq!(findings.len(), 1, "{findings:#?}");
        assert!(findings[0].contains("subsets[0].addresses[0].ip: is no IP address"), "{findings:#?}");
    }
}
