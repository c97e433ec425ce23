//! Where a request of a URL arrives: the port of a gateway, the address of a service.

use std::net::{IpAddr, SocketAddr};

use snapshot::{Binding, HostPattern, Listener, NetworkFilter, RouteConfig, ServiceName, Snapshot};

/// The port a gateway really listens on for a declared one: virtual hosts are named `<host>:<declared port>`.
pub(super) fn real_port(snapshot: &Snapshot, declared: u16) -> u16 {
    let suffix = format!(":{declared}");
    let serves = |listener: &&Listener| {
        listener.filter_chains.iter().chain(&listener.default_filter_chain).any(|chain| match &chain.filter {
            NetworkFilter::Http(http) => {
                let hosts = snapshot.route_config(http.route_config).virtual_hosts();
                hosts.iter().any(|host| host.name.ends_with(&suffix))
            }
            _ => false,
        })
    };
    let port = |listener: &Listener| match listener.binding {
        Binding::Socket(at) | Binding::Dialled(at) | Binding::Captured(at) => at.port(),
    };
    let listeners = snapshot.listeners();
    if listeners.iter().any(|listener| port(listener) == declared) {
        return declared;
    }
    listeners.iter().find(serves).map_or(declared, port)
}

/// The address of the service with this name: as its virtual host lists it beside its names, or, for what is no HTTP, as
/// its listener has it.
pub(super) fn service_address(snapshot: &Snapshot, name: &str, port: u16) -> Option<SocketAddr> {
    let suffix = format!(":{port}");
    let hosts = snapshot.route_configs().iter().flat_map(RouteConfig::virtual_hosts);
    let mut named = hosts.filter(|host| host.name.ends_with(&suffix)).filter(|host| {
        host.domains.iter().any(|domain| matches!(domain, HostPattern::Exact(exact) if exact == name))
    });
    let address = |domain: &HostPattern| match domain {
        HostPattern::Exact(text) => text.parse::<IpAddr>().ok(),
        _ => None,
    };
    let Some(host) = named.next() else { return listening_for(snapshot, name, port) };
    Some(SocketAddr::new(host.domains.iter().find_map(address)?, port))
}

/// Where the bytes of a service are captured; `None` when services of several namespaces have the name.
fn listening_for(snapshot: &Snapshot, name: &str, port: u16) -> Option<SocketAddr> {
    let is_meant = |service: &ServiceName| {
        let rest = service.host.strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let serves = |listener: &&Listener| {
        let mut chains = listener.filter_chains.iter().chain(&listener.default_filter_chain);
        chains.any(|chain| match &chain.filter {
            NetworkFilter::Tcp(tcp) => tcp
                .clusters
                .targets()
                .iter()
                .filter_map(|target| target.id)
                .any(|id| snapshot.cluster(id).service.as_ref().is_some_and(is_meant)),
            _ => false,
        })
    };
    let mut captured =
        snapshot.listeners().iter().filter(serves).filter_map(|listener| match listener.binding {
            Binding::Captured(at) if at.port() == port && !at.ip().is_unspecified() => Some(at),
            _ => None,
        });
    captured.next().filter(|_| captured.next().is_none())
}
