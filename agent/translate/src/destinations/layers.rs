//! The levels of a DestinationRule, one over the other.

use resources::{
    ClientTls, ConnectionPool, LoadBalancer, MeshDefaults, OutlierDetection, PortTrafficPolicy,
    ProxyProtocol, RetryBudget, TrafficPolicy, Tunnel,
};
use snapshot::PolicyLevel;

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
    /// The highest level that says something about these, even if it leaves them out.
    pub(crate) levels: Levels,
}

/// By which level of a DestinationRule each block is decided.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Levels {
    pub(crate) load_balancer: Option<PolicyLevel>,
    pub(crate) connection_pool: Option<PolicyLevel>,
    pub(crate) outlier_detection: Option<PolicyLevel>,
    pub(crate) tls: Option<PolicyLevel>,
}

impl Levels {
    /// With those of a level over it.
    fn overridden(self, decides: &Self) -> Self {
        Self {
            load_balancer: decides.load_balancer.or(self.load_balancer),
            connection_pool: decides.connection_pool.or(self.connection_pool),
            outlier_detection: decides.outlier_detection.or(self.outlier_detection),
            tls: decides.tls.or(self.tls),
        }
    }

    /// With the settings for a port in place of all: what they have, and what they take away.
    fn replaced(self, settings: &PortTrafficPolicy, of_port: PolicyLevel) -> Self {
        let decided = |is_written: bool, before: Option<PolicyLevel>| {
            (is_written || before.is_some()).then_some(of_port)
        };
        Self {
            load_balancer: decided(settings.load_balancer.is_some(), self.load_balancer),
            connection_pool: decided(settings.connection_pool.is_some(), self.connection_pool),
            outlier_detection: decided(settings.outlier_detection.is_some(), self.outlier_detection),
            tls: decided(settings.tls.is_some(), self.tls),
        }
    }
}

impl<'r> Policy<'r> {
    /// The policy with a level over it: each of the level's blocks replaces the whole block beneath it.
    ///
    /// Settings for the port replace four blocks at once; those they leave out fall to Istio's defaults and not to
    /// the level beneath.
    pub(super) fn overridden(
        self,
        level: Option<&'r TrafficPolicy>,
        port: u16,
        [whole, of_port]: [PolicyLevel; 2],
    ) -> Self {
        let Some(level) = level else { return self };
        let written = Levels {
            load_balancer: level.load_balancer.as_ref().map(|_| whole),
            connection_pool: level.connection_pool.as_ref().map(|_| whole),
            outlier_detection: level.outlier_detection.as_ref().map(|_| whole),
            tls: level.tls.as_ref().map(|_| whole),
        };
        let levels = self.levels.overridden(&written);
        let blocks = Self {
            load_balancer: level.load_balancer.as_ref().or(self.load_balancer),
            connection_pool: level.connection_pool.as_ref().or(self.connection_pool),
            outlier_detection: level.outlier_detection.as_ref().or(self.outlier_detection),
            tls: level.tls.as_ref().or(self.tls),
            tunnel: level.tunnel.as_ref().or(self.tunnel),
            proxy_protocol: level.proxy_protocol.or(self.proxy_protocol),
            retry_budget: level.retry_budget.as_ref().or(self.retry_budget),
            mesh: self.mesh,
            levels,
        };
        match level.port_level.iter().find(|settings| settings.port == port) {
            None => blocks,
            Some(settings) => Self {
                load_balancer: settings.load_balancer.as_ref(),
                connection_pool: settings.connection_pool.as_ref(),
                outlier_detection: settings.outlier_detection.as_ref(),
                tls: settings.tls.as_ref(),
                levels: levels.replaced(settings, of_port),
                ..blocks
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use resources::SimpleLb;

    use super::{PolicyLevel as Level, *};

    const OF_SUBSET: [Level; 2] = [Level::Subset, Level::SubsetPort];

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
        let on = |port| Policy::default().overridden(Some(&rule), port, [Level::Host, Level::HostPort]);
        assert_eq!(on(81).load_balancer, rule.load_balancer.as_ref());
        let at_port = on(80);
        assert_eq!((at_port.load_balancer, at_port.connection_pool), (None, None));
        assert!(at_port.outlier_detection.is_some() && at_port.proxy_protocol == Some(ProxyProtocol::V2));
        let of_subset = on(81).overridden(Some(&subset), 81, OF_SUBSET);
        assert_eq!(of_subset.load_balancer, subset.load_balancer.as_ref());
        assert!(of_subset.connection_pool.is_some());
        let levels = of_subset.levels;
        assert_eq!((levels.load_balancer, levels.connection_pool), (Some(Level::Subset), Some(Level::Host)));
        assert_eq!((levels.outlier_detection, levels.tls), (None, None));
        let levels = at_port.levels;
        // What is taken away is decided, too.
        assert_eq!(
            (levels.load_balancer, levels.outlier_detection),
            (Some(Level::HostPort), Some(Level::HostPort))
        );
        // The rule's settings for the port are what the subset is laid over.
        assert!(on(80).overridden(Some(&subset), 80, OF_SUBSET).outlier_detection.is_some());
    }
}
