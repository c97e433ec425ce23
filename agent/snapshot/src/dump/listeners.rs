//! Listeners and filter chains in Envoy's form.

use std::time::Duration;

use serde_json::{Value, json};

use super::{address, routes::destination, transport};
use crate::{
    Application, ClientLimits, Direction, EscapedSlashes, PathNormalization, ProxyHeaders, ServerHeader,
    Snapshot, Transport, TunnelMethod, Underscores,
    filter_chain::{FilterChain, HttpConnections, NetworkFilter},
    listener::{Binding, Listener},
};

/// What listeners lead to.
#[derive(Clone, Copy)]
pub(super) struct Around<'s> {
    pub(super) snapshot: &'s Snapshot,
    /// Protocols that clients may switch to.
    pub(super) upgrades: &'s [&'s str],
}

pub(super) fn listener(around: Around<'_>, listener: &Listener) -> Value {
    let (bound, at) = match &listener.binding {
        Binding::Captured(at) => (false, (*at).into()),
        Binding::Socket(at) | Binding::Dialled(at) => (true, (*at).into()),
        Binding::Unix(path) => (true, path.clone().into()),
    };
    let chains: Vec<_> = listener.filter_chains.iter().map(|chain| filter_chain(around, chain)).collect();
    let mut dump = json!({
        "name": listener.name,
        "address": address(&at),
        "traffic_direction": if listener.direction == Direction::Inbound { "INBOUND" } else { "OUTBOUND" },
        "filter_chains": chains,
    });
    if !bound {
        dump["bind_to_port"] = false.into();
    }
    if let Some(chain) = &listener.default_filter_chain {
        dump["default_filter_chain"] = filter_chain(around, chain);
    }
    dump
}

fn filter_chain(around: Around<'_>, chain: &FilterChain) -> Value {
    let mut matches = serde_json::Map::new();
    if let Some(port) = chain.matches.destination_port {
        matches.insert("destination_port".to_owned(), port.into());
    }
    let subnets = &chain.matches.destination_subnets;
    if !subnets.is_empty() {
        let range =
            |net: &ipnet::IpNet| json!({"address_prefix": net.network(), "prefix_len": net.prefix_len()});
        matches.insert("prefix_ranges".to_owned(), subnets.iter().map(range).collect());
    }
    if !chain.matches.server_names.is_empty() {
        let names = chain.matches.server_names.iter().map(ToString::to_string).collect();
        matches.insert("server_names".to_owned(), names);
    }
    if let Some(transport) = chain.matches.transport {
        let name = match transport {
            Transport::RawBuffer => "raw_buffer",
            Transport::Tls => "tls",
        };
        matches.insert("transport_protocol".to_owned(), name.into());
    }
    let application: &[&str] = match chain.matches.application {
        None | Some(Application::Opaque) => &[],
        Some(Application::Http) => &["http/1.1", "h2c"],
        Some(Application::Mesh) => {
            &["istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"]
        }
        Some(Application::MeshHttp) => &["istio-http/1.0", "istio-http/1.1", "istio-h2"],
    };
    if !application.is_empty() {
        matches.insert("application_protocols".to_owned(), json!(application));
    }
    let mut dump = json!({"name": chain.name, "filters": [network_filter(around, &chain.filter)]});
    if let Some(tls) = chain.tls {
        dump["transport_socket"] = transport::downstream(around.snapshot.tls_context(tls));
    }
    if !matches.is_empty() {
        dump["filter_chain_match"] = matches.into();
    }
    dump
}

const HTTP_CONNECTION_MANAGER: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const TCP_PROXY: &str = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";

/// Those that tell what becomes of requests; what others do in Envoy is part of the routes here.
fn http_filters(http: &HttpConnections) -> Value {
    const FILTERS: &str = "type.googleapis.com/envoy.extensions.filters.http";
    let filter = |name: &str, kind: &str| {
        json!({"name": format!("envoy.filters.http.{name}"),
            "typed_config": {"@type": format!("{FILTERS}.{name}.v3.{kind}")}})
    };
    let web = http.grpc_web.then(|| filter("grpc_web", "GrpcWeb"));
    web.into_iter().chain([filter("router", "Router")]).collect()
}

