//! What `validate` is told of TLS to endpoints.

use super::reviewed_text;

#[test]
fn tls_within_tls_and_clear_text_to_port_443_are_told() {
    let found = |port: &str, rule: &str| {
        let entry = format!(
            "{{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {{name: se}}, spec: {{hosts: [a.com], \
             resolution: DNS, ports: [{port}]}}}}\n---\n"
        );
        let rule = format!(
            "{{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{name: dr}}, \
             spec: {{host: a.com, trafficPolicy: {{{rule}}}}}}}\n"
        );
        reviewed_text(&(entry + &rule))
    };
    let (https, http) =
        ("{number: 443, name: https, protocol: HTTPS}", "{number: 443, name: http, protocol: HTTP}");
    let other = "loadBalancer: {simple: RANDOM}";
    let own = format!(
        "{other}, portLevelSettings: [{{port: {{number: 443}}, tls: {{mode: MUTUAL, clientCertificate: a, privateKey: b}}}}]"
    );
    for (rule, path) in [
        ("tls: {mode: SIMPLE}", "spec.trafficPolicy.tls: puts TLS around the TLS of clients"),
        (&own, "spec.trafficPolicy.portLevelSettings[0].tls: puts TLS around the TLS of clients"),
    ] {
        let told = found(https, rule);
        assert_eq!(told.len(), 1, "{told:#?}");
        assert!(told[0].contains(path), "{told:#?}");
    }
    let told = found(http, other);
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(
        told[0]
            .contains("spec.ports[0]: is for clear text, and endpoints mostly speak TLS there (found `HTTP`"),
        "{told:#?}"
    );
    for (port, rule) in [
        (https, other),
        (https, "tls: {mode: ISTIO_MUTUAL}"),
        (http, "tls: {mode: SIMPLE}"),
        (http, "tls: {mode: DISABLE}"),
        ("{number: 443, name: http, protocol: HTTP, targetPort: 8080}", other),
        ("{number: 80, name: http, protocol: HTTP}", other),
    ] {
        assert_eq!(found(port, rule), Vec::<String>::new(), "{port} {rule}");
    }
}

#[test]
fn what_is_wrong_with_tls_to_endpoints_is_told_where_it_is_written() {
    let found = |rule: &str| {
        let text = format!(
            "{{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {{name: gw}}, spec: {{selector: {{a: b}}, \
             servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ['*']}}]}}}}\n---\n\
             {{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {{name: se}}, spec: {{hosts: [a.com], \
             resolution: DNS, ports: [{{number: 80, name: http, protocol: HTTP}}]}}}}\n---\n\
             {{apiVersion: v1, kind: Secret, metadata: {{name: ca}}, stringData: {{other: a}}}}\n---\n\
             {{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{name: dr}}, \
             spec: {{host: a.com, {rule}}}}}\n"
        );
        let all = reviewed_text(&text);
        all.into_iter().filter(|finding| finding.contains("holds no CA certificate")).collect::<Vec<_>>()
    };
    let tls = "tls: {mode: SIMPLE, credentialName: ca}";
    let at_port = format!(
        "portLevelSettings: [{{port: {{number: 81}}, tls: {{mode: DISABLE}}}}, {{port: {{number: 80}}, {tls}}}]"
    );
    let subset = |policy: &str| {
        format!(
            "subsets: [{{name: v0, labels: {{v: '0'}}}}, {{name: v1, labels: {{v: '1'}}, trafficPolicy: {{{policy}}}}}]"
        )
    };
    for (rule, path) in [
        (format!("trafficPolicy: {{{tls}}}"), "spec.trafficPolicy.tls."),
        (format!("trafficPolicy: {{{at_port}}}"), "spec.trafficPolicy.portLevelSettings[1].tls."),
        (subset(tls), "spec.subsets[1].trafficPolicy.tls."),
        (subset(&at_port), "spec.subsets[1].trafficPolicy.portLevelSettings[1].tls."),
    ] {
        let told = found(&rule);
        assert_eq!(told.len(), 1, "{rule}: {told:#?}");
        assert!(told[0].contains(path), "no {path} in {}", told[0]);
    }
}
