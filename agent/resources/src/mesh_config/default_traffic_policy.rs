//! What holds for every service of the mesh (`MeshConfig.defaultTrafficPolicy`).

use crate::{
    ConnectionPool, OutlierDetection, TcpKeepalive,
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

impl DefaultTrafficPolicy {
    /// The same with `MeshConfig.tcpKeepalive`, which says what the block leaves out.
    pub(super) fn with_keepalive(mut self, keepalive: Option<TcpKeepalive>) -> Self {
        if let Some(keepalive) = keepalive {
            let tcp = &mut self.connection_pool.get_or_insert_default().tcp;
            let written = tcp.tcp_keepalive.take().unwrap_or_default();
            tcp.tcp_keepalive = Some(written.over(&keepalive));
        }
        self
    }
}

impl Shape for DefaultTrafficPolicy {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self {
            connection_pool: fields.optional("connectionPool"),
            outlier_detection: fields.optional("outlierDetection"),
        }
    }
}
