use super::*;
use crate::ClientTlsMode;

fn read(text: &str) -> (Option<MeshConfig>, Vec<String>) {
    let reading = MeshConfig::read("mesh.yaml", text);
    let findings = reading.findings.iter().map(ToString::to_string).collect();
    (reading.whole().cloned(), findings)
}

#[test]
fn the_default_traffic_policy_has_two_blocks() {
    let text =
        "defaultTrafficPolicy: {connectionPool: {tcp: {maxConnections: 5}}, outlierDetection: {}, tls: {}}";
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
    let (append, sanitize) = (ForwardClientCertDetails::AppendForward, ForwardClientCertDetails::Sanitize);
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
