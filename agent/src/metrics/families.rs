//! Istio's standard metrics.

use std::{collections::BTreeMap, fmt::Write};

use dataplane::{ConnectionKey, ConnectionMeasures, Histogram, Peer, RequestKey, RequestMeasures, Telemetry};
use snapshot::{AlternativeName, Direction, Snapshot, Workload};

use super::workload::{UNKNOWN, escaped, labels};

/// The families that Istio's proxies have, those without a value included.
pub(crate) fn istio(telemetry: &Telemetry, workload: &Workload, snapshot: Option<&Snapshot>) -> String {
    let names = Names::new(workload, snapshot);
    let mut out = format!(
        "# TYPE istio_build gauge\nistio_build{{component=\"proxy\",tag=\"{}\"}} 1\n",
        env!("CARGO_PKG_VERSION")
    );
    // Several clusters, such as the ports of a service, may be one to Istio's labels.
    let mut requests: BTreeMap<String, RequestMeasures> = BTreeMap::new();
    for (key, measures) in &telemetry.requests {
        requests.entry(names.request(key)).or_default().add(measures);
    }
    let mut connections: BTreeMap<String, ConnectionMeasures> = BTreeMap::new();
    for (key, measures) in &telemetry.connections {
        connections.entry(names.connection(key)).or_default().add(measures);
    }
    family("istio_requests_total", "counter", &mut out);
    for (labels, measures) in &requests {
        _ = writeln!(out, "istio_requests_total{{{labels}}} {}", measures.durations.count());
    }
    histogram("istio_request_duration_milliseconds", &requests, |measures| &measures.durations, &mut out);
    histogram("istio_request_bytes", &requests, |measures| &measures.request_bytes, &mut out);
    histogram("istio_response_bytes", &requests, |measures| &measures.response_bytes, &mut out);
    messages(telemetry, &names, &mut out);
    let counters = [
        (
            "istio_tcp_connections_opened_total",
            (|measures| measures.opened) as fn(&ConnectionMeasures) -> u64,
        ),
        ("istio_tcp_connections_closed_total", |measures| measures.closed),
        ("istio_tcp_sent_bytes_total", |measures| measures.sent),
        ("istio_tcp_received_bytes_total", |measures| measures.received),
    ];
    for (name, value) in counters {
        family(name, "counter", &mut out);
        for (labels, measures) in &connections {
            _ = writeln!(out, "{name}{{{labels}}} {}", value(measures));
        }
    }
    out
}

/// Messages of gRPC calls, which Istio does not tell apart by how the calls end.
fn messages(telemetry: &Telemetry, names: &Names<'_>, out: &mut String) {
    let mut calls: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for (key, measures) in telemetry.requests.iter().filter(|(key, _)| key.grpc.is_some()) {
        let sums = calls.entry(names.sides(key.direction, &key.cluster, &key.peer)).or_default();
        *sums = (sums.0 + measures.messages.0, sums.1 + measures.messages.1);
    }
    family("istio_request_messages_total", "counter", out);
    for (labels, (requests, _)) in &calls {
        _ = writeln!(out, "istio_request_messages_total{{{labels}}} {requests}");
    }
    family("istio_response_messages_total", "counter", out);
    for (labels, (_, answers)) in &calls {
        _ = writeln!(out, "istio_response_messages_total{{{labels}}} {answers}");
    }
}

fn family(name: &str, kind: &str, out: &mut String) {
    _ = writeln!(out, "# TYPE {name} {kind}");
}

fn histogram(
    name: &str,
    requests: &BTreeMap<String, RequestMeasures>,
    of: fn(&RequestMeasures) -> &Histogram,
    out: &mut String,
) {
    family(name, "histogram", out);
    for (labels, measures) in requests {
        let histogram = of(measures);
        let mut below = 0;
        for (bound, count) in Histogram::BOUNDS.iter().zip(histogram.counts) {
            below += count;
            _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {below}");
        }
        let count = histogram.count();
        _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}");
        _ = writeln!(out, "{name}_sum{{{labels}}} {}\n{name}_count{{{labels}}} {count}", histogram.sum);
    }
}

/// What Istio's labels call the two sides of a request.
struct Names<'n> {
    own: &'n Workload,
    /// The SPIFFE identity that this workload proves where TLS is mutual; empty when it has none.
    own_principal: String,
    snapshot: Option<&'n Snapshot>,
}

