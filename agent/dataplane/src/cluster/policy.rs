//! The rules for connections to a cluster.

use std::{net::IpAddr, rc::Rc, sync::Arc, time::Duration};

use snapshot::{
    Address, Cluster, Connections, Limits, OwnPorts, ProxyProtocol, SourceAddresses, Tunnel, UpstreamProtocol,
};

use super::admission::WorkerUsage;
use crate::{
    health::{EndpointMonitor, Outliers},
    relay,
    shared::{SharedCluster, Usage},
    sys::Source,
    tls::Connector,
    upstream::{Target, Upstream},
    worker::HeadLimits,
};

/// The rules for connections to a cluster: copied from the snapshot, because connections may outlive it.
pub(crate) struct Policy {
    pub(crate) name: Box<str>,
    pub(crate) generation: PolicyGeneration,
    /// The DestinationRule they were written in, `<namespace>/<name>`.
    pub(crate) destination_rule: Option<Box<str>>,
    source: Option<SourceAddresses>,
    own_ports: OwnPorts,
    pub(crate) connect_timeout: Duration,
    pub(crate) connections: Connections,
    pub(crate) proxy_protocol: Option<ProxyProtocol>,
    /// The tunnel that opaque connections go through.
    pub(crate) tunnel: Option<Box<Tunnel>>,
    /// Whether its endpoints speak HTTP/2, whoever asks.
    pub(crate) speaks_http2: bool,
    /// What heads of answers may cost.
    pub(crate) heads: HeadLimits,
    pub(super) limits: Limits,
    pub(super) usage: Option<Arc<Usage>>,
    pub(super) outliers: Option<Arc<Outliers>>,
    /// TLS to the endpoints, if it is spoken.
    pub(crate) tls: Option<Rc<Connector>>,
    pub(super) own: Rc<WorkerUsage>,
}

/// How often the rules of a cluster have changed so that connections made before must not be used again.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct PolicyGeneration(u64);

impl Policy {
    pub(super) fn new(
        cluster: &Cluster,
        (shared, heads, own_ports): (SharedCluster, HeadLimits, OwnPorts),
        old: Option<&Self>,
    ) -> Self {
        let mut made = Self {
            name: cluster.name.as_str().into(),
            generation: PolicyGeneration::default(),
            destination_rule: cluster.destination_rule.as_deref().map(Box::from),
            source: cluster.source,
            own_ports,
            connect_timeout: cluster.connect_timeout,
            connections: cluster.connections,
            proxy_protocol: cluster.proxy_protocol,
            tunnel: cluster.tunnel.clone().map(Box::new),
            speaks_http2: cluster.protocol == UpstreamProtocol::Http2,
            heads,
            limits: cluster.limits,
            usage: shared.usage,
            outliers: shared.outliers,
            tls: cluster.tls.as_ref().map(|settings| {
                let known = old.and_then(|old| old.tls.as_ref()).filter(|known| known.is_for(settings));
                known.map_or_else(|| Rc::new(Connector::new(settings)), Rc::clone)
            }),
            own: old.map(|old| Rc::clone(&old.own)).unwrap_or_default(),
        };
        if let Some(old) = old {
            made.generation = PolicyGeneration(old.generation.0 + u64::from(!made.fits(old)));
        }
        made
    }

    /// Whether connections that were made in an era may be used again.
    pub(crate) fn keeps_connections_of(&self, generation: PolicyGeneration) -> bool {
        self.generation == generation
    }

    /// Whether connections made under `old` are such as would be made now.
    fn fits(&self, old: &Self) -> bool {
        let fitting_tls = match (&self.tls, &old.tls) {
            (Some(own), Some(old)) => Rc::ptr_eq(own, old) || own.keeps_connections_of(old),
            (None, None) => true,
            _ => false,
        };
        fitting_tls
            && self.source == old.source
            && self.connections.keepalive == old.connections.keepalive
            && self.proxy_protocol == old.proxy_protocol
    }

    /// The local address to connect from, if the kernel is not to choose: the client's own, where the cluster has one
    /// only to stand for it.
    pub(super) fn source(&self, towards: IpAddr, client: Option<Source>) -> Option<Source> {
        let own = Source::Own(self.source?.towards(towards));
        Some(client.unwrap_or(own))
    }

    /// Whether an endpoint is the proxy itself, where no connection goes.
    pub(crate) fn leads_to_itself(&self, endpoint: &Address) -> bool {
        endpoint.socket().is_some_and(|endpoint| self.own_ports.refuse(endpoint, self.source))
    }

    /// How long opaque connections may last.
    pub(crate) fn relay_limits(&self) -> relay::Limits {
        relay::Limits { idle: self.connections.tcp_idle_timeout, duration: self.connections.max_duration }
    }

    /// The worker's eye on an endpoint, if the cluster ejects outliers.
    pub(crate) fn monitor(&self, address: &Address) -> Option<EndpointMonitor> {
        self.outliers.as_ref()?.monitor(address)
    }

    /// The endpoint known already, under these rules from now on, or a new one.
    pub(super) fn upstream(self: &Rc<Self>, target: Target, known: Option<&Rc<Upstream>>) -> Rc<Upstream> {
        match known {
            Some(known) if known.target() == target => {
                known.set_policy(Rc::clone(self));
                Rc::clone(known)
            }
            Some(known) => Rc::new(Upstream::new(target, Rc::clone(self)).succeeding(known)),
            None => Rc::new(Upstream::new(target, Rc::clone(self))),
        }
    }
}

#[cfg(test)]
mod tests {
    use snapshot::{Discovery, Endpoint, Keepalive, LocalityEndpoints};

    use super::*;
    use crate::cluster::{ClusterConnections, ClusterInputs};

    /// Warm-up goes by how long an endpoint is known.
    #[test]
    fn an_endpoint_is_the_one_it_was_however_it_is_spoken_to() {
        let cluster = |keepalive, speaks_mesh_tls| {
            let endpoint = Endpoint { speaks_mesh_tls, ..Endpoint::at(([10, 0, 0, 1], 80)) };
            let locality = LocalityEndpoints { endpoints: vec![endpoint], ..LocalityEndpoints::default() };
            let mut cluster = Cluster::new("a", Discovery::Endpoints(vec![locality]));
            cluster.connections.keepalive = keepalive;
            cluster
        };
        let connections = |cluster: &Cluster, old: Option<&ClusterConnections>| {
            ClusterConnections::new(cluster, ClusterInputs::default(), old)
        };
        let first = connections(&cluster(None, false), None);
        let first_generation = first.upstreams()[0].policy().generation;
        let second = connections(&cluster(Some(Keepalive::default()), false), Some(&first));
        assert!(Rc::ptr_eq(&first.upstreams()[0], &second.upstreams()[0]));
        assert!(!second.upstreams()[0].policy().keeps_connections_of(first_generation));
        second.upstreams()[0].count_request();
        let third = connections(&cluster(Some(Keepalive::default()), true), Some(&second));
        let (before, after) = (&second.upstreams()[0], &third.upstreams()[0]);
        assert!(!Rc::ptr_eq(before, after));
        assert_eq!((after.since, after.counts().rq_total), (before.since, 1));
    }
}
