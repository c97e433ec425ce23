//! The snapshot in the names and nesting of Envoy's `/config_dump`.

use serde_json::{Value, json};

use crate::{
    Snapshot,
    cluster::{Cluster, Discovery, DnsResolution},
    listener::{Binding, FilterChain, Listener, NetworkFilter},
    route::{PathMatch, Route, RouteAction, RouteConfig, VirtualHost},
    tls::{REDACTED, TlsContext},
};

/// Returns `{"configs": [...]}` with the clusters, listeners and routes of a snapshot, as istioctl reads them.
///
/// `version` is the snapshot's number; it is printed as Envoy's `version_info`.
pub fn config_dump(snapshot: &Snapshot, version: u64) -> Value {
    let version = version.to_string();
    let clusters: Vec<_> =
        snapshot.clusters().iter().map(|c| dynamic(&version, "cluster", cluster(c))).collect();
    let listeners: Vec<_> = snapshot
        .listeners()
        .iter()
        .map(
            |l| json!({"name": l.name, "active_state": dynamic(&version, "listener", listener(snapshot, l))}),
        )
        .collect();
    let routes: Vec<_> =
        snapshot.route_configs().iter().map(|r| dynamic(&version, "route_config", route_config(r))).collect();
    json!({"configs": [
        {"@type": admin_type("Clusters"), "version_info": version, "dynamic_active_clusters": clusters},
        {"@type": admin_type("Listeners"), "version_info": version, "dynamic_listeners": listeners},
        {"@type": admin_type("Routes"), "dynamic_route_configs": routes},
    ]})
}

fn admin_type(section: &str) -> String {
    format!("type.googleapis.com/envoy.admin.v3.{section}ConfigDump")
}

fn dynamic(version: &str, key: &str, value: Value) -> Value {
    json!({"version_info": version, key: value})
}

fn cluster(cluster: &Cluster) -> Value {
    let mut dump = json!({
        "name": cluster.name,
        "connect_timeout": format!("{}s", cluster.connect_timeout.as_secs_f64()),
    });
    match &cluster.discovery {
        Discovery::OriginalDestination => {
            dump["type"] = "ORIGINAL_DST".into();
            dump["lb_policy"] = "CLUSTER_PROVIDED".into();
        }
        Discovery::Endpoints(_) => {
            dump["type"] = "EDS".into();
            dump["lb_policy"] = "LEAST_REQUEST".into();
            let endpoints: Vec<_> =
                cluster.endpoints().map(|e| json!({"endpoint": {"address": address(e.address)}})).collect();
            dump["load_assignment"] =
                json!({"cluster_name": cluster.name, "endpoints": [{"lb_endpoints": endpoints}]});
        }
        Discovery::Dns(dns) => {
            dump["type"] = match dns.resolution {
                DnsResolution::Strict => "STRICT_DNS",
                DnsResolution::Logical => "LOGICAL_DNS",
            }
            .into();
        }
    }
    if let Some(source) = cluster.source {
        dump["upstream_bind_config"] = json!({
            "source_address": {"address": source.v4, "port_value": 0},
            "extra_source_addresses": [{"address": {"address": source.v6, "port_value": 0}}],
        });
    }
    dump
}

fn address(address: std::net::SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip(), "port_value": address.port()}})
}

fn listener(snapshot: &Snapshot, listener: &Listener) -> Value {
    let (bound, at) = match listener.binding {
        Binding::Socket(at) => (true, at),
        Binding::Captured(at) => (false, at),
    };
    let chains: Vec<_> = listener.filter_chains.iter().map(|chain| filter_chain(snapshot, chain)).collect();
    let mut dump = json!({
        "name": listener.name,
        "address": address(at),
        "traffic_direction": if listener.direction == crate::Direction::Inbound { "INBOUND" } else { "OUTBOUND" },
        "filter_chains": chains,
    });
    if !bound {
        dump["bind_to_port"] = false.into();
    }
    if let Some(chain) = &listener.default_filter_chain {
        dump["default_filter_chain"] = filter_chain(snapshot, chain);
    }
    dump
}