impl<'n> Names<'n> {
    fn new(own: &'n Workload, snapshot: Option<&'n Snapshot>) -> Self {
        Self { own, own_principal: snapshot.and_then(own_principal).unwrap_or_default(), snapshot }
    }

    fn request(&self, key: &RequestKey) -> String {
        let protocol = if key.grpc.is_some() { "grpc" } else { "http" };
        let status = key.grpc.flatten().map_or(String::new(), |status| status.to_string());
        format!(
            "{},request_protocol=\"{protocol}\",response_code=\"{}\",grpc_response_status=\"{status}\",{}",
            self.sides(key.direction, &key.cluster, &key.peer),
            key.status,
            outcome(key.direction, &key.flags, &key.peer),
        )
    }

    fn connection(&self, key: &ConnectionKey) -> String {
        let sides = self.sides(key.direction, &key.cluster, &key.peer);
        format!("{sides},request_protocol=\"tcp\",{}", outcome(key.direction, &key.flags, &key.peer))
    }

    /// Reporter, source, destination and the service asked for.
    fn sides(&self, direction: Direction, cluster: &str, peer: &Peer) -> String {
        let own = (self.own, peer.principal.as_ref().map_or("", |_| self.own_principal.as_str()));
        let unknown = Workload::default();
        let other = (peer.workload.as_deref().unwrap_or(&unknown), peer.principal.as_deref().unwrap_or(""));
        let (reporter, source, destination) = match direction {
            Direction::Inbound => ("destination", other, own),
            Direction::Outbound | Direction::Gateway => ("source", own, other),
        };
        format!(
            "reporter=\"{reporter}\",{},{},{}",
            labels("source", source.0, source.1),
            labels("destination", destination.0, destination.1),
            self.service(cluster)
        )
    }

    fn service(&self, cluster: &str) -> String {
        let known = self.snapshot.and_then(|snapshot| {
            let at = snapshot.clusters().binary_search_by(|known| known.name.as_str().cmp(cluster)).ok()?;
            snapshot.clusters()[at].service.as_ref()
        });
        let (host, name, namespace) = match known {
            Some(service) => (service.host.as_str(), service.name.as_str(), service.namespace.as_str()),
            None => of_cluster_name(cluster),
        };
        let [host, name, namespace] = [host, name, namespace].map(escaped);
        format!(
            "destination_service=\"{host}\",destination_service_name=\"{name}\",\
             destination_service_namespace=\"{namespace}\""
        )
    }
}

/// Host, service and namespace as a cluster's name tells them.
fn of_cluster_name(cluster: &str) -> (&str, &str, &str) {
    let host = match cluster.split('|').collect::<Vec<_>>().as_slice() {
        ["outbound", _, _, host] => *host,
        [own] if !own.is_empty() => return (own, own, UNKNOWN),
        _ => return (UNKNOWN, UNKNOWN, UNKNOWN),
    };
    let mut parts = host.splitn(4, '.');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(name), Some(namespace), Some("svc")) => (host, name, namespace),
        _ => (host, host, UNKNOWN),
    }
}

/// The URI in the certificate that the workload shows its peers.
fn own_principal(snapshot: &Snapshot) -> Option<String> {
    let own = snapshot.secrets().into_iter().find(|secret| secret.name == "default")?.facts?;
    own.names.into_iter().find_map(|name| match name {
        AlternativeName::Uri(uri) => Some(uri),
        _ => None,
    })
}

