use rustls_pki_types::PrivateKeyDer;

use super::*;
use crate::{
    Binding, Certificate, ClusterId, ClusterTarget, Credential, Direction, Draft, FilterChain,
    FilterChainMatch, HttpConnections, Listener, NetworkFilter, PathMatch, Route, RouteAction, RouteConfig,
    RouteConfigId, RouteMatch, TlsContext, TlsContextId, VirtualHost, WeightedClusters,
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
    let dump = config_dump(&draft.finish(), &version, &LiveClusters::default());
    let listener = &dump["configs"][2]["dynamic_listeners"][0];
    assert_eq!(listener["name"], "0.0.0.0_8080");
    assert_eq!(listener["active_state"]["version_info"], "7");
    let filter = &listener["active_state"]["listener"]["filter_chains"][0]["filters"][0];
    assert_eq!(filter["typed_config"]["rds"]["route_config_name"], "http.8080");
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
