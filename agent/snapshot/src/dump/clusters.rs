//! Clusters and their endpoints in Envoy's form.

use serde_json::{Value, json};

use super::{address, destination_rule_config, istio_metadata, seconds, transport};
use crate::{
    LiveClusters, LocalityEndpoints,
    cluster::{
        Cluster, Discovery, Dns, DnsName, DnsResolution, Endpoint, HashFunction, Limits, LoadBalancer,
        Locality, OutlierDetection, UpstreamProtocol,
    },
};

pub(super) fn cluster(cluster: &Cluster) -> Value {
    let mut dump = json!({
        "name": cluster.name,
        "lb_policy": policy(cluster),
        "connect_timeout": seconds(cluster.connect_timeout),
    });
    if let Some(built_in) = discovery_type(&cluster.discovery) {
        dump["type"] = built_in.into();
    }
    match &cluster.discovery {
        Discovery::Endpoints(_) => {
            dump["eds_cluster_config"] = json!({"service_name": cluster.name, "eds_config": {"ads": {}}});
        }
        Discovery::OriginalDestination => {}
        Discovery::DynamicDns(_) => dump["cluster_type"] = dynamic_forward_proxy(),
        Discovery::Dns(dns) => {
            dump["load_assignment"] =
                json!({"cluster_name": cluster.name, "endpoints": names_by_locality(dns)});
        }
    }
    hash_table(&cluster.load_balancer, &mut dump);
    if let Some(limits) = limits(&cluster.limits) {
        dump["circuit_breakers"] = limits;
    }
    if let Some(detection) = &cluster.outlier_detection {
        dump["outlier_detection"] = outlier_detection(detection);
    }
    if let Some(keepalive) = cluster.connections.keepalive {
        let whole = |time: std::time::Duration| time.as_secs();
        dump["upstream_connection_options"] = json!({"tcp_keepalive": {
            "keepalive_probes": keepalive.probes,
            "keepalive_time": keepalive.time.map(whole),
            "keepalive_interval": keepalive.interval.map(whole),
        }});
    }
    protocol(cluster, &mut dump);
    transport::put_upstream(cluster, &mut dump);
    if let Some(source) = cluster.source {
        dump["upstream_bind_config"] = json!({
            "source_address": {"address": source.v4, "port_value": 0},
            "extra_source_addresses": [{"address": {"address": source.v6, "port_value": 0}}],
        });
    }
    metadata(cluster, &mut dump);
    dump
}

/// Names as Envoy's `LocalityLbEndpoints`; neighbours of one place and priority are together.
fn names_by_locality(dns: &Dns) -> Vec<Value> {
    let place = |name: &DnsName| (name.priority, name.locality.clone());
    let groups = dns.names.chunk_by(|a, b| place(a) == place(b));
    let group = |names: &[DnsName]| {
        let name = |name: &DnsName| {
            let address = json!({"socket_address": {"address": name.host, "port_value": name.port}});
            json!({"endpoint": {"address": address}, "load_balancing_weight": name.weight})
        };
        let mut dump = json!({"lb_endpoints": names.iter().map(name).collect::<Vec<_>>()});
        if let Some(first) = names.first() {
            dump["priority"] = first.priority.into();
            if first.locality != Locality::default() {
                dump["locality"] = locality(&first.locality);
            }
            if let Some(weight) = first.locality_weight {
                dump["load_balancing_weight"] = weight.into();
            }
        }
        dump
    };
    groups.map(group).collect()
}

/// The endpoints as Envoy's `ClusterLoadAssignment`; `None` for clusters that have no list of their own.
pub(super) fn assignment(cluster: &Cluster, live: &LiveClusters) -> Option<Value> {
    let localities = match &cluster.discovery {
        Discovery::Endpoints(localities) => localities,
        Discovery::Dns(_) => live.found(cluster)?,
        Discovery::OriginalDestination | Discovery::DynamicDns(_) => return None,
    };
    let of_locality = |group: &LocalityEndpoints| {
        let endpoints = group.endpoints.iter();
        let endpoints: Vec<_> =
            endpoints.map(|e| endpoint(e, live.endpoint(cluster, &e.address).is_ejected)).collect();
        let mut dump = json!({"lb_endpoints": endpoints, "priority": group.priority});
        if group.locality != Locality::default() {
            dump["locality"] = locality(&group.locality);
        }
        if let Some(weight) = group.weight {
            dump["load_balancing_weight"] = weight.into();
        }
        dump
    };
    let endpoints: Vec<_> = localities.iter().map(of_locality).collect();
    Some(json!({"cluster_name": cluster.name, "endpoints": endpoints}))
}

pub(super) fn locality(Locality { region, zone, sub_zone }: &Locality) -> Value {
    json!({"region": region, "zone": zone, "sub_zone": sub_zone})
}

fn endpoint(endpoint: &Endpoint, is_ejected: bool) -> Value {
    json!({
        "endpoint": {"address": address(&endpoint.address)},
        "health_status": if is_ejected { "UNHEALTHY" } else { "HEALTHY" },
        "load_balancing_weight": endpoint.weight,
    })
}