fn outcome(direction: Direction, flags: &str, peer: &Peer) -> String {
    let flags = if flags.is_empty() { "-" } else { flags };
    // Istio lets only the receiving side say how the connection came to it.
    let policy = match direction {
        Direction::Inbound if peer.principal.is_some() => "mutual_tls",
        Direction::Inbound => "none",
        Direction::Outbound | Direction::Gateway => UNKNOWN,
    };
    format!("response_flags=\"{}\",connection_security_policy=\"{policy}\"", escaped(flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_told_from_cluster_names() {
        let service = |cluster: &'static str| of_cluster_name(cluster);
        assert_eq!(
            service("outbound|80|v1|a.prod.svc.cluster.local"),
            ("a.prod.svc.cluster.local", "a", "prod")
        );
        assert_eq!(service("outbound|443||example.com"), ("example.com", "example.com", "unknown"));
        assert_eq!(service("PassthroughCluster"), ("PassthroughCluster", "PassthroughCluster", "unknown"));
        assert_eq!(service(""), ("unknown", "unknown", "unknown"));
    }

    #[test]
    fn both_sides_are_named_with_their_principals_where_tls_is_mutual() {
        let own = Workload { name: "own".to_owned(), ..Workload::default() };
        let names = Names { own: &own, own_principal: "spiffe://me".to_owned(), snapshot: None };
        let workload = Some(Workload { name: "other".to_owned(), ..Workload::default() }.into());
        let mutual = Peer { workload: workload.clone(), principal: Some("spiffe://other".into()) };
        let told = |direction, peer: &Peer| {
            let sides = names.sides(direction, "", peer);
            let all = format!("{sides},{}", outcome(direction, "", peer));
            let wanted = |pair: &&str| {
                [
                    "reporter",
                    "source_workload=",
                    "source_pr",
                    "destination_workload=",
                    "destination_pr",
                    "conn",
                ]
                .iter()
                .any(|start| pair.starts_with(start))
            };
            all.split(',').filter(wanted).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            told(Direction::Inbound, &mutual),
            "reporter=\"destination\" source_workload=\"other\" source_principal=\"spiffe://other\" \
             destination_workload=\"own\" destination_principal=\"spiffe://me\" \
             connection_security_policy=\"mutual_tls\""
        );
        assert_eq!(
            told(Direction::Outbound, &Peer { workload, principal: None }),
            "reporter=\"source\" source_workload=\"own\" source_principal=\"unknown\" \
             destination_workload=\"other\" destination_principal=\"unknown\" \
             connection_security_policy=\"unknown\""
        );
        assert!(told(Direction::Inbound, &Peer::default()).ends_with("connection_security_policy=\"none\""));
    }

    #[test]
    fn messages_are_told_of_calls_only_and_not_by_how_these_end() {
        let mut telemetry = Telemetry::default();
        for (grpc, messages) in [(Some(Some(0)), (1, 4)), (Some(Some(14)), (2, 0)), (None, (0, 0))] {
            let key = RequestKey {
                cluster: "outbound|80||a.prod.svc.cluster.local".into(),
                direction: Direction::Outbound,
                status: 200,
                flags: "".into(),
                grpc,
                peer: Peer::default(),
            };
            telemetry.requests.insert(key, RequestMeasures { messages, ..RequestMeasures::default() });
        }
        let text = istio(&telemetry, &Workload::default(), None);
        let of = |name: &str| -> Vec<&str> { text.lines().filter(|line| line.starts_with(name)).collect() };
        let [requests, answers] = ["istio_request_messages_total{", "istio_response_messages_total{"].map(of);
        assert!(requests.len() == 1 && requests[0].ends_with("} 3"), "{requests:?}");
        assert!(answers.len() == 1 && answers[0].ends_with("} 4"), "{answers:?}");
        assert!(requests[0].contains("reporter=\"source\"") && !requests[0].contains("grpc_response_status"));
    }

    #[test]
    fn requests_to_the_ports_of_a_service_are_one_line() {
        let mut telemetry = Telemetry::default();
        for port in [80, 81] {
            let cluster = format!("outbound|{port}||a.prod.svc.cluster.local").into();
            let key = RequestKey {
                cluster,
                direction: Direction::Outbound,
                status: 200,
                flags: "".into(),
                grpc: None,
                peer: Peer::default(),
            };
            let mut measures = RequestMeasures::default();
            measures.durations.counts[2] = 2;
            telemetry.requests.insert(key, measures);
        }
        let text = istio(&telemetry, &Workload::default(), None);
        let totals: Vec<_> = text.lines().filter(|line| line.starts_with("istio_requests_total{")).collect();
        assert_eq!(totals.len(), 1, "{text}");
        assert!(totals[0].ends_with("} 4") && totals[0].contains("response_code=\"200\""), "{text}");
        assert!(text.contains("le=\"5\"} 4\n") && text.contains("le=\"1\"} 0\n"), "{text}");
    }
}
