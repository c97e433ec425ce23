//! The clusters of a sidecar's own workload.

use resources::ConnectionPool;
use snapshot::{Cluster, Discovery, OwnPorts, SourceAddresses};

use super::{blank, inbound_name, over};
use crate::{
    destinations::{Policy, apply},
    inbound::{InboundPort, Upstream},
    proxy::MeshOptions,
};

/// To the application.
pub(super) fn to_workload(port: &InboundPort<'_>, own_ports: &OwnPorts, mesh: &MeshOptions) -> Cluster {
    let (discovery, source) = match &port.upstream {
        Upstream::OriginalDestination => (Discovery::OriginalDestination, Some(SourceAddresses::INBOUND)),
        // Towards loopback the rules capture nothing that is the proxy's own. Its interfaces are to know that it is not
        // the pod that calls.
        Upstream::Address(address) => {
            let is_captured = address.ip().is_some_and(|ip| !ip.is_loopback());
            let is_own = address.socket().is_some_and(|at| own_ports.refuse(at, None));
            let source = (is_captured || is_own).then_some(SourceAddresses::INBOUND);
            (Discovery::of_addresses([address.clone()]), source)
        }
    };
    let name = inbound_name(port.number);
    let mut cluster = Cluster { source, service: port.service.clone(), ..blank(name, discovery, mesh) };
    let of_mesh = mesh.default_traffic_policy.connection_pool.as_ref();
    let pool = over(port.pool, of_mesh, ConnectionPool::over);
    apply(&Policy { connection_pool: pool.as_deref(), ..Policy::default() }, port.protocol, &mut cluster);
    cluster
}
