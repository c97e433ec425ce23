//! A policy as fields of a cluster.

use std::time::Duration;

use resources::{
    ConnectionPool, ConsistentHash, H2Upgrade, HashAlgorithm, HashKey as WrittenKey, HttpPool, MeshDefaults,
    Protocol, SimpleLb, TcpPool, TunnelProtocol,
};
use snapshot::{
    Cluster, Discovery, HashFunction, HashKey, HashPolicy, Http2KeepAlive, Keepalive, LoadBalancer,
    OutlierDetection, ProxyProtocol, RetryBudget, SlowStart, Tunnel, TunnelMethod, UpstreamProtocol,
};

use super::Policy;

/// Sets what a policy says, and the protocol that a port of the service speaks (`None` is found out from the client's
/// first bytes).
pub(crate) fn apply(policy: &Policy<'_>, protocol: Option<Protocol>, cluster: &mut Cluster) {
    let http = policy.connection_pool.map(|pool| &pool.http);
    cluster.protocol = upstream_protocol(protocol, http, policy.mesh);
    if let Some(balancer) = policy.load_balancer {
        let is_dynamic = matches!(cluster.discovery, Discovery::DynamicDns(_));
        if balancer.simple == Some(SimpleLb::Passthrough) && !is_dynamic {
            cluster.discovery = Discovery::OriginalDestination;
        }
        cluster.load_balancer = load_balancer(balancer);
    }
    if let Some(ConnectionPool { tcp, http }) = policy.connection_pool {
        apply_tcp(tcp, cluster);
        apply_http(http, cluster);
    }
    cluster.outlier_detection = policy.outlier_detection.map(outlier_detection);
    cluster.proxy_protocol = policy.proxy_protocol.map(|version| match version {
        resources::ProxyProtocol::V1 => ProxyProtocol::V1,
        resources::ProxyProtocol::V2 => ProxyProtocol::V2,
    });
    cluster.tunnel = policy.tunnel.map(tunnel);
    cluster.limits.retry_budget = policy
        .retry_budget
        .map(|budget| RetryBudget { percent: budget.percent, minimum: budget.min_retry_concurrency });
}

/// The far end has IPv6 addresses in brackets.
fn tunnel(resources::Tunnel { protocol, target_host, target_port }: &resources::Tunnel) -> Tunnel {
    let far_end = match target_host.contains(':') {
        true => format!("[{target_host}]:{target_port}"),
        false => format!("{target_host}:{target_port}"),
    };
    let method = match protocol {
        TunnelProtocol::Connect => TunnelMethod::Connect,
        TunnelProtocol::Post => TunnelMethod::Post,
    };
    Tunnel { far_end, method }
}

/// What is spoken to the endpoints of a port.
fn upstream_protocol(
    port: Option<Protocol>,
    http: Option<&HttpPool>,
    mesh: Option<&MeshDefaults>,
) -> UpstreamProtocol {
    let upgrade = http.map_or(H2Upgrade::Default, |http| http.h2_upgrade_policy);
    let of_mesh = mesh.map_or(H2Upgrade::Default, |mesh| mesh.h2_upgrade);
    let as_client = http.is_some_and(|http| http.use_client_protocol);
    match port {
        Some(Protocol::Http2 | Protocol::Grpc | Protocol::GrpcWeb) => UpstreamProtocol::Http2,
        _ if as_client => UpstreamProtocol::AsDownstream,
        _ if upgrade == H2Upgrade::Upgrade => UpstreamProtocol::Http2,
        // Only what is declared to be HTTP: nobody has looked at this port in particular.
        Some(protocol)
            if protocol.is_http() && upgrade == H2Upgrade::Default && of_mesh == H2Upgrade::Upgrade =>
        {
            UpstreamProtocol::Http2
        }
        Some(_) => UpstreamProtocol::Http1,
        None => UpstreamProtocol::AsDownstream,
    }
}

fn load_balancer(written: &resources::LoadBalancer) -> LoadBalancer {
    let slow_start = written.warmup.as_ref().map(|warmup| SlowStart {
        window: warmup.duration,
        minimum_percent: warmup.minimum_percent,
        aggression: warmup.aggression,
    });
    match (&written.consistent_hash, written.simple) {
        // Envoy has a ring then, and nothing to find a place on it by.
        (Some(hash), _) => hash_policy(hash).map_or(LoadBalancer::Random, LoadBalancer::ConsistentHash),
        (None, Some(SimpleLb::RoundRobin)) => LoadBalancer::RoundRobin(slow_start),
        (None, Some(SimpleLb::Random)) => LoadBalancer::Random,
        (None, Some(SimpleLb::LeastRequest | SimpleLb::Passthrough) | None) => {
            LoadBalancer::LeastRequest(slow_start)
        }
    }
}

