//! Istio's mesh-wide settings, as far as one proxy needs them.

mod access_log;
mod connection_limit;
mod connection_settings;
mod default_traffic_policy;
mod defaults;
mod forward_client_cert;
mod inbound;
mod outbound;
mod path_normalization;
mod proxy_config;
mod proxy_headers;
mod reading;
#[cfg(test)]
mod tests;
mod tls;
mod trust_domains;

use std::time::Duration;

use crate::{
    ClientTls, Path, Retries,
    decode::{Context, Decode, Fields, Interval, Shape},
    yaml::Node,
};

use self::{inbound::InboundTraffic, outbound::OutboundTraffic, path_normalization::Normalization};

pub use access_log::{AccessLogEncoding, AccessLogFormat};
pub use connection_limit::ConnectionLimit;
pub use connection_settings::{ConnectionSettings, EscapedSlashes, Profile, Underscores};
pub use default_traffic_policy::DefaultTrafficPolicy;
pub use defaults::{DefaultExportTo, MeshDefaults};
pub use forward_client_cert::ForwardClientCertDetails;
pub use inbound::InboundTrafficPolicy;
pub use outbound::OutboundTrafficPolicy;
pub use path_normalization::PathNormalization;
pub use proxy_config::ProxyConfig;
pub use proxy_headers::{ClientCertDetails, ProxyHeaders, ServerHeader};
pub use reading::MeshReading;
pub use tls::MeshTls;

/// The part of Istio's `MeshConfig` that this proxy acts on.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct MeshConfig {
    /// `accessLogFile`: where access log lines go; `None` (absent or empty) means nowhere.
    pub access_log_file: Option<String>,
    /// `accessLogEncoding`.
    pub access_log_encoding: AccessLogEncoding,
    /// `accessLogFormat`; `None` (absent or empty) is Istio's default.
    pub access_log_format: Option<AccessLogFormat>,
    /// `outboundTrafficPolicy.mode`.
    pub outbound_traffic_policy: OutboundTrafficPolicy,
    /// `outboundTrafficPolicy.tls`: how hosts are spoken to whose names are looked up; absent means in clear text.
    pub outbound_tls: Option<ClientTls>,
    /// `inboundTrafficPolicy.mode`.
    pub inbound_traffic_policy: InboundTrafficPolicy,
    /// `defaultHttpRetryPolicy`: how requests are retried where no rule says it.
    pub default_http_retry_policy: Option<Retries>,
    /// `defaultTrafficPolicy`: what DestinationRules are laid over.
    pub default_traffic_policy: DefaultTrafficPolicy,
    /// What resources lay their own over.
    pub defaults: MeshDefaults,
    /// `connectTimeout`: how long connecting to an endpoint may take; absent means 10 s.
    pub connect_timeout: Option<Duration>,
    /// `rootNamespace`; absent means `istio-system`.
    pub root_namespace: Option<String>,
    /// `pathNormalization.normalization`.
    pub path_normalization: PathNormalization,
    /// Whether connections to gateways begin with a PROXY header
    /// (`defaultConfig.gatewayTopology.proxyProtocol: {}`).
    pub gateway_proxy_protocol: bool,
    /// Proxies before gateways whose `x-forwarded-for` and `x-forwarded-proto` are believed
    /// (`defaultConfig.gatewayTopology.numTrustedProxies`).
    pub gateway_trusted_proxies: u32,
    /// `defaultConfig.gatewayTopology.forwardClientCertDetails`, for gateways.
    pub gateway_forward_client_cert: Option<ForwardClientCertDetails>,
    /// `defaultConfig.connectionSettings`.
    pub connection_settings: ConnectionSettings,
    /// Connections from clients that a proxy may have (`defaultConfig`).
    pub connection_limit: ConnectionLimit,
    /// `defaultConfig.proxyHeaders`.
    pub proxy_headers: ProxyHeaders,
    /// `enableAutoMtls`; absent means yes.
    pub enable_auto_mtls: Option<bool>,
    /// `meshMTLS`: for the mesh's own mutual TLS.
    pub mesh_mtls: MeshTls,
    /// `tlsDefaults`: for all other TLS.
    pub tls_defaults: MeshTls,
    /// The trust domain of the mesh (`trustDomain`), if it is written.
    pub trust_domain: Option<String>,
    /// Further trust domains whose identities are those of the mesh (`trustDomainAliases`).
    pub trust_domain_aliases: Vec<String>,
}

/// Fields of the interface that other proxies act on and this one does not yet.
const PLANNED: [&str; 9] = [
    "enableTracing",
    "extensionProviders",
    "protocolDetectionTimeout",
    "serviceSettings",
    "caCertificates",
    "dnsRefreshRate",
    "disableEnvoyListenerLog",
    "enableEnvoyAccessLogService",
    "hboneIdleTimeout",
];

impl Shape for MeshConfig {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        for name in PLANNED {
            fields.planned::<Anything>(name);
        }
        // Who runs the control plane and where it listens is nothing to a proxy without one, nor what injection writes.
        fields.ignore(&[
            "configSources",
            "discoverySelectors",
            "ingressClass",
            "ingressControllerMode",
            "ingressService",
            "ingressSelector",
            "enablePrometheusMerge",
        ]);
        let file: Option<String> = fields.optional("accessLogFile");
        let outbound: OutboundTraffic = fields.or_default("outboundTrafficPolicy");
        let Normalization(path_normalization) = fields.or_default("pathNormalization");
        let access_log_file = file.filter(|file| !file.is_empty());
        let access_log_encoding = fields.or_default("accessLogEncoding");
        let format: Option<AccessLogFormat> = fields.optional("accessLogFormat");
        let InboundTraffic(inbound_traffic_policy) = fields.or_default("inboundTrafficPolicy");
        let of_proxies: ProxyConfig = fields.or_default("defaultConfig");
        let written = Self {
            access_log_file,
            access_log_encoding,
            access_log_format: format.filter(|format| !format.text.is_empty()),
            outbound_traffic_policy: outbound.mode,
            outbound_tls: outbound.tls,
            inbound_traffic_policy,
            default_http_retry_policy: fields.optional("defaultHttpRetryPolicy"),
            default_traffic_policy: fields
                .or_default::<DefaultTrafficPolicy>("defaultTrafficPolicy")
                .with_keepalive(fields.optional("tcpKeepalive")),
            defaults: MeshDefaults::read(fields),
            connect_timeout: fields.optional("connectTimeout").map(Interval::get),
            root_namespace: fields.optional("rootNamespace"),
            path_normalization,
            enable_auto_mtls: fields.optional("enableAutoMtls"),
            mesh_mtls: fields.or_default("meshMTLS"),
            tls_defaults: fields.or_default("tlsDefaults"),
            trust_domain: fields.optional("trustDomain"),
            trust_domain_aliases: fields.or_default("trustDomainAliases"),
            ..Self::default()
        };
        written.with_proxy_config(&of_proxies)
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        if let Some(name) = self.trust_domain.as_deref().filter(|name| !name.is_empty()) {
            trust_domains::check(name, &at.field("trustDomain"), context);
        }
        self.defaults.check(at, context);
        let aliases = at.field("trustDomainAliases");
        for (index, name) in self.trust_domain_aliases.iter().enumerate() {
            trust_domains::check(name, &aliases.index(index), context);
        }
    }
}

/// A value that is not looked at.
#[derive(Default)]
struct Anything;

impl Decode for Anything {
    fn decode(_: &Node<'_>, _: &Path<'_>, _: &mut Context<'_>) -> Self {
        Self
    }
}
