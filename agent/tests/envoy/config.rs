//! Parts of Envoy's configuration, in the form in which Istio writes them.

use super::program::LOG;

/// Istio's name for the cluster of a service's port.
pub(super) fn cluster_name(service: &str, port: u16) -> String {
    format!("outbound|{port}||{service}.default.svc.cluster.local")
}

/// A cluster of fixed endpoints on loopback; `more` fields follow its name.
pub(super) fn cluster(name: &str, ports: &[u16], more: &str) -> String {
    let endpoint = |port| format!("{{endpoint: {{address: {}}}}}", address(port));
    let endpoints: Vec<_> = ports.iter().copied().map(endpoint).collect();
    format!(
        "  - {{name: \"{name}\", {more}load_assignment: {{cluster_name: \"{name}\", \
         endpoints: [{{lb_endpoints: [{}]}}]}}}}\n",
        endpoints.join(", ")
    )
}

/// A port of loopback.
pub(super) fn address(port: u16) -> String {
    format!("{{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}")
}

/// A value of a type of Envoy's API, with these fields.
pub(super) fn typed(name: &str, kind: &str, fields: &str) -> String {
    format!("{{name: {name}, typed_config: {{\"@type\": type.googleapis.com/envoy.{kind}, {fields}}}}}")
}

/// The listeners of a gateway that serves HTTP on one port, by these routes for any host.
pub(super) fn http_gateway(port: u16, routes: &str) -> String {
    let router = typed("envoy.filters.http.router", "extensions.filters.http.router.v3.Router", "");
    let host = format!("{{name: any, domains: [\"*\"], routes: [{routes}]}}");
    let http = typed(
        "envoy.filters.network.http_connection_manager",
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        &format!(
            "stat_prefix: gateway, use_remote_address: true, http_filters: [{router}], \
             route_config: {{virtual_hosts: [{host}]}}"
        ),
    );
    let at = address(port);
    format!("  listeners:\n  - {{address: {at}, filter_chains: [{{filters: [{http}]}}]}}\n")
}

/// An access log with such lines; `more` is a filter.
pub(super) fn access_log(format: &str, more: &str) -> String {
    let log = typed(
        "file",
        "extensions.access_loggers.file.v3.FileAccessLog",
        &format!("path: {LOG}, log_format: {{text_format_source: {{inline_string: {format:?}}}}}"),
    );
    // A filter stands beside the type.
    format!("access_log: [{}{more}}}]", log.strip_suffix('}').unwrap_or_default())
}
