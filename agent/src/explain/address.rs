//! Where a request of a URL arrives: the port of a gateway, the address of a service.

use std::net::{IpAddr, SocketAddr};

use snapshot::{HostPattern, Listener, NetworkFilter, RouteConfig, ServiceName, Snapshot};

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
    // A unix socket has none, as no port is 0.
    let port = |listener: &Listener| listener.binding.address().map_or(0, |at| at.port());
    let listeners = snapshot.listeners();
    if listeners.iter().any(|listener| port(listener) == declared) {
        return declared;
    }
    listeners.iter().find(serves).map_or(declared, port)
}

/// The address of the service with this name: as its virtual host lists it beside its names, or, for what is no HTTP, as
/// its cluster knows it.
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
    let listed = named.next().and_then(|host| host.domains.iter().find_map(address));
    Some(SocketAddr::new(listed.or_else(|| known_to_cluster(snapshot, name, port))?, port))
}

/// `None` when services of several namespaces have the name.
fn known_to_cluster(snapshot: &Snapshot, name: &str, port: u16) -> Option<IpAddr> {
    let whole = |service: &ServiceName| service.host == name;
    // Services of Kubernetes have shorter names.
    let short = |service: &ServiceName| {
        let rest = service.host.strip_prefix(name).filter(|_| service.name != service.host);
        rest.is_some_and(|rest| rest.starts_with('.'))
    };
    let prefix = format!("outbound|{port}||");
    let clusters = || snapshot.clusters().iter().filter(|cluster| cluster.name.starts_with(&prefix));
    let services = || clusters().filter_map(|cluster| cluster.service.as_ref());
    let mut shorter = services().filter(|service| short(service));
    let found = services()
        .find(|service| whole(service))
        .or_else(|| shorter.next().filter(|_| shorter.next().is_none()));
    found?.address
}
