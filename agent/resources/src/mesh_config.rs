//! Istio's mesh-wide settings, as far as one proxy needs them.

mod connection_limit;
mod connection_settings;
mod default_traffic_policy;
mod defaults;
mod forward_client_cert;
mod outbound;
mod proxy_config;
mod proxy_headers;
mod reading;
mod tls;
mod trust_domains;

use std::time::Duration;

use crate::{
    ClientTls, Path, Retries,
    decode::{Context, Decode, Fields, Shape, word, word_of},
    finding::Place,
    yaml::Node,
};

use self::outbound::OutboundTraffic;

pub use connection_limit::ConnectionLimit;
pub use connection_settings::{ConnectionSettings, EscapedSlashes, Profile, Underscores};
pub use default_traffic_policy::DefaultTrafficPolicy;
pub use defaults::{DefaultExportTo, MeshDefaults};
pub use forward_client_cert::ForwardClientCertDetails;
pub use outbound::OutboundTrafficPolicy;
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

/// What is done to the path of a request before it is matched.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum PathNormalization {
    /// Nothing.
    None,
    /// Segments `.` and `..` are resolved and `\` becomes `/` (also `DEFAULT`).
    #[default]
    Base,
    /// Also, several `/` become one.
    MergeSlashes,
    /// Also, escaped slashes become plain ones first.
    DecodeAndMergeSlashes,
}

/// How access log lines are written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum AccessLogEncoding {
    /// Lines of text (`TEXT`).
    #[default]
    Text,
    /// A JSON object per line (`JSON`).
    Json,
}

/// How the user wants access log lines.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AccessLogFormat {
    /// Text with operators, or a JSON object of such texts.
    pub text: String,
    /// Where it stands, as `file:line:column`.
    pub place: String,
}

impl Decode for AccessLogFormat {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        let place = Place::whole(context.file().clone()).at(node.position).to_string();
        Self { text: String::decode(node, at, context), place }
    }
}

impl Decode for AccessLogEncoding {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        word_of(node, &[("TEXT", Self::Text), ("JSON", Self::Json)], at, context)
    }
}

/// Where calls to the workload go (`InboundTrafficPolicy`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum InboundTrafficPolicy {
    /// Where they were going (`PASSTHROUGH`).
    #[default]
    Passthrough,
    /// To the loopback address (`LOCALHOST`), as releases before 1.10 did.
    Localhost,
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
            connect_timeout: fields.optional("connectTimeout"),
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

#[derive(Default)]
struct InboundTraffic(InboundTrafficPolicy);

impl Shape for InboundTraffic {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self(fields.or_default("mode"))
    }
}

impl Decode for InboundTrafficPolicy {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        word_of(node, &[("PASSTHROUGH", Self::Passthrough), ("LOCALHOST", Self::Localhost)], at, context)
    }
}

impl Decode for OutboundTrafficPolicy {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        word(node, &["ALLOW_ANY", "REGISTRY_ONLY"], at, context)
    }
}

impl std::str::FromStr for OutboundTrafficPolicy {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "ALLOW_ANY" => Ok(Self::AllowAny),
            "REGISTRY_ONLY" => Ok(Self::RegistryOnly),
            _ => Err(()),
        }
    }
}

#[derive(Default)]
struct Normalization(PathNormalization);

impl Shape for Normalization {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self(fields.or_default("normalization"))
    }
}

impl Decode for PathNormalization {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        let words = ["DEFAULT", "NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"];
        word(node, &words, at, context)
    }
}

impl std::str::FromStr for PathNormalization {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "DEFAULT" | "BASE" => Ok(Self::Base),
            "NONE" => Ok(Self::None),
            "MERGE_SLASHES" => Ok(Self::MergeSlashes),
            "DECODE_AND_MERGE_SLASHES" => Ok(Self::DecodeAndMergeSlashes),
            _ => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ClientTlsMode;

    fn read(text: &str) -> (Option<MeshConfig>, Vec<String>) {
        let reading = MeshConfig::read("mesh.yaml", text);
        let findings = reading.findings.iter().map(ToString::to_string).collect();
        (reading.whole().cloned(), findings)
    }

