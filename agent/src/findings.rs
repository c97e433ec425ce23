//! Everything wrong or surprising that is known now: listeners that are not open, what was noticed in the resources,
//! names of endpoints that cannot be resolved, and endpoints that are left alone.

use dataplane::{TelemetryReader, UnresolvedName};
use snapshot::{Cluster, Discovery, Endpoint, LiveClusters, Snapshot};

use crate::status::Status;

/// A line for each, beginning with its severity; of endpoints [`ejected`] tells.
pub(crate) fn all(status: &Status, reader: &TelemetryReader) -> Vec<String> {
    let refused = status.refused().into_iter().map(|refused| format!("error: {}", refused.reason));
    let Some(published) = status.published() else { return refused.collect() };
    let unresolved = reader.unresolved();
    let unresolved = unresolved.iter().filter_map(|name| describe(name, &published.snapshot));
    refused.chain(published.findings).chain(unresolved).collect()
}

/// `None` when nothing of the snapshot wants the name.
fn describe(
    UnresolvedName { name, error, has_addresses }: &UnresolvedName,
    snapshot: &Snapshot,
) -> Option<String> {
    let mut clusters = snapshot.clusters().iter().filter(|cluster| match &cluster.discovery {
        Discovery::Dns(dns) => dns.names.iter().any(|wanted| wanted.host == *name),
        _ => false,
    });
    let first = &clusters.next()?.name;
    let more = match clusters.count() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let consequence = match has_addresses {
        true => "the last good addresses stay",
        false => "there is no endpoint until it is",
    };
    Some(format!(
        "warning: cannot resolve `{name}`, an endpoint of {first}{more}: {error}; {consequence} (look at the ServiceEntry's \
         hosts and endpoints, and whether the pod's name servers know the name)"
    ))
}

/// A line for each cluster of which endpoints are left alone for their failures.
pub(crate) fn ejected(snapshot: &Snapshot, live: &LiveClusters) -> Vec<String> {
    let ejecting = snapshot.clusters().iter().filter(|cluster| cluster.outlier_detection.is_some());
    ejecting.filter_map(|cluster| describe_ejected(cluster, live)).collect()
}

fn describe_ejected(cluster: &Cluster, live: &LiveClusters) -> Option<String> {
    const SHOWN: usize = 5;
    let endpoints = || live.localities(cluster).iter().flat_map(|locality| &locality.endpoints);
    let is_away = |endpoint: &&Endpoint| live.endpoint(cluster, &endpoint.address).is_ejected;
    let away: Vec<_> = endpoints().filter(is_away).collect();
    let shown: Vec<_> = away.iter().take(SHOWN).map(|endpoint| endpoint.address.to_string()).collect();
    let more = if away.len() > SHOWN { ", …" } else { "" };
    (!away.is_empty()).then(|| {
        format!(
            "warning: {} of {} endpoints of {} are left alone for their failures: {}{more} (outlierDetection; the log has \
             the cause of each)",
            away.len(),
            endpoints().count(),
            cluster.name,
            shown.join(", ")
        )
    })
}
