//! The snapshot in the names and nesting of Envoy's `/config_dump`.

mod clusters;
mod listeners;
mod routes;
mod secrets;
mod status;
#[cfg(test)]
mod tests;
mod transport;

use std::time::Duration;

use serde_json::{Value, json};

use crate::{Address, LiveClusters, SecretEntry, Snapshot};

pub use status::{cluster_lines, cluster_statuses};

/// Which snapshot is dumped.
#[derive(Clone, Debug)]
pub struct DumpVersion {
    /// Its number, printed as Envoy's `version_info`.
    pub number: u64,
    /// When it was published, as `2026-01-02T03:04:05.678Z`; empty leaves `last_updated` out.
    pub last_updated: String,
}

/// Returns `{"configs": [...]}` with clusters, endpoints, listeners, routes and secrets of a snapshot, as istioctl reads them.
///
/// `upgrades` are the protocols that clients may switch to.
///
/// Endpoints are a section of their own, as Envoy prints it with `?include_eds`: as they are described, and where names
/// are resolved or endpoints left alone as `live` tells. Private keys never appear.
pub fn config_dump(
    snapshot: &Snapshot,
    version: &DumpVersion,
    live: &LiveClusters,
    upgrades: &[&str],
) -> Value {
    let dynamic = |key: &str, value: Value| {
        let mut entry = json!({"version_info": version.number.to_string(), key: value});
        if !version.last_updated.is_empty() {
            entry["last_updated"] = version.last_updated.as_str().into();
        }
        entry
    };
    let clusters: Vec<_> =
        snapshot.clusters().iter().map(|c| dynamic("cluster", clusters::cluster(c))).collect();
    let endpoints: Vec<_> = snapshot
        .clusters()
        .iter()
        .filter_map(|c| Some(dynamic("endpoint_config", clusters::assignment(c, live)?)))
        .collect();
    let around = listeners::Around { snapshot, upgrades };
    let listeners: Vec<_> = snapshot
        .listeners()
        .iter()
        .map(|l| {
            let state = dynamic("listener", listeners::listener(around, l));
            json!({"name": l.name, "active_state": state})
        })
        .collect();
    let routes: Vec<_> =
        snapshot.route_configs().iter().map(|r| dynamic("route_config", routes::route_config(r))).collect();
    let state = |entry: &SecretEntry<'_>| {
        let mut dump = dynamic("status", if entry.facts.is_some() { "ACTIVE" } else { "WARMING" }.into());
        if let (Value::Object(dump), Value::Object(secret)) = (&mut dump, secrets::secret(entry)) {
            dump.extend(secret);
        }
        dump
    };
    let (active, warming): (Vec<_>, Vec<_>) =
        snapshot.secrets().into_iter().partition(|entry| entry.facts.is_some());
    let [active, warming] = [active, warming].map(|list| list.iter().map(state).collect::<Vec<_>>());
    let number = version.number.to_string();
    json!({"configs": [
        {"@type": admin_type("Clusters"), "version_info": number, "dynamic_active_clusters": clusters},
        {"@type": admin_type("Endpoints"), "dynamic_endpoint_configs": endpoints},
        {"@type": admin_type("Listeners"), "version_info": number, "dynamic_listeners": listeners},
        {"@type": admin_type("Routes"), "dynamic_route_configs": routes},
        {"@type": admin_type("Secrets"), "dynamic_active_secrets": active, "dynamic_warming_secrets": warming},
    ]})
}

fn admin_type(section: &str) -> String {
    format!("type.googleapis.com/envoy.admin.v3.{section}ConfigDump")
}

/// A duration as protobuf's JSON writes it: `10s`, `0.250s`.
fn seconds(duration: Duration) -> String {
    match duration.subsec_millis() {
        0 => format!("{}s", duration.as_secs()),
        _ => format!("{:.3}s", duration.as_secs_f64()),
    }
}

/// Envoy's `Address`.
pub fn address(address: &Address) -> Value {
    match address {
        Address::Socket(at) => json!({"socket_address": {"address": at.ip(), "port_value": at.port()}}),
        Address::Unix(path) => json!({"pipe": {"path": path.as_str()}}),
    }
}

fn istio_metadata(istio: Value) -> Value {
    json!({"filter_metadata": {"istio": istio}})
}

/// The path by which istioctl knows the VirtualService `<namespace>/<name>`.
fn virtual_service_config(id: &str) -> String {
    config_path("virtual-service", id)
}

/// The path by which istioctl knows the DestinationRule `<namespace>/<name>`.
fn destination_rule_config(id: &str) -> String {
    config_path("destination-rule", id)
}

fn config_path(kind: &str, id: &str) -> String {
    let (namespace, name) = id.split_once('/').unwrap_or(("", id));
    format!("/apis/networking.istio.io/v1/namespaces/{namespace}/{kind}/{name}")
}
