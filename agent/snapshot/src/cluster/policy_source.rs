//! Where the policy of a cluster is written, for those who ask why.

use std::{fmt, sync::Arc};

/// Where the blocks of a cluster's policy come from; `None` is Istio's default.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PolicySources {
    /// Of `loadBalancer`.
    pub load_balancer: Option<PolicySource>,
    /// Of `connectionPool`.
    pub connection_pool: Option<PolicySource>,
    /// Of `outlierDetection`.
    pub outlier_detection: Option<PolicySource>,
    /// Of `tls`.
    pub tls: Option<PolicySource>,
}

/// Where one block comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PolicySource {
    /// MeshConfig alone, by this field.
    Mesh(&'static str),
    /// A DestinationRule.
    Rule {
        /// `<namespace>/<name>`.
        rule: Arc<str>,
        /// Which part of it. One that leaves the block out where another level has it replaces that by Istio's default.
        level: PolicyLevel,
        /// Whether the mesh (`defaultTrafficPolicy`) completes it.
        over_mesh: bool,
    },
}

/// A part of a DestinationRule that holds policies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PolicyLevel {
    /// `spec.trafficPolicy`.
    Host,
    /// Its `portLevelSettings`.
    HostPort,
    /// `trafficPolicy` of the subset.
    Subset,
    /// Its `portLevelSettings`.
    SubsetPort,
}

impl fmt::Display for PolicySource {
    /// Continues `as … has it`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Rule { rule, level, over_mesh } = self else {
            let Self::Mesh(field) = self else { return Ok(()) };
            return write!(f, "{field} of the mesh");
        };
        let part = match level {
            PolicyLevel::Host => "trafficPolicy",
            PolicyLevel::HostPort => "trafficPolicy.portLevelSettings",
            PolicyLevel::Subset => "the subset's trafficPolicy",
            PolicyLevel::SubsetPort => "the subset's trafficPolicy.portLevelSettings",
        };
        write!(f, "{part} of DestinationRule {rule}")?;
        if *over_mesh { f.write_str(" over defaultTrafficPolicy of the mesh") } else { Ok(()) }
    }
}
