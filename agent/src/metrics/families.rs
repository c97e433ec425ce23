//! Istio's standard metrics.

use std::{collections::BTreeMap, fmt::Write};

use dataplane::{ConnectionKey, ConnectionMeasures, Histogram, Peer, RequestKey, RequestMeasures, Telemetry};
use snapshot::{AlternativeName, Direction, Metric, MetricRule, MetricRules, Snapshot, Workload};

use super::labels::{DESTINATION, Labels, SOURCE, UNKNOWN};

/// The families that Istio's proxies have, those without a value included, but for those that Telemetry leaves out.
pub(crate) fn istio(telemetry: &Telemetry, workload: &Workload, snapshot: Option<&Snapshot>) -> String {
    let names = Names::new(workload, snapshot);
    let mut out = format!(
        "# TYPE istio_build gauge\nistio_build{{component=\"proxy\",tag=\"{}\"}} 1\n",
        env!("CARGO_PKG_VERSION")
    );
    for metric in Metric::ALL {
        write_family(metric, telemetry, &names, &mut out);
    }
    out
}

fn write_family(metric: Metric, telemetry: &Telemetry, names: &Names<'_>, out: &mut String) {
    match metric {
        Metric::RequestCount => {
            counter(metric, names.requests(metric, telemetry), out, |sums| sums.durations.count());
        }
        Metric::RequestDuration => {
            histogram(metric, names.requests(metric, telemetry), out, |sums| &sums.durations);
        }
        Metric::RequestSize => {
            histogram(metric, names.requests(metric, telemetry), out, |sums| &sums.request_bytes);
        }
        Metric::ResponseSize => {
            histogram(metric, names.requests(metric, telemetry), out, |sums| &sums.response_bytes);
        }
        Metric::RequestMessages => {
            counter(metric, names.calls(metric, telemetry), out, |sums| sums.messages.0);
        }
        Metric::ResponseMessages => {
            counter(metric, names.calls(metric, telemetry), out, |sums| sums.messages.1);
        }
        Metric::TcpOpened => counter(metric, names.connections(metric, telemetry), out, |sums| sums.opened),
        Metric::TcpClosed => counter(metric, names.connections(metric, telemetry), out, |sums| sums.closed),
        Metric::TcpSent => counter(metric, names.connections(metric, telemetry), out, |sums| sums.sent),
        Metric::TcpReceived => {
            counter(metric, names.connections(metric, telemetry), out, |sums| sums.received);
        }
    }
}

/// Sums by their labels. Several clusters, such as the ports of a service, may be one to Istio's labels.
type Series<M> = BTreeMap<String, M>;

fn counter<M>(metric: Metric, series: Series<M>, out: &mut String, value: fn(&M) -> u64) {
    let name = metric.family();
    _ = writeln!(out, "# TYPE {name} counter");
    for (labels, measures) in &series {
        _ = writeln!(out, "{name}{{{labels}}} {}", value(measures));
    }
}

