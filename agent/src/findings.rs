//! Everything wrong or surprising that is known now: listeners that are not open, what was noticed in the resources, and
//! names of endpoints that cannot be resolved.

use dataplane::{TelemetryReader, UnresolvedName};
use snapshot::{Discovery, Snapshot};

use crate::status::Status;

/// A line for each, beginning with its severity.
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
