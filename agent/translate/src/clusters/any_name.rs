//! The cluster of hosts that nobody knows, whose names are looked up.

use resources::{Finding, Path};
use snapshot::{Cluster, Discovery, DynamicDns, HostPattern};

use super::{ALLOW_ANY_DYNAMIC_DNS, original};
use crate::{
    credentials::{Contexts, Unusable},
    proxy::MeshOptions,
};

/// To whatever name a request asks for, at the port that it was sent to; in TLS where the mesh says so.
pub(super) fn of_any_name(
    mesh: &MeshOptions,
    (contexts, findings): (&mut Contexts<'_>, &mut Vec<Finding>),
) -> Cluster {
    let (tls, unusable) = match &mesh.outbound_tls {
        Some(written) => contexts.of_unknown(written),
        None => (None, Vec::new()),
    };
    findings.extend(unusable.into_iter().map(finding));
    let dynamic = DynamicDns { hosts: HostPattern::Any, port: None, begins_tls: tls.is_some() };
    let discovery = Discovery::DynamicDns(dynamic);
    Cluster { discovery, tls, ..original(ALLOW_ANY_DYNAMIC_DNS, None, mesh) }
}

/// The mesh configuration is no resource of a name.
fn finding(wrong: Unusable) -> Finding {
    let outbound = Path::ROOT.field("outboundTrafficPolicy");
    let tls = outbound.field("tls");
    Finding {
        severity: wrong.severity(),
        rule: wrong.rule,
        place: None,
        resource: None,
        path: tls.field(wrong.field).to_string(),
        problem: wrong.problem,
    }
}
