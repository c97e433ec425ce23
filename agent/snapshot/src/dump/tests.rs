use rustls_pki_types::PrivateKeyDer;

use super::*;
use crate::{
    Authority, Binding, Certificate, CipherSuite, Cluster, ClusterId, ClusterTarget, Credential, Direction,
    Discovery, Draft, FilterChain, FilterChainMatch, HttpConnections, Listener, NameMatch, NetworkFilter,
    PathMatch, ProxyProtocol, Route, RouteAction, RouteConfig, RouteConfigId, RouteMatch, ServerCheck,
    ServerNameSource, TlsContext, TlsContextId, TlsParameters, TlsVersion, UpstreamProtocol, UpstreamTls,
    UpstreamTlsUse, VirtualHost, WeightedClusters,
};

#[test]
fn a_gateway_is_dumped_under_istios_names() {
    let key = PrivateKeyDer::Pkcs8(b"topsecret".to_vec().into());
    let target = ClusterTarget {
        name: "outbound|8000||h".into(),
        id: Some(ClusterId(0)),
        weight: 0,
        authority: None,
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
                filter: NetworkFilter::Http(HttpConnections::new(RouteConfigId(0))),
            }],
            default_filter_chain: None,
        }],
        route_configs: vec![RouteConfig::new(
            "http.8080",
            vec![VirtualHost {
                name: "a.com:80".into(),
                domains: vec!["a.com".parse().unwrap()],
                require_tls: true,
                required_by: String::new(),
                tls_exempt: Vec::new(),
                routes: vec![Route {
                    virtual_service: Some("default/vs".into()),
                    ..Route::new(
                        RouteMatch::on_path(PathMatch::prefix("/status")),
                        RouteAction::Forward(WeightedClusters::new(vec![target]).unwrap().into()),
                    )
                }]
                .into(),
            }],
        )],
        clusters: vec![],
        tls_contexts: vec![TlsContext {
            name: "kubernetes://cert".into(),
            credentials: vec![Credential {
                name: "kubernetes://cert".into(),
                certificate: Some(Certificate::new(vec![], key)),
            }],
            alpn: vec!["h2".into()],
            ..TlsContext::default()
        }],
        foreign_gateways: Vec::new(),
        ..Draft::default()
    };
    let version = DumpVersion { number: 7, last_updated: String::new() };
    let dump = config_dump(&draft.finish(), &version, &LiveClusters::default(), &["websocket"]);
    let listener = &dump["configs"][2]["dynamic_listeners"][0];
    assert_eq!(listener["name"], "0.0.0.0_8080");
    assert_eq!(listener["active_state"]["version_info"], "7");
    let filter = &listener["active_state"]["listener"]["filter_chains"][0]["filters"][0];
    assert_eq!(filter["typed_config"]["rds"]["route_config_name"], "http.8080");
    assert_eq!(filter["typed_config"]["upgrade_configs"], json!([{"upgrade_type": "websocket"}]));
    let host = &dump["configs"][3]["dynamic_route_configs"][0]["route_config"]["virtual_hosts"][0];
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

/// A cluster's entry in the dump.
fn dumped(tls: UpstreamTls, change: impl FnOnce(&mut Cluster)) -> Value {
    let mut cluster = Cluster::new("outbound|443||h", Discovery::Endpoints(Vec::new()));
    cluster.tls = Some(tls.into());
    change(&mut cluster);
    let draft = Draft { clusters: vec![cluster], ..Draft::default() };
    let version = DumpVersion { number: 1, last_updated: String::new() };
    let mut dump = config_dump(&draft.finish(), &version, &LiveClusters::default(), &[]);
    dump["configs"][0]["dynamic_active_clusters"][0]["cluster"].take()
}

fn by_system() -> UpstreamTls {
    UpstreamTls {
        endpoints: UpstreamTlsUse::All,
        server_name: ServerNameSource::Authority,
        check: ServerCheck::System(Vec::new()),
        credential: None,
        of_mesh: false,
        parameters: TlsParameters::default(),
    }
}

