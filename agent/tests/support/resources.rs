//! Short ways to write resources.

use super::Endpoint;

/// A Gateway in `default` with one server; `more` follows its hosts.
pub(crate) fn gateway(name: &str, port: u16, protocol: &str, more: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: {name}}}\nspec:\n  servers:\n  \
         - {{port: {{number: {port}, name: own, protocol: {protocol}}}, hosts: ['*']{more}}}\n"
    )
}

/// A VirtualService `name`, `namespace/name` or `namespace/name@time of creation`, and its `spec`.
pub(crate) fn virtual_service(name: &str, spec: &str) -> String {
    let (name, created) = name.split_once('@').unwrap_or((name, "2026-01-01T00:00:00Z"));
    let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: {namespace}, \
         creationTimestamp: '{created}'}}\nspec: {{{spec}}}\n"
    )
}

/// A Service `name` or `namespace/name` with this endpoint at its HTTP port 80.
pub(crate) fn service(name: &str, endpoint: &Endpoint) -> String {
    service_at(name, ("http", 80), endpoint.port())
}

/// A Service `name` or `namespace/name` with one port, which has this name and number, and one endpoint.
pub(crate) fn service_at(name: &str, (port_name, number): (&str, u16), endpoint: u16) -> String {
    let metadata = match name.split_once('/') {
        Some((namespace, name)) => format!("{{name: {name}, namespace: {namespace}}}"),
        None => format!("{{name: {name}}}"),
    };
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {metadata}\n\
         spec: {{ports: [{{name: {port_name}, port: {number}}}]}}\n---\n\
         apiVersion: v1\nkind: Endpoints\nmetadata: {metadata}\n\
         subsets: [{{addresses: [{{ip: 127.0.0.1}}], ports: [{{name: {port_name}, port: {endpoint}}}]}}]\n"
    )
}