fn filter_chain(snapshot: &Snapshot, chain: &FilterChain) -> Value {
    let mut matches = serde_json::Map::new();
    if let Some(port) = chain.matches.destination_port {
        matches.insert("destination_port".to_owned(), port.into());
    }
    if !chain.matches.server_names.is_empty() {
        let names = chain.matches.server_names.iter().map(ToString::to_string).collect();
        matches.insert("server_names".to_owned(), names);
    }
    if let Some(transport) = chain.matches.transport {
        let name = match transport {
            crate::Transport::RawBuffer => "raw_buffer",
            crate::Transport::Tls => "tls",
        };
        matches.insert("transport_protocol".to_owned(), name.into());
    }
    if chain.matches.application == Some(crate::Application::Http) {
        matches.insert("application_protocols".to_owned(), json!(["http/1.1", "h2c"]));
    }
    let mut dump = json!({"name": chain.name, "filters": [network_filter(snapshot, &chain.filter)]});
    if let Some(tls) = chain.tls {
        dump["transport_socket"] = transport_socket(snapshot.tls_context(tls));
    }
    if !matches.is_empty() {
        dump["filter_chain_match"] = matches.into();
    }
    dump
}

const DOWNSTREAM_TLS: &str =
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";

/// The certificate appears by name only, and a key not at all.
fn transport_socket(context: &TlsContext) -> Value {
    let mut common = json!({
        "alpn_protocols": context.alpn,
        "tls_certificate_sds_secret_configs": [{"name": context.name}],
    });
    if context.certificate.is_some() {
        common["tls_certificates"] = json!([{"private_key": {"inline_string": REDACTED}}]);
    }
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {"@type": DOWNSTREAM_TLS, "common_tls_context": common},
    })
}

const HTTP_CONNECTION_MANAGER: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const TCP_PROXY: &str = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";

fn network_filter(snapshot: &Snapshot, filter: &NetworkFilter) -> Value {
    match filter {
        NetworkFilter::Http(http) => json!({
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": HTTP_CONNECTION_MANAGER,
                "rds": {"route_config_name": snapshot.route_config(http.route_config).name()},
            },
        }),
        NetworkFilter::Tcp(tcp) => tcp_proxy(destination(&tcp.clusters)),
        NetworkFilter::Blackhole => tcp_proxy(json!({"cluster": "BlackHoleCluster"})),
    }
}

fn tcp_proxy(mut config: Value) -> Value {
    config["@type"] = TCP_PROXY.into();
    json!({"name": "envoy.filters.network.tcp_proxy", "typed_config": config})
}

fn route_config(config: &RouteConfig) -> Value {
    let hosts: Vec<_> = config.virtual_hosts().iter().map(virtual_host).collect();
    json!({"name": config.name(), "virtual_hosts": hosts})
}

fn virtual_host(host: &VirtualHost) -> Value {
    let domains: Vec<_> = host.domains.iter().map(ToString::to_string).collect();
    let routes: Vec<_> = host.routes.iter().map(route).collect();
    let mut dump = json!({"name": host.name, "domains": domains, "routes": routes});
    if host.require_tls {
        dump["require_tls"] = "ALL".into();
    }
    dump
}

fn route(route: &Route) -> Value {
    let mut dump = json!({"match": path_match(&route.matches.path)});
    if let Some(name) = &route.name {
        dump["name"] = name.as_str().into();
    }
    match &route.action {
        RouteAction::Forward(forward) => dump["route"] = destination(&forward.clusters),
        RouteAction::Redirect(redirect) => dump["redirect"] = json!({"response_code": redirect.status}),
        RouteAction::DirectResponse { status, body } => {
            dump["direct_response"] = json!({"status": status, "body": {"inline_string": body}});
        }
    }
    if let Some((namespace, name)) = route.virtual_service.as_deref().and_then(|id| id.split_once('/')) {
        let config = format!("/apis/networking.istio.io/v1/namespaces/{namespace}/virtual-service/{name}");
        dump["metadata"] = json!({"filter_metadata": {"istio": {"config": config}}});
    }
    dump
}

