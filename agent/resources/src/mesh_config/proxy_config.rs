//! `ProxyConfig`: what the mesh says of its proxies in `defaultConfig`, and a pod of its own.

use std::sync::Arc;

use super::{
    Anything, ForwardClientCertDetails, MeshConfig, ProxyHeaders,
    connection_limit::{ConnectionLimit, RuntimeValues},
    connection_settings::ConnectionSettings,
    forward_client_cert, reading,
};
use crate::{
    decode::{Fields, Shape},
    finding::Finding,
};

/// The settings of a proxy that are acted on. What is absent is left as it is elsewhere.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ProxyConfig {
    gateway_topology: GatewayTopology,
    pub(super) proxy_headers: ProxyHeaders,
    pub(super) connection_settings: ConnectionSettings,
    pub(super) connection_limit: ConnectionLimit,
}

impl ProxyConfig {
    /// Reads a YAML or JSON text holding one `ProxyConfig`; `source_name` is what findings call it. An empty text is
    /// the default. Fields that are not acted on are warned about.
    pub fn read(source_name: &str, text: &str) -> (Self, Vec<Finding>) {
        reading::document(&Arc::from(source_name), text, "one ProxyConfig")
    }

    /// With what another one says in the place of what this one says of the same.
    #[must_use]
    pub fn overlaid_with(&self, other: &Self) -> Self {
        let (own, others) = (&self.gateway_topology, &other.gateway_topology);
        Self {
            gateway_topology: GatewayTopology {
                proxy_protocol: own.proxy_protocol || others.proxy_protocol,
                trusted_proxies: others.trusted_proxies.or(own.trusted_proxies),
                forward_client_cert: others.forward_client_cert.or(own.forward_client_cert),
            },
            proxy_headers: other.proxy_headers.over(&self.proxy_headers),
            connection_settings: other.connection_settings.over(self.connection_settings),
            connection_limit: other.connection_limit.over(self.connection_limit),
        }
    }
}

impl MeshConfig {
    /// With what a pod says of its own proxy in the place of `defaultConfig`.
    #[must_use]
    pub fn with_proxy_config(self, own: &ProxyConfig) -> Self {
        let topology = &own.gateway_topology;
        Self {
            gateway_proxy_protocol: self.gateway_proxy_protocol || topology.proxy_protocol,
            gateway_trusted_proxies: topology.trusted_proxies.unwrap_or(self.gateway_trusted_proxies),
            gateway_forward_client_cert: topology.forward_client_cert.or(self.gateway_forward_client_cert),
            proxy_headers: own.proxy_headers.over(&self.proxy_headers),
            connection_settings: own.connection_settings.over(self.connection_settings),
            connection_limit: own.connection_limit.over(self.connection_limit),
            ..self
        }
    }
}

impl Shape for ProxyConfig {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let (gateway_topology, proxy_headers) =
            (fields.or_default("gatewayTopology"), fields.or_default("proxyHeaders"));
        let connection_settings: ConnectionSettings = fields.or_default("connectionSettings");
        let RuntimeValues(runtime) = fields.or_default("runtimeValues");
        fields.planned_rest();
        let connection_limit = ConnectionLimit { setting: connection_settings.connection_limit, runtime };
        Self { gateway_topology, proxy_headers, connection_settings, connection_limit }
    }
}

#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct GatewayTopology {
    proxy_protocol: bool,
    trusted_proxies: Option<u32>,
    forward_client_cert: Option<ForwardClientCertDetails>,
}

impl Shape for GatewayTopology {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let proxy_protocol = fields.optional::<Anything>("proxyProtocol").is_some();
        let forward_client_cert::Written(forward_client_cert) = fields.or_default("forwardClientCertDetails");
        let trusted_proxies = fields.optional("numTrustedProxies");
        fields.planned_rest();
        Self { proxy_protocol, trusted_proxies, forward_client_cert }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> ProxyConfig {
        let (config, findings) = ProxyConfig::read("PROXY_CONFIG", text);
        assert!(findings.is_empty(), "{findings:?}");
        config
    }

    #[test]
    fn a_pod_has_the_last_word_on_its_own_proxy() {
        let mesh =
            "defaultConfig: {gatewayTopology: {numTrustedProxies: 1, forwardClientCertDetails: SANITIZE}}";
        let mesh = MeshConfig::read("mesh.yaml", mesh).config;
        let of = |own: &str| mesh.clone().with_proxy_config(&read(own));
        assert_eq!(of(""), mesh);
        let own = of(r#"{"gatewayTopology": {"numTrustedProxies": 0, "proxyProtocol": {}}}"#);
        assert_eq!((own.gateway_trusted_proxies, own.gateway_proxy_protocol), (0, true));
        assert_eq!(own.gateway_forward_client_cert, Some(ForwardClientCertDetails::Sanitize));
        let over = read("gatewayTopology: {numTrustedProxies: 2}")
            .overlaid_with(&read("proxyHeaders: {forwardedClientCert: SANITIZE}"))
            .overlaid_with(&read("gatewayTopology: {numTrustedProxies: 3}"));
        let own = mesh.clone().with_proxy_config(&over);
        assert_eq!(own.gateway_trusted_proxies, 3);
        assert_eq!(own.proxy_headers.forwarded_client_cert, Some(ForwardClientCertDetails::Sanitize));
    }

    #[test]
    fn mistakes_have_a_place() {
        let said = |text: &str| ProxyConfig::read("PROXY_CONFIG", text).1[0].to_string();
        let wrong = said("gatewayTopology: {numTrustedProxies: x}");
        assert!(
            wrong.starts_with("PROXY_CONFIG:1:38: gatewayTopology.numTrustedProxies: has the wrong type"),
            "{wrong}"
        );
        assert!(said("concurrency: 2").contains("concurrency: is not supported yet and has no effect"));
        assert!(said("{}\n---\n{}").contains("more than one document (expected one ProxyConfig"));
    }
}
