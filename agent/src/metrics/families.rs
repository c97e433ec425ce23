//! Istio's standard metrics.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
};

use dataplane::{ConnectionKey, ConnectionMeasures, Histogram, Peer, RequestKey, RequestMeasures, Telemetry};
use snapshot::{AlternativeName, Direction, Metric, MetricRules, Snapshot, Workload};

use super::labels::{DESTINATION, Labels, SOURCE, UNKNOWN};

/// The families that Istio's proxies have, those without a value included, but for those that Telemetry leaves out.
/// Beside what it is given it holds the series of one family.
pub(crate) fn istio(
    telemetry: &Telemetry,
    workload: &Workload,
    snapshot: Option<&Snapshot>,
    out: &mut impl Write,
) -> fmt::Result {
    let names = Names::new(workload, snapshot);
    let version = env!("CARGO_PKG_VERSION");
    writeln!(out, "# TYPE istio_build gauge\nistio_build{{component=\"proxy\",tag=\"{version}\"}} 1")?;
    Metric::ALL.into_iter().try_for_each(|metric| write_family(metric, telemetry, &names, out))
}

fn write_family(
    metric: Metric,
    telemetry: &Telemetry,
    names: &Names<'_>,
    out: &mut impl Write,
) -> fmt::Result {
    let requests = |add: Add<u64, RequestMeasures>| names.requests(metric, telemetry, add);
    let sizes = |add: Add<Histogram, RequestMeasures>| names.requests(metric, telemetry, add);
    let calls = |add: Add<u64, RequestMeasures>| names.calls(metric, telemetry, add);
    let connections = |add: Add<u64, ConnectionMeasures>| names.connections(metric, telemetry, add);
    match metric {
        Metric::RequestCount => counter(metric, requests(|sum, all| *sum += all.durations.count()), out),
        Metric::RequestDuration => histogram(metric, sizes(|sum, all| sum.add(&all.durations)), out),
        Metric::RequestSize => histogram(metric, sizes(|sum, all| sum.add(&all.request_bytes)), out),
        Metric::ResponseSize => histogram(metric, sizes(|sum, all| sum.add(&all.response_bytes)), out),
        Metric::RequestMessages => counter(metric, calls(|sum, all| *sum += all.messages.0), out),
        Metric::ResponseMessages => counter(metric, calls(|sum, all| *sum += all.messages.1), out),
        Metric::TcpOpened => counter(metric, connections(|sum, all| *sum += all.opened), out),
        Metric::TcpClosed => counter(metric, connections(|sum, all| *sum += all.closed), out),
        Metric::TcpSent => counter(metric, connections(|sum, all| *sum += all.sent), out),
        Metric::TcpReceived => counter(metric, connections(|sum, all| *sum += all.received), out),
    }
}

/// Sums by their labels. Several clusters, such as the ports of a service, may be one to Istio's labels.
type Series<S> = BTreeMap<Box<str>, S>;

/// How measures are added to a sum.
type Add<S, M> = fn(&mut S, &M);

fn counter(metric: Metric, series: Series<u64>, out: &mut impl Write) -> fmt::Result {
    let name = metric.family();
    writeln!(out, "# TYPE {name} counter")?;
    series.into_iter().try_for_each(|(labels, value)| writeln!(out, "{name}{{{labels}}} {value}"))
}

fn histogram(metric: Metric, series: Series<Histogram>, out: &mut impl Write) -> fmt::Result {
    let name = metric.family();
    writeln!(out, "# TYPE {name} histogram")?;
    for (labels, histogram) in series {
        write_histogram((name, &labels), &histogram, out)?;
    }
    Ok(())
}

/// The samples of a histogram.
pub(super) fn write_histogram(
    (name, labels): (&str, &str),
    histogram: &Histogram,
    out: &mut impl Write,
) -> fmt::Result {
    let comma = if labels.is_empty() { "" } else { "," };
    let mut below = 0;
    for (bound, count) in Histogram::BOUNDS.iter().zip(histogram.counts) {
        below += count;
        writeln!(out, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {below}")?;
    }
    let count = histogram.count();
    writeln!(out, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {count}")?;
    writeln!(out, "{name}_sum{{{labels}}} {}\n{name}_count{{{labels}}} {count}", histogram.sum)
}

/// What requests and connections are measured by, as far as rules for metrics ask.
trait Measured {
    fn direction(&self) -> Direction;
    fn cluster(&self) -> &str;
}

impl Measured for RequestKey {
    fn direction(&self) -> Direction {
        self.direction
    }

    fn cluster(&self) -> &str {
        &self.cluster
    }
}

impl Measured for ConnectionKey {
    fn direction(&self) -> Direction {
        self.direction
    }

    fn cluster(&self) -> &str {
        &self.cluster
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
    fn requests<S: Default>(
        &self,
        metric: Metric,
        telemetry: &Telemetry,
        add: Add<S, RequestMeasures>,
    ) -> Series<S> {
        self.sums(metric, &telemetry.requests, |key| self.request(key), add)
    }

    /// The same of gRPC calls, whose messages Istio does not tell apart by how calls end.
    fn calls<S: Default>(
        &self,
        metric: Metric,
        telemetry: &Telemetry,
        add: Add<S, RequestMeasures>,
    ) -> Series<S> {
        let calls = telemetry.requests.iter().filter(|(key, _)| key.grpc.is_some());
        self.sums(metric, calls, |key| self.sides(key.direction, &key.cluster, &key.peer), add)
    }

    /// The same of opaque connections.
    fn connections<S: Default>(
        &self,
        metric: Metric,
        telemetry: &Telemetry,
        add: Add<S, ConnectionMeasures>,
    ) -> Series<S> {
        self.sums(metric, &telemetry.connections, |key| self.connection(key), add)
    }

    /// Adds up what was measured under the same labels, as Telemetry changes them. Nothing where it disables the metric.
    fn sums<'m, K: Measured + 'm, M: 'm, S: Default>(
        &self,
        metric: Metric,
        measured: impl IntoIterator<Item = (&'m K, &'m M)>,
        labels: impl Fn(&K) -> Labels,
        add: Add<S, M>,
    ) -> Series<S> {
        let mut series = Series::new();
        for (key, measures) in measured {
            let rule = self.rules.of(key.direction(), metric);
            if !rule.disabled {
                let labels = labels(key).changed(rule, key.cluster());
                add(series.entry(labels.into()).or_default(), measures);
            }
        }
        series
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