    #[test]
    fn the_default_traffic_policy_has_two_blocks() {
        let text = "defaultTrafficPolicy: {connectionPool: {tcp: {maxConnections: 5}}, outlierDetection: {}, tls: {}}";
        let (config, findings) = read(text);
        let policy = config.unwrap().default_traffic_policy;
        assert_eq!(policy.connection_pool.unwrap().tcp.max_connections, Some(5));
        assert!(policy.outlier_detection.is_some());
        assert!(matches!(&findings[..], [only] if only.contains("defaultTrafficPolicy.tls")), "{findings:?}");
    }

    #[test]
    fn names_of_any_host_may_be_looked_up_for_the_whole_mesh() {
        let (config, findings) =
            read("outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS, tls: {mode: SIMPLE, sni: a.com}}\n");
        let config = config.unwrap();
        assert_eq!(config.outbound_traffic_policy, OutboundTrafficPolicy::AllowAnyDynamicDns);
        let tls = config.outbound_tls.unwrap();
        assert_eq!((tls.mode, tls.sni.as_deref()), (ClientTlsMode::Simple, Some("a.com")));
        assert!(findings.is_empty(), "{findings:?}");
    }

    #[test]
    fn tls_to_unknown_hosts_is_for_names_that_are_looked_up_and_not_the_meshs_own() {
        let (config, findings) = read("outboundTrafficPolicy: {tls: {mode: SIMPLE}}\n");
        assert!(config.is_some());
        assert!(findings[0].contains("outboundTrafficPolicy.tls") && findings[0].contains("has no effect"));
        for tls in ["{mode: ISTIO_MUTUAL}", "{mode: MUTUAL}", "{mode: TLS}"] {
            let text = format!("outboundTrafficPolicy: {{mode: ALLOW_ANY_DYNAMIC_DNS, tls: {tls}}}\n");
            let reading = MeshConfig::read("mesh.yaml", &text);
            assert!(reading.whole().is_none(), "{tls}");
            // Nothing goes out in clear text, or unverified, for a mistake.
            assert_eq!(reading.config.outbound_traffic_policy, OutboundTrafficPolicy::RegistryOnly, "{tls}");
        }
    }

    #[test]
    fn an_access_log_file_is_taken_and_an_empty_one_is_none() {
        let (config, findings) =
            read("accessLogFile: /dev/stdout\noutboundTrafficPolicy: {mode: REGISTRY_ONLY}\n");
        let config = config.unwrap();
        assert_eq!(config.access_log_file.as_deref(), Some("/dev/stdout"));
        assert_eq!(config.outbound_traffic_policy, OutboundTrafficPolicy::RegistryOnly);
        assert!(findings.is_empty(), "{findings:?}");
        assert_eq!(read("accessLogFile: ''\n").0, Some(MeshConfig::default()));
        assert_eq!(read("").0, Some(MeshConfig::default()));
    }

    #[test]
    fn path_normalization_is_a_word_and_base_by_default() {
        let mode = |word: &str| {
            let (config, findings) = read(&format!("pathNormalization: {{normalization: {word}}}\n"));
            config.map(|config| config.path_normalization).ok_or(findings)
        };
        assert_eq!(mode("NONE"), Ok(PathNormalization::None));
        assert_eq!(mode("DEFAULT"), Ok(PathNormalization::Base));
        assert_eq!(mode("DECODE_AND_MERGE_SLASHES"), Ok(PathNormalization::DecodeAndMergeSlashes));
        assert_eq!(MeshConfig::default().path_normalization, PathNormalization::Base);
        assert!(mode("merge").unwrap_err()[0].contains("MERGE_SLASHES"));
    }

    #[test]
    fn policies_and_times_are_taken() {
        let (config, findings) =
            read("inboundTrafficPolicy: {mode: LOCALHOST}\nconnectTimeout: 3s\nrootNamespace: root\n");
        let expected = MeshConfig {
            inbound_traffic_policy: InboundTrafficPolicy::Localhost,
            connect_timeout: Some(Duration::from_secs(3)),
            root_namespace: Some("root".to_owned()),
            ..MeshConfig::default()
        };
        assert_eq!((config, findings), (Some(expected), vec![]));
    }

