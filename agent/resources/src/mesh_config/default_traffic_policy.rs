//! What holds for every service of the mesh (`MeshConfig.defaultTrafficPolicy`).

use crate::{
    ConnectionPool, OutlierDetection,
    decode::{Fields, Shape},
};

/// Connections and their endpoints where DestinationRules say nothing, and under what they say
/// (`MeshConfig.DefaultTrafficPolicy`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DefaultTrafficPolicy {
    /// Limits and time-outs of connections, to the workload as well.
    pub connection_pool: Option<ConnectionPool>,
    /// When an endpoint is left out for its errors.
    pub outlier_detection: Option<OutlierDetection>,
}

impl Shape for DefaultTrafficPolicy {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self {
            connection_pool: fields.optional("connectionPool"),
            outlier_detection: fields.optional("outlierDetection"),
        }
    }
}