fn path_match(path: &PathMatch) -> Value {
    match path {
        PathMatch::Any => json!({"prefix": "/"}),
        PathMatch::Exact(path) => json!({"path": path.text, "case_sensitive": !path.ignore_case}),
        PathMatch::Prefix(prefix) => json!({"prefix": prefix.text, "case_sensitive": !prefix.ignore_case}),
        PathMatch::Regex(pattern) => json!({"safe_regex": {"regex": pattern.source()}}),
    }
}

fn destination(clusters: &crate::WeightedClusters) -> Value {
    match clusters.targets() {
        [only] => json!({"cluster": only.name}),
        several => {
            let several: Vec<_> =
                several.iter().map(|c| json!({"name": c.name, "weight": c.weight})).collect();
            json!({"weighted_clusters": {"clusters": several}})
        }
    }
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::PrivateKeyDer;

    use super::*;
    use crate::{
        Binding, Certificate, ClusterId, ClusterTarget, Direction, Draft, FilterChainMatch, HttpConnections,
        RouteConfigId, RouteMatch, TlsContextId, WeightedClusters,
    };

    #[test]
    fn a_gateway_is_dumped_under_istios_names() {
        let key = PrivateKeyDer::Pkcs8(b"topsecret".to_vec().into());
        let target = ClusterTarget {
            name: "outbound|8000||h".into(),
            id: Some(ClusterId(0)),
            weight: 0,
            headers: None,
        };
        let draft = Draft {
            listeners: vec![Listener {
                name: "0.0.0.0_8080".into(),
                direction: Direction::Gateway,
                binding: Binding::Socket("0.0.0.0:8080".parse().unwrap()),
                filter_chains: vec![FilterChain {
                    name: "0.0.0.0_8080".into(),
                    matches: FilterChainMatch::default(),
                    tls: Some(TlsContextId(0)),
                    filter: NetworkFilter::Http(HttpConnections { route_config: RouteConfigId(0) }),
                }],
                default_filter_chain: None,
            }],
            route_configs: vec![RouteConfig::new(
                "http.8080",
                vec![VirtualHost {
                    name: "a.com:80".into(),
                    domains: vec!["a.com".parse().unwrap()],
                    require_tls: true,
                    routes: vec![Route {
                        virtual_service: Some("default/vs".into()),
                        ..Route::new(
                            RouteMatch::on_path(PathMatch::prefix("/status")),
                            RouteAction::Forward(WeightedClusters::new(vec![target]).unwrap().into()),
                        )
                    }],
                }],
            )],
            clusters: vec![],
            tls_contexts: vec![TlsContext {
                name: "kubernetes://cert".into(),
                certificate: Some(Certificate::new(vec![], key)),
                alpn: vec!["h2".into()],
            }],
        };
        let dump = config_dump(&draft.finish(), 7);
        let listener = &dump["configs"][1]["dynamic_listeners"][0];
        assert_eq!(listener["name"], "0.0.0.0_8080");
        assert_eq!(listener["active_state"]["version_info"], "7");
        let filter = &listener["active_state"]["listener"]["filter_chains"][0]["filters"][0];
        assert_eq!(filter["typed_config"]["rds"]["route_config_name"], "http.8080");
        let host = &dump["configs"][2]["dynamic_route_configs"][0]["route_config"]["virtual_hosts"][0];
        assert_eq!((&host["domains"], &host["require_tls"]), (&json!(["a.com"]), &json!("ALL")));
        let socket =
            &listener["active_state"]["listener"]["filter_chains"][0]["transport_socket"]["typed_config"];
        let common = &socket["common_tls_context"];
        assert_eq!(common["tls_certificate_sds_secret_configs"][0]["name"], "kubernetes://cert");
        assert_eq!(common["tls_certificates"], json!([{"private_key": {"inline_string": "[redacted]"}}]));
        assert!(!dump.to_string().contains("topsecret"));
        assert_eq!(host["routes"][0]["route"]["cluster"], "outbound|8000||h");
        assert_eq!(
            host["routes"][0]["metadata"]["filter_metadata"]["istio"]["config"],
            "/apis/networking.istio.io/v1/namespaces/default/virtual-service/vs"
        );
    }
}
