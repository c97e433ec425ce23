//! Clusters as Envoy's `/clusters` tells of them: every endpoint with its health and what was sent to it.

use std::fmt::Write;

use serde_json::{Value, json};

use super::{address, clusters::locality};
use crate::{
    Cluster, Discovery, Endpoint, EndpointCounts, Limits, LiveClusters, LiveEndpoint, Locality,
    LocalityEndpoints, Snapshot,
};

/// Envoy's `/clusters?format=json`.
pub fn cluster_statuses(snapshot: &Snapshot, live: &LiveClusters) -> Value {
    let of_cluster = |cluster: &Cluster| {
        let hosts =
            endpoints(cluster, live).map(|(group, endpoint)| host_status(cluster, live, group, endpoint));
        let mut status = json!({
            "name": cluster.name,
            "added_via_api": true,
            "host_statuses": hosts.collect::<Vec<_>>(),
            "circuit_breakers": {"thresholds": [Value::Object(
                limits(&cluster.limits).map(|(name, limit)| (name.to_owned(), limit.into())).into_iter().collect(),
            )]},
            "observability_name": cluster.name,
        });
        if let Some(name) = eds_service_name(cluster) {
            status["eds_service_name"] = name.into();
        }
        status
    };
    json!({"cluster_statuses": snapshot.clusters().iter().map(of_cluster).collect::<Vec<_>>()})
}

fn host_status(
    cluster: &Cluster,
    live: &LiveClusters,
    group: &LocalityEndpoints,
    endpoint: &Endpoint,
) -> Value {
    let known = live.endpoint(cluster, &endpoint.address);
    let stat = |(name, value, kind): (&str, u64, Kind)| {
        let mut stat = json!({"name": name, "value": value.to_string()});
        if kind == Kind::Gauge {
            stat["type"] = "GAUGE".into();
        }
        stat
    };
    let mut health = json!({"eds_health_status": "HEALTHY"});
    if known.is_avoided() {
        health["failed_outlier_check"] = true.into();
    }
    json!({
        "address": address(&endpoint.address),
        "stats": stats(known.counts).map(stat),
        "health_status": health,
        "weight": endpoint.weight,
        "hostname": hostname(cluster),
        "priority": group.priority,
        "locality": locality(&group.locality),
    })
}

/// Envoy's `/clusters`: lines of `cluster::endpoint::field::value`.
pub fn cluster_lines(snapshot: &Snapshot, live: &LiveClusters) -> String {
    let mut out = String::new();
    for cluster in snapshot.clusters() {
        let name = &cluster.name;
        _ = writeln!(out, "{name}::observability_name::{name}");
        for (limit, value) in limits(&cluster.limits) {
            _ = writeln!(out, "{name}::default_priority::{limit}::{value}");
        }
        _ = writeln!(out, "{name}::added_via_api::true");
        if let Some(service) = eds_service_name(cluster) {
            _ = writeln!(out, "{name}::eds_service_name::{service}");
        }
        for (group, endpoint) in endpoints(cluster, live) {
            endpoint_lines((cluster, group, endpoint), live.endpoint(cluster, &endpoint.address), &mut out);
        }
    }
    out
}

fn endpoint_lines(
    (cluster, group, endpoint): (&Cluster, &LocalityEndpoints, &Endpoint),
    known: LiveEndpoint,
    out: &mut String,
) {
    let mut line = |field: &str, value: &dyn std::fmt::Display| {
        _ = writeln!(out, "{}::{}::{field}::{value}", cluster.name, endpoint.address);
    };
    let mut stats = stats(known.counts);
    stats.sort_by_key(|(name, ..)| *name);
    stats.iter().for_each(|(name, value, _)| line(name, value));
    line("hostname", &hostname(cluster));
    line("health_flags", &if known.is_avoided() { "/failed_outlier_check" } else { "healthy" });
    line("weight", &endpoint.weight);
    let Locality { region, zone, sub_zone } = &group.locality;
    line("region", region);
    line("zone", zone);
    line("sub_zone", sub_zone);
    line("canary", &false);
    line("priority", &group.priority);
    // Success rates are not worked out: Istio has no ejection by them.
    line("success_rate", &-1);
    line("local_origin_success_rate", &-1);
}