    #[test]
    fn only_what_has_no_effect_is_warned_of() {
        let told = |text: &str| read(text).1;
        assert!(told("defaultConfig: {gatewayTopology: {proxyProtocol: {}}}\n").is_empty());
        let rest = told("defaultConfig: {concurrency: 2, gatewayTopology: {other: 1}}\n");
        assert_eq!(rest.len(), 2, "{rest:?}");
        let said = "is not supported yet and has no effect (remove it)";
        for (line, path) in rest.iter().zip(["gatewayTopology.other", "concurrency"]) {
            assert!(line.to_string().contains(&format!("defaultConfig.{path}: {said}")), "{line}");
        }
    }

    #[test]
    fn what_is_told_of_clients_certificates_is_read() {
        let told = |topology: &str, headers: &str| {
            let text = format!(
                "defaultConfig: {{gatewayTopology: {{forwardClientCertDetails: {topology}}}, \
                 proxyHeaders: {{forwardedClientCert: {headers}}}}}\n"
            );
            let config = read(&text).0?;
            Some((config.gateway_forward_client_cert, config.proxy_headers.forwarded_client_cert))
        };
        let (append, sanitize) =
            (ForwardClientCertDetails::AppendForward, ForwardClientCertDetails::Sanitize);
        assert_eq!(told("APPEND_FORWARD", "SANITIZE"), Some((Some(append), Some(sanitize))));
        assert_eq!(told("UNDEFINED", "UNDEFINED"), Some((None, None)));
        assert_eq!(told("APPEND", "SANITIZE"), None);
    }

    #[test]
    fn proxies_before_gateways_are_counted() {
        let text = "defaultConfig: {gatewayTopology: {numTrustedProxies: 2}}\n";
        assert_eq!(read(text).0.map(|config| config.gateway_trusted_proxies), Some(2));
        assert_eq!(read("defaultConfig: {gatewayTopology: {numTrustedProxies: many}}\n").0, None);
    }

    #[test]
    fn tls_of_the_whole_mesh_is_read() {
        let text = "enableAutoMtls: false\nmeshMTLS: {minProtocolVersion: TLSV1_3}\n\
                    tlsDefaults: {cipherSuites: [A], ecdhCurves: [P-256]}\n";
        let (config, findings) = read(text);
        let config = config.unwrap();
        assert_eq!((config.enable_auto_mtls, findings), (Some(false), vec![]));
        assert_eq!(config.mesh_mtls.min_protocol_version, crate::TlsVersion::V1_3);
        assert_eq!(
            (&*config.tls_defaults.cipher_suites, &*config.tls_defaults.ecdh_curves),
            (&["A".to_owned()][..], &["P-256".to_owned()][..])
        );
    }

    #[test]
    fn trust_domains_are_names() {
        let (config, findings) = read("trustDomain: td1\ntrustDomainAliases: [td2, cluster.local]\n");
        assert_eq!((config.unwrap().trust_domain_aliases.len(), findings), (2, vec![]));
        for (text, at) in [
            ("trustDomain: spiffe://td1\n", "trustDomain: is not a trust domain (found `spiffe://td1`;"),
            ("trustDomainAliases: [td1, td2/ns]\n", "trustDomainAliases[1]: is not a trust domain"),
            ("trustDomainAliases: ['']\n", "trustDomainAliases[0]: is not a trust domain"),
        ] {
            let (config, findings) = read(text);
            assert!(config.is_none() && findings[0].contains(at), "{text}: {findings:?}");
        }
    }

    #[test]
    fn what_has_no_effect_is_said() {
        let (config, findings) = read("enableTracing: true\naccesLogFile: x\n");
        assert!(config.is_some());
        assert!(findings[0].contains("enableTracing") && findings[0].contains("no effect"), "{findings:?}");
        assert!(findings[1].contains("did you mean `accessLogFile`?"), "{findings:?}");
    }

    #[test]
    fn mistakes_refuse_it_with_their_place() {
        let (config, findings) = read("outboundTrafficPolicy:\n  mode: allow\n");
        assert_eq!(config, None);
        assert!(findings[0].starts_with("mesh.yaml:2:"), "{findings:?}");
        assert_eq!(read("{").0, None);
    }
}
