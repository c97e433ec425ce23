//! Endpoints of a service.

use std::net::SocketAddr;

use resources::Labels;
use snapshot::Locality;

/// A place that serves a port, sorted by address first.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct KnownEndpoint<'s> {
    pub(crate) place: EndpointPlace<'s>,
    pub(crate) locality: Locality,
    /// At least 1.
    pub(crate) weight: u32,
    /// Labels of the workload, when it is known.
    pub(crate) labels: Option<&'s Labels>,
    /// The service account that it runs as, when it is known.
    pub(crate) account: Option<&'s str>,
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

    /// The address or name, and the port.
    pub(crate) fn host_and_port(&self) -> (String, u16) {
        match self.place {
            EndpointPlace::At(address) => (address.ip().to_string(), address.port()),
            EndpointPlace::Name(host, port) => (host.to_owned(), port),
        }
    }
}