fn histogram(
    metric: Metric,
    series: Series<RequestMeasures>,
    out: &mut String,
    of: fn(&RequestMeasures) -> &Histogram,
) {
    let name = metric.family();
    _ = writeln!(out, "# TYPE {name} histogram");
    for (labels, measures) in &series {
        let histogram = of(measures);
        let comma = if labels.is_empty() { "" } else { "," };
        let mut below = 0;
        for (bound, count) in Histogram::BOUNDS.iter().zip(histogram.counts) {
            below += count;
            _ = writeln!(out, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {below}");
        }
        let count = histogram.count();
        _ = writeln!(out, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {count}");
        _ = writeln!(out, "{name}_sum{{{labels}}} {}\n{name}_count{{{labels}}} {count}", histogram.sum);
    }
}

/// What Istio's labels call the two sides of a request.
struct Names<'n> {
    own: &'n Workload,
    /// The SPIFFE identity that this workload proves where TLS is mutual; empty when it has none.
    own_principal: String,
    snapshot: Option<&'n Snapshot>,
    rules: MetricRules,
}

impl<'n> Names<'n> {
    fn new(own: &'n Workload, snapshot: Option<&'n Snapshot>) -> Self {
        let own_principal = snapshot.and_then(own_principal).unwrap_or_default();
        let rules = snapshot.map(|snapshot| snapshot.metric_rules().clone()).unwrap_or_default();
        Self { own, own_principal, snapshot, rules }
    }

    /// Sums of requests under the labels of a metric.
    fn requests(&self, metric: Metric, telemetry: &Telemetry) -> Series<RequestMeasures> {
        let mut series: Series<RequestMeasures> = Series::new();
        for (key, measures) in &telemetry.requests {
            let rule = self.rule(key.direction, metric);
            if !rule.disabled {
                let labels = self.request(key).changed(rule, &key.cluster);
                series.entry(labels).or_default().add(measures);
            }
        }
        series
    }

    /// The same of gRPC calls, whose messages Istio does not tell apart by how calls end.
    fn calls(&self, metric: Metric, telemetry: &Telemetry) -> Series<RequestMeasures> {
        let mut series: Series<RequestMeasures> = Series::new();
        for (key, measures) in telemetry.requests.iter().filter(|(key, _)| key.grpc.is_some()) {
            let rule = self.rule(key.direction, metric);
            if !rule.disabled {
                let labels = self.sides(key.direction, &key.cluster, &key.peer).changed(rule, &key.cluster);
                series.entry(labels).or_default().add(measures);
            }
        }
        series
    }

    /// The same of opaque connections.
    fn connections(&self, metric: Metric, telemetry: &Telemetry) -> Series<ConnectionMeasures> {
        let mut series: Series<ConnectionMeasures> = Series::new();
        for (key, measures) in &telemetry.connections {
            let rule = self.rule(key.direction, metric);
            if !rule.disabled {
                let labels = self.connection(key).changed(rule, &key.cluster);
                series.entry(labels).or_default().add(measures);
            }
        }
        series
    }

    /// What Telemetry says of a metric.
    fn rule(&self, direction: Direction, metric: Metric) -> &MetricRule {
        self.rules.of(direction, metric)
    }

    fn request(&self, key: &RequestKey) -> Labels {
        let status = key.grpc.flatten().map_or(String::new(), |status| status.to_string());
        let mut labels = self.sides(key.direction, &key.cluster, &key.peer);
        labels.push("request_protocol", if key.grpc.is_some() { "grpc" } else { "http" });
        labels.push("response_code", &key.status.to_string());
        labels.push("grpc_response_status", &status);
        outcome(key.direction, &key.flags, &key.peer, &mut labels);
        labels
    }

    fn connection(&self, key: &ConnectionKey) -> Labels {
        let mut labels = self.sides(key.direction, &key.cluster, &key.peer);
        labels.push("request_protocol", "tcp");
        outcome(key.direction, &key.flags, &key.peer, &mut labels);
        labels
    }

    /// Reporter, source, destination and the service asked for.
    fn sides(&self, direction: Direction, cluster: &str, peer: &Peer) -> Labels {
        let own = (self.own, peer.principal.as_ref().map_or("", |_| self.own_principal.as_str()));
        let unknown = Workload::default();
        let other = (peer.workload.as_deref().unwrap_or(&unknown), peer.principal.as_deref().unwrap_or(""));
        let (reporter, source, destination) = match direction {
            Direction::Inbound => ("destination", other, own),
            Direction::Outbound | Direction::Gateway => ("source", own, other),
        };
        let mut labels = Labels::default();
        labels.push("reporter", reporter);
        labels.push_side(&SOURCE, source.0, source.1);
        labels.push_side(&DESTINATION, destination.0, destination.1);
        self.push_service(cluster, &mut labels);
        labels
    }

    fn push_service(&self, cluster: &str, labels: &mut Labels) {
        let known = self.snapshot.and_then(|snapshot| {
            let at = snapshot.clusters().binary_search_by(|known| known.name.as_str().cmp(cluster)).ok()?;
            snapshot.clusters()[at].service.as_ref()
        });
        let (host, name, namespace) = match known {
            Some(service) => (service.host.as_str(), service.name.as_str(), service.namespace.as_str()),
            None => of_cluster_name(cluster),
        };
        labels.push("destination_service", host);
        labels.push("destination_service_name", name);
        labels.push("destination_service_namespace", namespace);
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

fn outcome(direction: Direction, flags: &str, peer: &Peer, labels: &mut Labels) {
    labels.push("response_flags", if flags.is_empty() { "-" } else { flags });
    // Istio lets only the receiving side say how the connection came to it.
    let policy = match direction {
        Direction::Inbound if peer.principal.is_some() => "mutual_tls",
        Direction::Inbound => "none",
        Direction::Outbound | Direction::Gateway => UNKNOWN,
    };
    labels.push("connection_security_policy", policy);
}

#[cfg(test)]
mod tests;
