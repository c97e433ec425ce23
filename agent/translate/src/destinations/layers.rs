//! The levels of a DestinationRule, one over the other.

use resources::{
    ClientTls, ConnectionPool, LoadBalancer, MeshDefaults, OutlierDetection, ProxyProtocol, RetryBudget,
    TrafficPolicy, Tunnel,
};

/// What holds for one cluster; what is `None` is as Istio has it without a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Policy<'r> {
    pub(crate) load_balancer: Option<&'r LoadBalancer>,
    pub(crate) connection_pool: Option<&'r ConnectionPool>,
    pub(crate) outlier_detection: Option<&'r OutlierDetection>,
    pub(crate) tls: Option<&'r ClientTls>,
    pub(crate) tunnel: Option<&'r Tunnel>,
    pub(crate) proxy_protocol: Option<ProxyProtocol>,
    pub(crate) retry_budget: Option<&'r RetryBudget>,
    /// What the mesh says where these leave it open; nothing for what is not sent to a service.
    pub(crate) mesh: Option<&'r MeshDefaults>,
}

impl<'r> Policy<'r> {
    /// The policy with a level over it: each of the level's blocks replaces the whole block beneath it.
    ///
    /// Settings for the port replace four blocks at once; those they leave out fall to Istio's defaults and not to
    /// the level beneath.
    pub(super) fn overridden(self, level: Option<&'r TrafficPolicy>, port: u16) -> Self {
        let Some(level) = level else { return self };
        let blocks = Self {
            load_balancer: level.load_balancer.as_ref().or(self.load_balancer),
            connection_pool: level.connection_pool.as_ref().or(self.connection_pool),
            outlier_detection: level.outlier_detection.as_ref().or(self.outlier_detection),
            tls: level.tls.as_ref().or(self.tls),
            tunnel: level.tunnel.as_ref().or(self.tunnel),
            proxy_protocol: level.proxy_protocol.or(self.proxy_protocol),
            retry_budget: level.retry_budget.as_ref().or(self.retry_budget),
            mesh: self.mesh,
        };
        match level.port_level.iter().find(|settings| settings.port == port) {
            None => blocks,
            Some(settings) => Self {
                load_balancer: settings.load_balancer.as_ref(),
                connection_pool: settings.connection_pool.as_ref(),
                outlier_detection: settings.outlier_detection.as_ref(),
                tls: settings.tls.as_ref(),
                ..blocks
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use resources::{PortTrafficPolicy, SimpleLb};

    use super::*;

    fn balancer(simple: SimpleLb) -> Option<LoadBalancer> {
        Some(LoadBalancer { simple: Some(simple), ..LoadBalancer::default() })
    }

    #[test]
    fn a_level_replaces_block_by_block_and_a_port_all_four() {
        let rule = TrafficPolicy {
            load_balancer: balancer(SimpleLb::Random),
            connection_pool: Some(ConnectionPool::default()),
            proxy_protocol: Some(ProxyProtocol::V2),
            port_level: vec![PortTrafficPolicy {
                port: 80,
                outlier_detection: Some(OutlierDetection::default()),
                ..PortTrafficPolicy::default()
            }],
            ..TrafficPolicy::default()
        };
        let subset =
            TrafficPolicy { load_balancer: balancer(SimpleLb::RoundRobin), ..TrafficPolicy::default() };
        let on = |port| Policy::default().overridden(Some(&rule), port);
        assert_eq!(on(81).load_balancer, rule.load_balancer.as_ref());
        let at_port = on(80);
        assert_eq!((at_port.load_balancer, at_port.connection_pool), (None, None));
        assert!(at_port.outlier_detection.is_some() && at_port.proxy_protocol == Some(ProxyProtocol::V2));
        let of_subset = on(81).overridden(Some(&subset), 81);
        assert_eq!(of_subset.load_balancer, subset.load_balancer.as_ref());
        assert!(of_subset.connection_pool.is_some());
        // The rule's settings for the port are what the subset is laid over.
        assert!(on(80).overridden(Some(&subset), 80).outlier_detection.is_some());
    }
}