fn hash_policy(written: &ConsistentHash) -> Option<HashPolicy> {
    let key = match written.key.as_ref()? {
        WrittenKey::Header(name) => HashKey::Header(name.to_ascii_lowercase()),
        WrittenKey::SourceIp => HashKey::SourceIp,
        WrittenKey::QueryParameter(name) => HashKey::QueryParameter(name.clone()),
        WrittenKey::Cookie(cookie) => HashKey::Cookie {
            name: cookie.name.clone(),
            path: cookie.path.clone(),
            ttl: cookie.ttl,
            attributes: cookie
                .attributes
                .iter()
                .map(|(name, value)| (name.clone(), Some(value.clone()).filter(|value| !value.is_empty())))
                .collect(),
        },
    };
    // Reading refuses larger ones.
    let number = |size: u64| u32::try_from(size).unwrap_or(u32::MAX);
    let function = match written.algorithm {
        HashAlgorithm::RingHash { minimum_ring_size } => {
            HashFunction::Ring { minimum_size: number(minimum_ring_size) }
        }
        HashAlgorithm::Maglev { table_size } => HashFunction::Maglev { table_size: number(table_size) },
    };
    Some(HashPolicy { key, function })
}

fn apply_tcp(written: &TcpPool, cluster: &mut Cluster) {
    cluster.limits.max_connections = written.max_connections;
    cluster.connect_timeout = written.connect_timeout.unwrap_or(cluster.connect_timeout);
    let connections = &mut cluster.connections;
    connections.max_duration = written.max_connection_duration;
    connections.keepalive = written.tcp_keepalive.as_ref().map(|keepalive| Keepalive {
        probes: keepalive.probes,
        time: keepalive.time,
        interval: keepalive.interval,
    });
    if let Some(silence) = written.idle_timeout {
        connections.tcp_idle_timeout = Some(silence).filter(|silence| *silence > Duration::ZERO);
    }
}

fn apply_http(written: &HttpPool, cluster: &mut Cluster) {
    cluster.limits.max_pending_requests = written.http1_max_pending_requests;
    cluster.limits.max_requests = written.http2_max_requests;
    cluster.limits.max_retries = written.max_retries;
    let connections = &mut cluster.connections;
    connections.max_requests = written.max_requests_per_connection;
    connections.max_concurrent_streams = written.max_concurrent_streams;
    connections.idle_timeout = written.idle_timeout.or(connections.idle_timeout);
    connections.http2_keepalive = written
        .http2_keepalive
        .as_ref()
        .map(|pings| Http2KeepAlive { interval: pings.interval, timeout: pings.timeout });
}

fn outlier_detection(written: &resources::OutlierDetection) -> OutlierDetection {
    let default = OutlierDetection::default();
    let counted = |number: u32| Some(number).filter(|number| *number > 0);
    let mut error_codes: Vec<u16> =
        written.http_error_codes.iter().filter_map(|code| u16::try_from(*code).ok()).collect();
    error_codes.sort_unstable();
    error_codes.dedup();
    let base_ejection_time = written.base_ejection_time.unwrap_or(default.base_ejection_time);
    OutlierDetection {
        consecutive_5xx: written.consecutive_5xx_errors.map_or(default.consecutive_5xx, counted),
        consecutive_gateway_errors: written.consecutive_gateway_errors.and_then(counted),
        consecutive_local_failures: written
            .split_external_local_origin_errors
            .then(|| written.consecutive_local_origin_failures.unwrap_or(LOCAL_FAILURES))
            .and_then(counted),
        error_codes,
        interval: written.interval.unwrap_or(default.interval),
        // Envoy does not let the longest time be shorter than the first.
        max_ejection_time: default.max_ejection_time.max(base_ejection_time),
        base_ejection_time,
        max_ejection_percent: written.max_ejection_percent.unwrap_or(default.max_ejection_percent),
        min_health_percent: written.min_health_percent,
    }
}

const LOCAL_FAILURES: u32 = 5;
