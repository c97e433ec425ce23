//! Fields that a proxy itself puts into heads.

use super::{ForwardClientCertDetails, forward_client_cert};
use crate::{
    Path,
    decode::{Context, Decode, Fields, Shape, word_of},
    virtual_service::is_one_line,
    yaml::Node,
};

/// `ProxyConfig.ProxyHeaders`; what is absent is as Istio has it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ProxyHeaders {
    /// `forwardedClientCert`, for inbound calls of sidecars.
    pub forwarded_client_cert: Option<ForwardClientCertDetails>,
    /// `setCurrentClientCertDetails`: what is told of clients' certificates.
    pub client_cert_details: Option<ClientCertDetails>,
    /// `server`: what answers say of their server.
    pub server: Option<ServerHeader>,
    /// Whether requests get an `x-request-id` (`requestId`).
    pub request_id: Option<bool>,
    /// Whether endpoints are told how often they were asked (`attemptCount`).
    pub attempt_count: Option<bool>,
    /// Whether the proxy tells what happened on the way (`envoyDebugHeaders`).
    pub envoy_debug_headers: Option<bool>,
    /// Whether a host that a route replaces is told (`xForwardedHost`).
    pub x_forwarded_host: Option<bool>,
    /// Whether gateways tell the port that the client came by (`xForwardedPort`).
    pub x_forwarded_port: Option<bool>,
}

impl ProxyHeaders {
    /// These, with what they leave out taken from `base`.
    #[must_use]
    pub fn over(&self, base: &Self) -> Self {
        Self {
            forwarded_client_cert: self.forwarded_client_cert.or(base.forwarded_client_cert),
            client_cert_details: self.client_cert_details.or(base.client_cert_details),
            server: self.server.clone().or_else(|| base.server.clone()),
            request_id: self.request_id.or(base.request_id),
            attempt_count: self.attempt_count.or(base.attempt_count),
            envoy_debug_headers: self.envoy_debug_headers.or(base.envoy_debug_headers),
            x_forwarded_host: self.x_forwarded_host.or(base.x_forwarded_host),
            x_forwarded_port: self.x_forwarded_port.or(base.x_forwarded_port),
        }
    }
}

impl Shape for ProxyHeaders {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let forward_client_cert::Written(forwarded_client_cert) = fields.or_default("forwardedClientCert");
        let unless = |switch: Option<Disabled>| switch.map(|Disabled(disabled)| !disabled);
        let headers = Self {
            forwarded_client_cert,
            client_cert_details: fields.optional("setCurrentClientCertDetails"),
            server: fields.optional("server"),
            request_id: unless(fields.optional("requestId")),
            attempt_count: unless(fields.optional("attemptCount")),
            envoy_debug_headers: unless(fields.optional("envoyDebugHeaders")),
            x_forwarded_host: fields.optional("xForwardedHost").map(|Enabled(enabled)| enabled),
            x_forwarded_port: fields.optional("xForwardedPort").map(|Enabled(enabled)| enabled),
        };
        // Proxies introduce themselves within the mesh only, and the case of fields is kept, whatever is written.
        fields.unused::<MetadataExchange>("metadataExchangeHeaders");
        fields.unused::<bool>("preserveHttp1HeaderCase");
        headers
    }
}

/// `ProxyHeaders.Server`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum ServerHeader {
    /// Nothing is said of it.
    #[default]
    Proxy,
    /// This name (`value`).
    Named(String),
    /// What the endpoint says (`disabled`).
    Endpoint,
}

impl Shape for ServerHeader {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let disabled: bool = fields.or_default("disabled");
        let FieldValue(value) = fields.or_default("value");
        match (disabled, value.is_empty()) {
            (true, _) => Self::Endpoint,
            (false, false) => Self::Named(value),
            (false, true) => Self::Proxy,
        }
    }
}

/// A text that goes into heads as it is; empty where it cannot, for the rest of the settings may hold nevertheless.
#[derive(Default)]
struct FieldValue(String);

impl Decode for FieldValue {
    const FORM: &'static str = String::FORM;

    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        let value = String::decode(node, at, context);
        if is_one_line(&value, at, context) { Self(value) } else { Self::default() }
    }
}

/// `ProxyHeaders.SetCurrentClientCertDetails`: what `x-forwarded-client-cert` tells besides the hash.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ClientCertDetails {
    /// The distinguished name.
    pub subject: bool,
    /// The certificate itself.
    pub cert: bool,
    /// All that the client has sent.
    pub chain: bool,
    /// Its host names.
    pub dns: bool,
    /// Its URIs.
    pub uri: bool,
}

