//! Kubernetes Services with their endpoints, as the YAML a cluster would hold.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

/// A Service with one port and an EndpointSlice.
#[derive(Clone, Debug)]
pub struct Service {
    name: String,
    address: SocketAddr,
    port_name: String,
    target_port: u16,
    endpoints: Vec<IpAddr>,
    selector: Option<String>,
}

impl Service {
    /// A Service named `name` at the virtual `address`, its port named `http`, without endpoints.
    pub fn new(name: &str, address: SocketAddr, target_port: u16) -> Self {
        let port_name = "http".into();
        Self { name: name.into(), address, port_name, target_port, endpoints: Vec::new(), selector: None }
    }

    /// Adds a ready endpoint.
    pub fn endpoint(mut self, ip: IpAddr) -> Self {
        self.endpoints.push(ip);
        self
    }

    /// Names the port otherwise: by Istio's rules the name tells the protocol (`tcp-mail`, `mail`).
    pub fn port_name(mut self, name: &str) -> Self {
        self.port_name = name.into();
        self
    }

    /// Selects pods with the label `app: <app>`.
    pub fn selects(mut self, app: &str) -> Self {
        self.selector = Some(app.into());
        self
    }

    /// Both resources as two YAML documents, each begun by `---`.
    pub fn yaml(&self) -> String {
        let Self { name, address, port_name, target_port, .. } = self;
        let (ip, port) = (address.ip(), address.port());
        let selector =
            self.selector.as_ref().map(|app| format!("  selector: {{app: {app}}}\n")).unwrap_or_default();
        let mut yaml = format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\n\
             spec:\n  clusterIP: \"{ip}\"\n{selector}  ports:\n  \
             - {{name: {port_name}, port: {port}, targetPort: {target_port}, protocol: TCP}}\n"
        );
        let family = if self.endpoints.first().is_some_and(IpAddr::is_ipv6) { "IPv6" } else { "IPv4" };
        let _ = write!(
            yaml,
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata:\n  name: {name}-1\n  namespace: default\n  labels: {{kubernetes.io/service-name: {name}}}\n\
             addressType: {family}\nports:\n- {{name: {port_name}, port: {target_port}, protocol: TCP}}\nendpoints:"
        );
        for ip in &self.endpoints {
            let _ = write!(yaml, "\n- {{addresses: [\"{ip}\"], conditions: {{ready: true}}}}");
        }
        yaml + if self.endpoints.is_empty() { " []\n" } else { "\n" }
    }
}