fn endpoints<'l>(
    cluster: &'l Cluster,
    live: &'l LiveClusters,
) -> impl Iterator<Item = (&'l LocalityEndpoints, &'l Endpoint)> {
    let localities = live.localities(cluster);
    localities.iter().flat_map(|group| group.endpoints.iter().map(move |endpoint| (group, endpoint)))
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Kind {
    Counter,
    Gauge,
}

/// Counters and then gauges, in Envoy's order.
fn stats(counts: EndpointCounts) -> [(&'static str, u64, Kind); 9] {
    use Kind::{Counter, Gauge};
    [
        ("cx_connect_fail", counts.cx_connect_fail, Counter),
        ("cx_total", counts.cx_total, Counter),
        ("rq_error", counts.rq_error, Counter),
        ("rq_success", counts.rq_success, Counter),
        ("rq_timeout", counts.rq_timeout, Counter),
        ("rq_total", counts.rq_total, Counter),
        ("cx_active", counts.cx_active, Gauge),
        ("rq_active", counts.rq_active, Gauge),
        ("rq_pending_active", counts.rq_pending_active, Gauge),
    ]
}

/// Istio writes the largest number where there is no limit.
fn limits(limits: &Limits) -> [(&'static str, u32); 4] {
    [
        ("max_connections", limits.max_connections),
        ("max_pending_requests", limits.max_pending_requests),
        ("max_requests", limits.max_requests),
        ("max_retries", limits.max_retries),
    ]
    .map(|(name, limit)| (name, limit.unwrap_or(u32::MAX)))
}

fn eds_service_name(cluster: &Cluster) -> Option<&str> {
    matches!(cluster.discovery, Discovery::Endpoints(_)).then_some(cluster.name.as_str())
}

/// The name that was resolved, where all endpoints come from one.
fn hostname(cluster: &Cluster) -> &str {
    match &cluster.discovery {
        Discovery::Dns(dns) => match dns.names.as_slice() {
            [only] => &only.host,
            _ => "",
        },
        Discovery::Endpoints(_) | Discovery::OriginalDestination | Discovery::DynamicDns(_) => "",
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::{Dns, DnsName, DnsResolution, Draft};

    fn resolved() -> (Snapshot, LiveClusters) {
        let name = DnsName {
            host: "db.example".to_owned(),
            port: 80,
            weight: 1,
            locality: Locality::default(),
            priority: 0,
            locality_weight: None,
        };
        let dns = Dns { resolution: DnsResolution::Strict, names: vec![name] };
        let cluster = Cluster::new("outbound|80||db.example", Discovery::Dns(dns));
        let mut live = LiveClusters::default();
        let known = live.entry(&cluster.name);
        let addresses = [1, 2, 3].map(|last| SocketAddr::from(([10, 0, 0, last], 80)));
        known.localities = Some(vec![addresses.map(Endpoint::at).to_vec().into()]);
        let counts = EndpointCounts { rq_total: 7, cx_active: 1, ..EndpointCounts::default() };
        known
            .endpoints
            .insert(addresses[1].into(), LiveEndpoint { is_ejected: true, has_refused: false, counts });
        let refused = LiveEndpoint { has_refused: true, ..LiveEndpoint::default() };
        known.endpoints.insert(addresses[2].into(), refused);
        (Draft { clusters: vec![cluster], ..Draft::default() }.finish(), live)
    }

    #[test]
    fn lines_are_envoys() {
        let (snapshot, live) = resolved();
        let text = cluster_lines(&snapshot, &live);
        for line in [
            "outbound|80||db.example::default_priority::max_connections::4294967295",
            "outbound|80||db.example::10.0.0.1:80::health_flags::healthy",
            "outbound|80||db.example::10.0.0.1:80::hostname::db.example",
            "outbound|80||db.example::10.0.0.2:80::health_flags::/failed_outlier_check",
            "outbound|80||db.example::10.0.0.2:80::rq_total::7",
            "outbound|80||db.example::10.0.0.3:80::health_flags::/failed_outlier_check",
        ] {
            assert!(text.lines().any(|own| own == line), "no `{line}` in\n{text}");
        }
        assert!(
            cluster_lines(&snapshot, &LiveClusters::default()).lines().all(|line| !line.contains("10.0.0"))
        );
    }

    #[test]
    fn statuses_are_envoys() {
        let (snapshot, live) = resolved();
        let dump = cluster_statuses(&snapshot, &live);
        let hosts = &dump["cluster_statuses"][0]["host_statuses"];
        assert_eq!(hosts[0]["health_status"], json!({"eds_health_status": "HEALTHY"}));
        assert_eq!(hosts[1]["health_status"]["failed_outlier_check"], true);
        let stats = hosts[1]["stats"].as_array().unwrap();
        assert!(stats.contains(&json!({"name": "rq_total", "value": "7"})), "{stats:?}");
        assert!(stats.contains(&json!({"name": "cx_active", "value": "1", "type": "GAUGE"})), "{stats:?}");
    }
}