/// The type among those that Envoy has built in; none for an extension.
fn discovery_type(discovery: &Discovery) -> Option<&'static str> {
    Some(match discovery {
        Discovery::Endpoints(_) => "EDS",
        Discovery::OriginalDestination => "ORIGINAL_DST",
        Discovery::Dns(dns) => match dns.resolution {
            DnsResolution::Strict => "STRICT_DNS",
            DnsResolution::Logical => "LOGICAL_DNS",
        },
        Discovery::DynamicDns(_) => return None,
    })
}

fn dynamic_forward_proxy() -> Value {
    let config = "type.googleapis.com/envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig";
    json!({"name": "envoy.clusters.dynamic_forward_proxy", "typed_config": {"@type": config}})
}

fn policy(cluster: &Cluster) -> &'static str {
    if !cluster.discovery.has_endpoints() {
        return "CLUSTER_PROVIDED";
    }
    match &cluster.load_balancer {
        LoadBalancer::LeastRequest(_) => "LEAST_REQUEST",
        LoadBalancer::RoundRobin(_) => "ROUND_ROBIN",
        LoadBalancer::Random => "RANDOM",
        LoadBalancer::ConsistentHash(hash) => match hash.function {
            HashFunction::Ring { .. } => "RING_HASH",
            HashFunction::Maglev { .. } => "MAGLEV",
        },
    }
}

fn hash_table(balancer: &LoadBalancer, dump: &mut Value) {
    let LoadBalancer::ConsistentHash(hash) = balancer else { return };
    match hash.function {
        HashFunction::Ring { minimum_size } => {
            dump["ring_hash_lb_config"] = json!({"minimum_ring_size": minimum_size.to_string()});
        }
        HashFunction::Maglev { table_size } => {
            dump["maglev_lb_config"] = json!({"table_size": table_size.to_string()});
        }
    }
}

fn limits(limits: &Limits) -> Option<Value> {
    let numbers = [
        ("max_connections", limits.max_connections),
        ("max_pending_requests", limits.max_pending_requests),
        ("max_requests", limits.max_requests),
        ("max_retries", limits.max_retries),
    ];
    let mut thresholds: serde_json::Map<String, Value> =
        numbers.into_iter().filter_map(|(name, limit)| Some((name.to_owned(), limit?.into()))).collect();
    if let Some(budget) = limits.retry_budget {
        let budget =
            json!({"budget_percent": {"value": budget.percent}, "min_retry_concurrency": budget.minimum});
        thresholds.insert("retry_budget".to_owned(), budget);
    }
    (!thresholds.is_empty()).then(|| json!({"thresholds": [thresholds]}))
}

fn outlier_detection(detection: &OutlierDetection) -> Value {
    let mut dump = json!({
        "interval": seconds(detection.interval),
        "base_ejection_time": seconds(detection.base_ejection_time),
        "max_ejection_percent": detection.max_ejection_percent,
        "consecutive_5xx": detection.consecutive_5xx.unwrap_or_default(),
        "enforcing_consecutive_5xx": if detection.consecutive_5xx.is_some() { 100 } else { 0 },
        "enforcing_success_rate": 0,
    });
    if let Some(failures) = detection.consecutive_gateway_errors {
        dump["consecutive_gateway_failure"] = failures.into();
        dump["enforcing_consecutive_gateway_failure"] = 100.into();
    }
    if let Some(failures) = detection.consecutive_local_failures {
        dump["split_external_local_origin_errors"] = true.into();
        dump["consecutive_local_origin_failure"] = failures.into();
    }
    dump
}

fn protocol(cluster: &Cluster, dump: &mut Value) {
    let by_host = cluster.tls.as_deref().and_then(transport::names_by_host);
    let mut config = match cluster.protocol {
        UpstreamProtocol::Http1 if by_host.is_none() => return,
        UpstreamProtocol::Http1 => json!({"explicit_http_config": {"http_protocol_options": {}}}),
        UpstreamProtocol::Http2 => json!({"explicit_http_config": {"http2_protocol_options": {}}}),
        UpstreamProtocol::AsDownstream => {
            json!({"use_downstream_protocol_config": {"http_protocol_options": {}, "http2_protocol_options": {}}})
        }
    };
    if let Some(by_host) = by_host {
        config["upstream_http_protocol_options"] = by_host;
    }
    config["@type"] = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions".into();
    dump["typed_extension_protocol_options"] =
        json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": config});
}

fn metadata(cluster: &Cluster, dump: &mut Value) {
    let mut istio = serde_json::Map::new();
    if let Some(id) = &cluster.destination_rule {
        istio.insert("config".to_owned(), destination_rule_config(id).into());
    }
    if let Some(service) = &cluster.service {
        let service = json!({"host": service.host, "name": service.name, "namespace": service.namespace});
        istio.insert("services".to_owned(), json!([service]));
    }
    if !istio.is_empty() {
        dump["metadata"] = istio_metadata(istio.into());
    }
}
