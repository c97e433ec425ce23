//! Endpoints of a service.

use std::net::SocketAddr;

use resources::Labels;
use snapshot::{Discovery, Dns, DnsName, DnsResolution, Locality};

/// A place that serves a port, sorted by address first.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct KnownEndpoint<'s> {
    pub(crate) place: EndpointPlace<'s>,
    pub(crate) locality: Locality,
    /// At least 1.
    pub(crate) weight: u32,
    /// Labels of the workload, when it is known.
    pub(crate) labels: Option<&'s Labels>,
}

/// Where an endpoint is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum EndpointPlace<'s> {
    At(SocketAddr),
    /// At the addresses of a name.
    Name(&'s str, u16),
}

impl KnownEndpoint<'_> {
    /// The address, when it needs no asking.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self.place {
            EndpointPlace::At(address) => Some(address),
            EndpointPlace::Name(..) => None,
        }
    }

    /// The endpoints as names to be resolved.
    pub(crate) fn resolved(endpoints: Vec<KnownEndpoint<'_>>, resolution: DnsResolution) -> Discovery {
        let name = |endpoint: KnownEndpoint<'_>| {
            let (host, port) = match endpoint.place {
                EndpointPlace::At(address) => (address.ip().to_string(), address.port()),
                EndpointPlace::Name(host, port) => (host.to_owned(), port),
            };
            DnsName { host, port, weight: endpoint.weight, locality: endpoint.locality, priority: 0 }
        };
        Discovery::Dns(Dns { resolution, names: endpoints.into_iter().map(name).collect() })
    }
}
