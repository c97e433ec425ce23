//! Endpoints of a service.

use std::net::{IpAddr, SocketAddr};

use resources::Labels;
use snapshot::{Address, Locality, UnixPath};

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
    /// At the unix socket of this path, or of this name after `@`.
    Unix(&'s str),
}

impl KnownEndpoint<'_> {
    /// The address, when it needs no asking.
    pub(crate) fn address(&self) -> Option<Address> {
        match self.place {
            EndpointPlace::At(address) => Some(address.into()),
            EndpointPlace::Unix(path) => Some(UnixPath::new(path).into()),
            EndpointPlace::Name(..) => None,
        }
    }

    /// The IP address, when it has one that needs no asking.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        match self.place {
            EndpointPlace::At(address) => Some(address.ip()),
            EndpointPlace::Name(..) | EndpointPlace::Unix(_) => None,
        }
    }

    /// The address or name, and the port; none of a unix socket.
    pub(crate) fn host_and_port(&self) -> Option<(String, u16)> {
        match self.place {
            EndpointPlace::At(address) => Some((address.ip().to_string(), address.port())),
            EndpointPlace::Name(host, port) => Some((host.to_owned(), port)),
            EndpointPlace::Unix(_) => None,
        }
    }
}
