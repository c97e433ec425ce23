//! A destination of a route and the policies that hold for it, in words.

use std::time::Duration;

use super::{Step, action::describe_headers, endpoints, tls};
use crate::{
    Cluster, ClusterTarget, Connections, HashFunction, HashKey, HashPolicy, Limits, LiveClusters,
    LoadBalancer, OutlierDetection, PolicySource, ProxyProtocol, Snapshot, UpstreamProtocol,
    WeightedClusters,
};

/// What goes to a destination.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    /// The host or server name that is asked for.
    pub(super) name: &'a str,
    /// Whether it is a request, and not a connection that is relayed.
    pub(super) is_request: bool,
    /// Whether the client was on its way to somebody else.
    pub(super) is_captured: bool,
}

/// A destination and its endpoints; the text says where a request for it ends.
pub(super) fn describe(
    (snapshot, live): (&Snapshot, &LiveClusters),
    (target, all): (&ClusterTarget, &WeightedClusters),
    asked: Asked<'_>,
) -> (Step, String) {
    let name = target.name.as_str();
    let mut because: Vec<String> = share(target, all).into_iter().collect();
    let Some(id) = target.id else {
        because.push("no service of that name, port and subset is known to this proxy".to_owned());
        if let Some(headers) = &target.headers {
            describe_headers(" for this cluster", headers, &mut because);
        }
        let step = Step { because, ..Step::chosen("cluster", name, "") };
        return (step, format!("503 NC cluster_not_found ({name})"));
    };
    let cluster = snapshot.cluster(id);
    because
        .extend(cluster.destination_rule.as_ref().map(|rule| format!("policies of DestinationRule {rule}")));
    because.extend(protocol(cluster.protocol));
    because.extend(policies(cluster));
    because.extend(tls::to_endpoints(cluster, live, asked.is_request.then_some(asked.name)));
    if let Some(headers) = &target.headers {
        describe_headers(" for this cluster", headers, &mut because);
    }
    let mut step = Step { because, ..Step::chosen("cluster", name, "") };
    let end = endpoints::describe(cluster, live, (asked.is_captured, asked.name), &mut step);
    match tls::impossible(cluster, live).filter(|_| !end.starts_with("503")) {
        Some(why) => (
            step,
            format!(
                "503 UF upstream_reset_before_response_started: no TLS handshake with an endpoint can succeed, {why} ({name})"
            ),
        ),
        None => (step, end),
    }
}

fn share(target: &ClusterTarget, all: &WeightedClusters) -> Option<String> {
    let several = all.targets().len() > 1;
    let sum: u64 = all.targets().iter().map(|target| u64::from(target.weight)).sum();
    several.then(|| format!("weight {} of {sum}", target.weight))
}

fn protocol(protocol: UpstreamProtocol) -> Option<String> {
    match protocol {
        UpstreamProtocol::Http1 => None,
        UpstreamProtocol::Http2 => Some("spoken to in HTTP/2".to_owned()),
        UpstreamProtocol::AsDownstream => Some("spoken to in the version the client speaks".to_owned()),
    }
}

/// What is written about a cluster, block by block, and where.
fn policies(cluster: &Cluster) -> impl Iterator<Item = String> {
    let sources = &cluster.policy_sources;
    let blocks = [
        ("loadBalancer", &sources.load_balancer, vec![balancer(&cluster.load_balancer)]),
        ("connectionPool", &sources.connection_pool, pool(cluster)),
        ("outlierDetection", &sources.outlier_detection, outliers(cluster.outlier_detection.as_ref())),
    ];
    let written = blocks.into_iter().filter_map(|(block, source, words)| {
        let source: &PolicySource = source.as_ref()?;
        let words = if words.is_empty() { "as by default".to_owned() } else { words.join(", ") };
        Some(format!("{block}: {words} ({source})"))
    });
    let version = |version: ProxyProtocol| {
        let number = match version {
            ProxyProtocol::V1 => 1,
            ProxyProtocol::V2 => 2,
        };
        format!("connections begin with a PROXY header of version {number}")
    };
    let header = cluster.proxy_protocol.map(version);
    written.chain(header)
}

fn balancer(balancer: &LoadBalancer) -> String {
    let (name, slow_start) = match balancer {
        LoadBalancer::LeastRequest(slow_start) => ("LEAST_REQUEST".to_owned(), slow_start.as_ref()),
        LoadBalancer::RoundRobin(slow_start) => ("ROUND_ROBIN".to_owned(), slow_start.as_ref()),
        LoadBalancer::Random => ("RANDOM".to_owned(), None),
        LoadBalancer::ConsistentHash(policy) => (hash(policy), None),
    };
    let warmup = slow_start.map(|slow| format!(", new endpoints warm up for {:?}", slow.window));
    name + warmup.as_deref().unwrap_or_default()
}

fn hash(policy: &HashPolicy) -> String {
    let key = match &policy.key {
        HashKey::Header(name) => format!("header `{name}`"),
        HashKey::Cookie { name, .. } => format!("cookie `{name}`"),
        HashKey::SourceIp => "the client's address".to_owned(),
        HashKey::QueryParameter(name) => format!("query parameter `{name}`"),
    };
    let table = match policy.function {
        HashFunction::Ring { .. } => "ring",
        HashFunction::Maglev { .. } => "Maglev table",
    };
    format!("hash of {key} in a {table}")
}

fn pool(cluster: &Cluster) -> Vec<String> {
    let Limits { max_connections, max_pending_requests, max_requests, max_retries, retry_budget: _ } =
        cluster.limits;
    let Connections { idle_timeout, tcp_idle_timeout, max_duration, max_requests: on_one, .. } =
        cluster.connections;
    let default = Connections::default();
    let limit = |number: Option<u32>, what: &str| number.map(|number| format!("at most {number} {what}"));
    let changed = |now: Option<Duration>, by_default: Option<Duration>, what: &str| {
        let words = now.map_or_else(|| "never".to_owned(), |time| format!("after {time:?}"));
        (now != by_default).then(|| format!("{what} {words}"))
    };
    [
        limit(max_connections, "connections"),
        limit(max_pending_requests, "requests waiting"),
        limit(max_requests, "requests under way"),
        limit(max_retries, "retries under way"),
        limit(on_one, "requests on one connection"),
        Some(format!("connecting within {:?}", cluster.connect_timeout)),
        changed(idle_timeout, default.idle_timeout, "closed when idle"),
        changed(tcp_idle_timeout, default.tcp_idle_timeout, "opaque ones closed when silent"),
        changed(max_duration, default.max_duration, "closed"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn outliers(detection: Option<&OutlierDetection>) -> Vec<String> {
    let Some(detection) = detection else { return vec!["no endpoint is ejected".to_owned()] };
    let in_a_row = |number: Option<u32>, what: &str| number.map(|number| format!("{number} {what}"));
    let errors = match detection.error_codes.as_slice() {
        [] => "answers of 5xx".to_owned(),
        codes => format!("answers of {}", codes.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")),
    };
    let causes: Vec<_> = [
        in_a_row(detection.consecutive_5xx, &errors),
        in_a_row(detection.consecutive_gateway_errors, "answers of 502, 503 or 504"),
        in_a_row(detection.consecutive_local_failures, "connections that failed"),
    ]
    .into_iter()
    .flatten()
    .collect();
    if causes.is_empty() {
        return vec!["no endpoint is ejected: nothing is counted".to_owned()];
    }
    vec![
        format!("ejected after {} in a row", causes.join(" or ")),
        format!("for {:?} at first", detection.base_ejection_time),
        format!("at most {} % of the endpoints, or one", detection.max_ejection_percent),
    ]
}