fn connection_manager(Around { snapshot, upgrades }: Around<'_>, http: &HttpConnections) -> Value {
    let mut config = json!({
        "http_filters": http_filters(http),
        "@type": HTTP_CONNECTION_MANAGER,
        "rds": {"route_config_name": snapshot.route_config(http.route_config).name()},
        "forward_client_cert_details": http.forward_client_cert.name(),
        "normalize_path": http.path_normalization != PathNormalization::None,
        "merge_slashes": matches!(
            http.path_normalization,
            PathNormalization::MergeSlashes | PathNormalization::DecodeAndMergeSlashes
        ),
        "path_with_escaped_slashes_action": match (http.path_normalization, http.escaped_slashes) {
            (_, EscapedSlashes::Refused) => "REJECT_REQUEST",
            (_, EscapedSlashes::Redirected) => "UNESCAPE_AND_REDIRECT",
            (PathNormalization::DecodeAndMergeSlashes, _) | (_, EscapedSlashes::Undone) => "UNESCAPE_AND_FORWARD",
            (_, EscapedSlashes::Kept) => "KEEP_UNCHANGED",
        },
    });
    let settings = snapshot.http_settings(http.settings);
    if !upgrades.is_empty() {
        config["upgrade_configs"] = upgrades.iter().map(|name| json!({"upgrade_type": name})).collect();
    }
    put_headers(&mut config, &settings.headers);
    put_limits(&mut config, &settings.limits);
    json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": config})
}

/// What clients may do, where it is not the proxy's default.
fn put_limits(config: &mut Value, limits: &ClientLimits) {
    // What is never over is told as Envoy is told it.
    let seconds = |limit: Duration| match limit {
        Duration::MAX => "0s".to_owned(),
        limit => format!("{}s", limit.as_secs_f64()),
    };
    let of_connections = [
        ("idle_timeout", limits.idle_timeout),
        ("max_connection_duration", limits.max_connection_duration),
        ("max_stream_duration", limits.max_stream_duration),
    ];
    for (name, limit) in of_connections {
        if let Some(limit) = limit {
            config["common_http_protocol_options"][name] = seconds(limit).into();
        }
    }
    let underscores = match limits.underscores {
        Underscores::Allowed => None,
        Underscores::Refused => Some("REJECT_REQUEST"),
        Underscores::Dropped => Some("DROP_HEADER"),
    };
    if let Some(action) = underscores {
        config["common_http_protocol_options"]["headers_with_underscores_action"] = action.into();
    }
    let of_requests = [
        ("request_headers_timeout", limits.head_timeout),
        ("stream_idle_timeout", limits.stream_idle_timeout),
        ("request_timeout", limits.request_timeout),
    ];
    for (name, limit) in of_requests {
        if let Some(limit) = limit {
            config[name] = seconds(limit).into();
        }
    }
    let windows = [
        ("max_concurrent_streams", limits.streams),
        ("initial_stream_window_size", limits.stream_window),
        ("initial_connection_window_size", limits.connection_window),
    ];
    for (name, limit) in windows {
        if let Some(limit) = limit {
            config["http2_protocol_options"][name] = limit.into();
        }
    }
}

/// Settings of heads that are not Istio's defaults.
fn put_headers(config: &mut Value, headers: &ProxyHeaders) {
    match &headers.server {
        ServerHeader::Proxy => {}
        ServerHeader::Named(name) => config["server_name"] = name.as_str().into(),
        ServerHeader::Endpoint => config["server_header_transformation"] = "PASS_THROUGH".into(),
    }
    if !headers.request_id {
        config["generate_request_id"] = false.into();
    }
    if headers.forwarded_port {
        config["append_x_forwarded_port"] = true.into();
    }
}

fn network_filter(around: Around<'_>, filter: &NetworkFilter) -> Value {
    match filter {
        NetworkFilter::Http(http) => connection_manager(around, http),
        NetworkFilter::Tcp(tcp) => {
            let mut config = destination(&tcp.clusters);
            let known = tcp.clusters.targets().iter().filter_map(|target| target.id);
            if let Some(tunnel) = known.filter_map(|id| around.snapshot.cluster(id).tunnel.as_ref()).next() {
                config["tunneling_config"] = json!({"hostname": tunnel.far_end});
                if tunnel.method == TunnelMethod::Post {
                    config["tunneling_config"]["use_post"] = json!(true);
                }
            }
            tcp_proxy(config)
        }
        NetworkFilter::Blackhole => tcp_proxy(json!({"cluster": "BlackHoleCluster"})),
    }
}

fn tcp_proxy(mut config: Value) -> Value {
    config["@type"] = TCP_PROXY.into();
    json!({"name": "envoy.filters.network.tcp_proxy", "typed_config": config})
}
