//! Limits and outlier ejection of clusters, under Envoy's names.

use std::fmt::{self, Write};

use dataplane::{Breakers, ClusterState, Ejections};

use super::labels::escaped;

/// A family, with its value for a cluster.
struct Family<T> {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    value: fn(&T) -> u64,
}

const BREAKERS: [Family<Breakers>; 8] = [
    Family {
        name: "envoy_cluster_circuit_breakers_default_cx_open",
        kind: "gauge",
        help: "Whether there are as many connections as there may be.",
        value: |breakers| breakers.connections.is_open.into(),
    },
    Family {
        name: "envoy_cluster_circuit_breakers_default_rq_open",
        kind: "gauge",
        help: "Whether as many requests are under way as may be.",
        value: |breakers| breakers.requests.is_open.into(),
    },
    Family {
        name: "envoy_cluster_circuit_breakers_default_rq_pending_open",
        kind: "gauge",
        help: "Whether as many requests wait for a connection as may.",
        value: |breakers| breakers.pending.is_open.into(),
    },
    Family {
        name: "envoy_cluster_circuit_breakers_default_rq_retry_open",
        kind: "gauge",
        help: "Whether as many retries are under way as may be.",
        value: |breakers| breakers.retries.is_open.into(),
    },
    Family {
        name: "envoy_cluster_upstream_cx_overflow",
        kind: "counter",
        help: "Times that a connection was wanted and there were too many.",
        value: |breakers| breakers.connections.overflows,
    },
    Family {
        name: "envoy_cluster_upstream_rq_pending_overflow",
        kind: "counter",
        help: "Requests refused because too many waited for a connection.",
        value: |breakers| breakers.pending.overflows,
    },
    Family {
        name: "envoy_cluster_upstream_rq_active_overflow",
        kind: "counter",
        help: "Requests refused because too many were under way.",
        value: |breakers| breakers.requests.overflows,
    },
    Family {
        name: "envoy_cluster_upstream_rq_retry_overflow",
        kind: "counter",
        help: "Retries left out because too many were under way.",
        value: |breakers| breakers.retries.overflows,
    },
];

const EJECTIONS: [Family<Ejections>; 6] = [
    Family {
        name: "envoy_cluster_outlier_detection_ejections_active",
        kind: "gauge",
        help: "Endpoints left alone for their failures.",
        value: |ejections| ejections.active,
    },
    Family {
        name: "envoy_cluster_outlier_detection_ejections_enforced_total",
        kind: "counter",
        help: "Times that an endpoint was ejected.",
        value: |ejections| {
            ejections.consecutive_5xx
                + ejections.consecutive_gateway_failure
                + ejections.consecutive_local_origin_failure
        },
    },
    Family {
        name: "envoy_cluster_outlier_detection_ejections_enforced_consecutive_5xx",
        kind: "counter",
        help: "Times that it was for answers of 5xx in a row.",
        value: |ejections| ejections.consecutive_5xx,
    },
    Family {
        name: "envoy_cluster_outlier_detection_ejections_enforced_consecutive_gateway_failure",
        kind: "counter",
        help: "Times that it was for answers of 502, 503 or 504 in a row.",
        value: |ejections| ejections.consecutive_gateway_failure,
    },
    Family {
        name: "envoy_cluster_outlier_detection_ejections_enforced_consecutive_local_origin_failure",
        kind: "counter",
        help: "Times that it was for connections that failed in a row.",
        value: |ejections| ejections.consecutive_local_origin_failure,
    },
    Family {
        name: "envoy_cluster_outlier_detection_ejections_overflow",
        kind: "counter",
        help: "Times that an endpoint was not ejected because too many were.",
        value: |ejections| ejections.overflow,
    },
];

/// The families of all clusters that have limits or eject; nothing where there is none.
pub(super) fn clusters(clusters: &[ClusterState], out: &mut impl Write) -> fmt::Result {
    families(&BREAKERS, clusters, |cluster| cluster.breakers, out)?;
    families(&EJECTIONS, clusters, |cluster| cluster.ejections, out)
}

fn families<T>(
    families: &[Family<T>],
    clusters: &[ClusterState],
    of: fn(&ClusterState) -> Option<T>,
    out: &mut impl Write,
) -> fmt::Result {
    let known: Vec<_> =
        clusters.iter().filter_map(|cluster| Some((escaped(&cluster.name), of(cluster)?))).collect();
    for Family { name, kind, help, value } in families.iter().filter(|_| !known.is_empty()) {
        write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n")?;
        for (cluster, state) in &known {
            writeln!(out, "{name}{{cluster_name=\"{cluster}\"}} {}", value(state))?;
        }
    }
    Ok(())
}