impl Default for ClientCertDetails {
    fn default() -> Self {
        Self { subject: true, cert: false, chain: false, dns: true, uri: true }
    }
}

impl Shape for ClientCertDetails {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let default = Self::default();
        Self {
            subject: fields.optional("subject").unwrap_or(default.subject),
            cert: fields.optional("cert").unwrap_or(default.cert),
            chain: fields.optional("chain").unwrap_or(default.chain),
            dns: fields.optional("dns").unwrap_or(default.dns),
            uri: fields.optional("uri").unwrap_or(default.uri),
        }
    }
}

#[derive(Default)]
struct Disabled(bool);

impl Shape for Disabled {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self(fields.or_default("disabled"))
    }
}

#[derive(Default)]
struct Enabled(bool);

impl Shape for Enabled {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self(fields.or_default("enabled"))
    }
}

#[derive(Default)]
struct MetadataExchange;

impl Shape for MetadataExchange {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        fields.unused::<ExchangeMode>("mode");
        Self
    }
}

#[derive(Clone, Copy, Default)]
struct ExchangeMode;

impl Decode for ExchangeMode {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        word_of(node, &[("UNDEFINED", Self), ("IN_MESH", Self)], at, context)
    }
}

#[cfg(test)]
mod tests {
    use super::super::ProxyConfig;
    use super::*;

    fn read(text: &str) -> (ProxyHeaders, Vec<String>) {
        let (config, findings) = ProxyConfig::read("PROXY_CONFIG", &format!("proxyHeaders: {text}"));
        (config.proxy_headers, findings.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn every_field_is_read() {
        let (headers, findings) = read(
            "{server: {value: shop}, requestId: {disabled: true}, attemptCount: {disabled: true}, envoyDebugHeaders: \
             {disabled: true}, xForwardedHost: {enabled: true}, xForwardedPort: {enabled: true}, \
             setCurrentClientCertDetails: {subject: false, chain: true}, metadataExchangeHeaders: {mode: IN_MESH}, \
             preserveHttp1HeaderCase: true}",
        );
        assert_eq!(findings, Vec::<String>::new());
        let expected = ProxyHeaders {
            forwarded_client_cert: None,
            client_cert_details: Some(ClientCertDetails {
                subject: false,
                chain: true,
                ..ClientCertDetails::default()
            }),
            server: Some(ServerHeader::Named("shop".to_owned())),
            request_id: Some(false),
            attempt_count: Some(false),
            envoy_debug_headers: Some(false),
            x_forwarded_host: Some(true),
            x_forwarded_port: Some(true),
        };
        assert_eq!(headers, expected);
    }

    #[test]
    fn what_a_pod_leaves_out_is_the_meshs() {
        let (mesh, _) = read("{server: {disabled: true}, attemptCount: {disabled: true}}");
        let (own, _) = read("{server: {value: shop}, requestId: {}}");
        let both = own.over(&mesh);
        assert_eq!(both.server, Some(ServerHeader::Named("shop".to_owned())));
        assert_eq!(
            (both.request_id, both.attempt_count, both.x_forwarded_host),
            (Some(true), Some(false), None)
        );
    }

    #[test]
    fn mistakes_have_a_place() {
        let (_, findings) = read("{xForwardedPort: {enable: true}}");
        assert!(findings[0].contains("xForwardedPort.enable: is not a field of this object"), "{findings:?}");
        let (_, findings) = read("{server: {value: 1}}");
        assert!(findings[0].contains("server.value: has the wrong type"), "{findings:?}");
    }

    #[test]
    fn a_name_that_would_end_the_field_or_the_head_is_not_taken() {
        for value in ["\"shop\\r\\nx-evil: 1\"", "\"shop\\n\"", "\"a\\0b\"", "\"\\x7f\""] {
            let (headers, findings) =
                read(&format!("{{server: {{value: {value}}}, requestId: {{disabled: true}}}}"));
            assert_eq!(
                (headers.server, headers.request_id),
                (Some(ServerHeader::Proxy), Some(false)),
                "{value}"
            );
            let expected =
                "proxyHeaders.server.value: holds a line break or another control character (found";
            assert!(findings[0].contains(expected), "{findings:?}");
        }
        assert_eq!(read("{server: {value: \"a\\tb é\"}}").1, Vec::<String>::new());
    }
}