#[test]
fn tls_to_endpoints_is_dumped_without_secrets() {
    let key = PrivateKeyDer::Pkcs8(b"topsecret".to_vec().into());
    let tls = UpstreamTls {
        server_name: ServerNameSource::Fixed("a.com".into()),
        check: ServerCheck::Authority(
            Authority { name: "kubernetes://own-cacert".into(), bundle: None },
            vec![NameMatch::Exact("b.com".into()), NameMatch::Prefix("spiffe://td/".into())],
        ),
        credential: Some(Credential {
            name: "kubernetes://own".into(),
            certificate: Some(Certificate::new(vec![], key)),
        }),
        parameters: TlsParameters {
            min_version: TlsVersion::V1_3,
            cipher_suites: vec![CipherSuite::EcdheRsaAes128Gcm],
            ..TlsParameters::default()
        },
        ..by_system()
    };
    let cluster = dumped(tls, |cluster| cluster.protocol = UpstreamProtocol::Http2);
    assert_eq!(
        cluster["transport_socket"],
        json!({"name": "envoy.transport_sockets.tls", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "sni": "a.com",
            "common_tls_context": {
                "alpn_protocols": ["h2"],
                "tls_params": {
                    "tls_minimum_protocol_version": "TLSv1_3",
                    "cipher_suites": ["ECDHE-RSA-AES128-GCM-SHA256"],
                },
                "tls_certificate_sds_secret_configs": [{"name": "kubernetes://own"}],
                "combined_validation_context": {
                    "default_validation_context": {
                        "match_subject_alt_names": [{"exact": "b.com"}, {"prefix": "spiffe://td/"}],
                    },
                    "validation_context_sds_secret_config": {"name": "kubernetes://own-cacert"},
                },
            },
        }})
    );
    assert!(!cluster.to_string().contains("topsecret"));
}

#[test]
fn names_that_follow_the_host_are_dumped_as_envoys_own() {
    let options = |tls, protocol| {
        let cluster = dumped(tls, |cluster| cluster.protocol = protocol);
        let socket = &cluster["transport_socket"]["typed_config"];
        assert_eq!(socket["sni"], Value::Null);
        cluster["typed_extension_protocol_options"]["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]
            ["upstream_http_protocol_options"]
            .clone()
    };
    let automatic = json!({"auto_sni": true, "auto_san_validation": true});
    assert_eq!(options(by_system(), UpstreamProtocol::Http1), automatic);
    assert_eq!(options(by_system(), UpstreamProtocol::AsDownstream), automatic);
    let unverified = UpstreamTls { check: ServerCheck::Unverified, ..by_system() };
    assert_eq!(
        options(unverified, UpstreamProtocol::Http2),
        json!({"auto_sni": true, "auto_san_validation": false})
    );
}

#[test]
fn endpoints_in_the_mesh_are_told_apart_as_by_istio() {
    let tls = UpstreamTls {
        endpoints: UpstreamTlsUse::Ready,
        server_name: ServerNameSource::Fixed("outbound_.443_._.h".into()),
        of_mesh: true,
        ..by_system()
    };
    let cluster = dumped(tls, |cluster| cluster.proxy_protocol = Some(ProxyProtocol::V2));
    assert_eq!(cluster["transport_socket"], Value::Null);
    let [ready, others] = [0, 1].map(|at| &cluster["transport_socket_matches"][at]);
    assert_eq!((&ready["match"], &others["match"]), (&json!({"tlsMode": "istio"}), &json!({})));
    let inner = |matched: &Value| {
        let config = &matched["transport_socket"]["typed_config"];
        assert_eq!(config["config"]["version"], "V2");
        config["transport_socket"].clone()
    };
    let common = &inner(ready)["typed_config"]["common_tls_context"];
    assert_eq!(common["alpn_protocols"], json!(["istio-http/1.1", "istio", "http/1.1"]));
    let authority = &common["combined_validation_context"]["validation_context_sds_secret_config"];
    assert_eq!(authority["name"], "file-root:system");
    assert_eq!(inner(others)["name"], "envoy.transport_sockets.raw_buffer");
}
