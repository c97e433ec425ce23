//! What `validate` is told without a proxy.

use resources::{Files, ReadDefaults, Rule};
use snapshot::Certificate;
use translate::{Credentials, review};

use crate::support;

fn reviewed(scenario: &str) -> Vec<String> {
    let path = support::inputs().into_iter().find(|path| path.ends_with(format!("{scenario}.yaml"))).unwrap();
    let mut files = Files::new(ReadDefaults::default());
    files.replace_file("a.yaml", &std::fs::read_to_string(path).unwrap());
    let (set, _) = files.resources();
    let findings = review(&set, &Credentials::UNSEEN, "cluster.local");
    findings.iter().map(|finding| format!("{:?} {}", finding.rule, finding.path)).collect()
}

#[test]
fn gateways_and_sidecars_are_both_reviewed() {
    let found = reviewed("unknown-references");
    assert!(found.contains(&format!("{:?} spec.gateways[1]", Rule::UnknownReference)), "{found:#?}");
    assert!(found.contains(&format!("{:?} spec.http[0].route[0].destination.host", Rule::UnknownReference)));
    let found = reviewed("sidecar");
    assert!(found.contains(&format!("{:?} spec.hosts[0]", Rule::Conflict)), "{found:#?}");
    let found = reviewed("gateway-shared-host");
    assert!(found.contains(&format!("{:?} spec.http[1]", Rule::Shadowed)), "{found:#?}");
}

#[test]
fn a_good_configuration_has_no_findings() {
    for scenario in
        ["coolstore", "demo", "httpbin", "httpbin-tls", "httpbin-dual-one-server", "sidecar-endpoints"]
    {
        assert_eq!(reviewed(scenario), Vec::<String>::new(), "{scenario}");
    }
}

#[test]
fn what_a_sidecar_keeps_from_one_workload_is_there_for_others() {
    let text = "{apiVersion: v1, kind: Service, metadata: {name: other, namespace: prod}, spec: {ports: [{port: 80}]}}\n---\n\
                apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: prod}\n\
                spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}]}\n---\n\
                apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a, namespace: prod}\n\
                spec: {host: a, trafficPolicy: {loadBalancer: {simple: RANDOM}}}\n---\n\
                apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a, namespace: prod}\n\
                spec: {hosts: [a], http: [{route: [{destination: {host: a}}]}]}\n---\n\
                apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: b, namespace: prod}\n\
                spec: {workloadSelector: {labels: {app: b}}, egress: [{hosts: ['./other.prod.svc.cluster.local']}]}\n";
    let review_of = |text: &str| {
        let mut files = Files::new(ReadDefaults::default());
        files.replace_file("a.yaml", text);
        let found = review(&files.resources().0, &Credentials::UNSEEN, "cluster.local");
        found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(review_of(text), Vec::<String>::new());
    assert_eq!(review_of(&text.replace("host: a", "host: b")).len(), 2, "neither rule names a service");
}

/// Findings about a Secret with a certificate and a key, whose owner says what is wrong with the two.
fn with_secret(check: fn(&Certificate) -> Result<(), String>) -> Vec<String> {
    let pem = |label| format!("\"-----BEGIN {label}-----\\nAQID\\n-----END {label}-----\\n\"");
    let text = format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: gw}}\nspec:\n  servers:\n  \
         - {{port: {{number: 443, name: https, protocol: HTTPS}}, hosts: ['*'], \
         tls: {{mode: SIMPLE, credentialName: cert}}}}\n---\n\
         apiVersion: v1\nkind: Secret\nmetadata: {{name: cert}}\nstringData:\n  tls.crt: {}\n  tls.key: {}\n",
        pem("CERTIFICATE"),
        pem("PRIVATE KEY")
    );
    let mut files = Files::new(ReadDefaults::default());
    files.replace_file("a.yaml", &text);
    let credentials = Credentials { check_certificate: check, ..Credentials::UNSEEN };
    review(&files.resources().0, &credentials, "cluster.local").iter().map(ToString::to_string).collect()
}

#[test]
fn a_secret_whose_key_does_not_match_is_told_before_anything_runs() {
    assert_eq!(with_secret(|_| Ok(())), Vec::<String>::new());
    let found = with_secret(|_| Err("key does not match certificate".to_owned()));
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].starts_with("a.yaml:6:"), "{found:#?}");
    assert!(found[0].contains("spec.servers[0].tls.credentialName"), "{found:#?}");
    assert!(found[0].contains("key does not match certificate"), "{found:#?}");
}

#[test]
fn strict_mutual_tls_needs_no_identity_where_nothing_runs() {
    let mut files = Files::new(ReadDefaults::default());
    let strict = "{apiVersion: v1, kind: Service, metadata: {name: b}, spec: {clusterIP: 10.0.0.1, selector: {app: b}, \
                  ports: [{name: http, port: 80}]}}\n---\n{apiVersion: security.istio.io/v1, kind: PeerAuthentication, \
                  metadata: {name: strict}, spec: {mtls: {mode: STRICT}}}\n";
    files.replace_file("a.yaml", strict);
    let (set, findings) = files.resources();
    assert!(findings.is_empty(), "{findings:?}");
    let found = review(&set, &Credentials::UNSEEN, "cluster.local");
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn certificates_that_clients_refuse_are_warned_of() {
    let mut params = rcgen::CertificateParams::new(vec!["a.com".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2024, 1, 1);
    params.not_after = rcgen::date_time_ymd(2025, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let text = format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: gw}}\nspec:\n  servers:\n  \
         - {{port: {{number: 443, name: https, protocol: HTTPS}}, hosts: [b.com], \
         tls: {{mode: SIMPLE, credentialName: cert}}}}\n---\n\
         apiVersion: v1\nkind: Secret\nmetadata: {{name: cert}}\nstringData: {{tls.crt: {:?}, tls.key: {:?}}}\n",
        certificate.pem(),
        key.serialize_pem()
    );
    let mut files = Files::new(ReadDefaults::default());
    files.replace_file("a.yaml", &text);
    let of = |now| {
        let credentials = Credentials { now, ..Credentials::UNSEEN };
        let findings = review(&files.resources().0, &credentials, "cluster.local");
        let told = |finding: &resources::Finding| format!("{}: {finding}", finding.severity);
        findings.iter().map(told).collect::<Vec<_>>()
    };
    let at = "warning: a.yaml:6:109: Gateway default/gw: spec.servers[0].tls.credentialName:";
    let names = format!(
        "{at} the certificate is for no host of this server, so clients refuse it (found `cert, for a.com`; expected `b.com`)"
    );
    let dates = format!(
        "{at} the certificate has expired, and peers refuse it (found `cert, 2025-01-01T00:00:00Z`; renew it)"
    );
    assert_eq!(of(Some(1_767_225_600)), [dates, names.clone()]);
    assert_eq!(of(Some(1_720_000_000)), [names]);
    assert_eq!(of(None), Vec::<String>::new());
}

#[test]
fn a_pair_that_is_out_of_date_is_warned_of_where_nothing_names_it() {
    let mut params = rcgen::CertificateParams::new(vec!["a.com".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2025, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let text = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: cert}}\ntype: kubernetes.io/tls\n\
         stringData: {{tls.crt: {:?}, tls.key: {:?}}}\n",
        params.self_signed(&key).unwrap().pem(),
        key.serialize_pem()
    );
    let mut files = Files::new(ReadDefaults::default());
    files.replace_file("a.yaml", &text);
    let credentials = Credentials { now: Some(1_767_225_600), ..Credentials::UNSEEN };
    let findings = review(&files.resources().0, &credentials, "cluster.local");
    let told: Vec<_> = findings.iter().map(|finding| format!("{}: {finding}", finding.severity)).collect();
    let expected = "warning: a.yaml:1:1: Secret default/cert: data[tls.crt]: the certificate has expired, and peers refuse \
                    it (found `cert, 2025-01-01T00:00:00Z`; renew it)";
    assert_eq!(told, [expected]);
}

#[test]
fn authorities_that_end_are_warned_of() {
    let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "root");
    params.not_before = rcgen::date_time_ymd(2024, 1, 1);
    params.not_after = rcgen::date_time_ymd(2025, 1, 1);
    let authority = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
    let text = format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: dr}}\n\
         spec: {{host: a.com, trafficPolicy: {{tls: {{mode: SIMPLE, credentialName: ca}}}}}}\n---\n\
         {{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {{name: a}}, spec: {{hosts: [a.com], \
         resolution: DNS, ports: [{{number: 443, name: https, protocol: HTTPS}}]}}}}\n---\n\
         apiVersion: v1\nkind: Secret\nmetadata: {{name: ca}}\nstringData: {{ca.crt: {:?}}}\n",
        authority.pem()
    );
    let mut files = Files::new(ReadDefaults::default());
    files.replace_file("a.yaml", &text);
    let of = |now| {
        let credentials = Credentials { now: Some(now), ..Credentials::UNSEEN };
        let findings = review(&files.resources().0, &credentials, "cluster.local");
        findings.iter().map(ToString::to_string).filter(|told| told.contains("CA cert")).collect::<Vec<_>>()
    };
    assert_eq!(of(1_720_000_000), Vec::<String>::new());
    let [ending, ended] = [1_735_000_000, 1_767_225_600].map(|now| of(now).concat());
    assert!(
        ending.contains("the CA certificate `CN=root` expires in less than 30 days (found `ca, 2025"),
        "{ending}"
    );
    assert!(
        ended.contains("`CN=root` has expired, and what it has signed is refused (found `ca, 2025"),
        "{ended}"
    );
}

#[test]
fn a_gateway_that_no_file_has_is_missed() {
    let mut files = Files::new(ReadDefaults::default());
    let rule = "{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: vs}, spec: {hosts: [a.com], \
                gateways: [ns/gw], http: [{redirect: {uri: /}}]}}";
    files.replace_file("a.yaml", rule);
    let found = review(&files.resources().0, &Credentials::UNSEEN, "cluster.local");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].to_string().contains("spec.gateways[0]: there is no such Gateway (written: `ns/gw`"),
        "{found:?}"
    );
}

#[test]
fn policies_that_count_for_no_workload_are_named() {
    let policy = |name: &str, namespace: &str, selector: &str| {
        format!(
            "{{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {{name: {name}, namespace: {namespace}}}, \
             spec: {{{selector}mtls: {{mode: STRICT}}}}}}\n---\n"
        )
    };
    let web = "selector: {matchLabels: {app: web}}, ";
    let text = [("a", "ns", ""), ("b", "ns", ""), ("c", "ns", web), ("d", "ns", web), ("e", "other", web)]
        .map(|(name, namespace, selector)| policy(name, namespace, selector))
        .concat();
    let mut files = Files::new(ReadDefaults::default());
    files.replace_file(
        "a.yaml",
        &(text + &policy("f", "istio-system", web) + &policy("g", "istio-system", "")),
    );
    let found = review(&files.resources().0, &Credentials::UNSEEN, "cluster.local");
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(
        found[0].contains("ns/b: spec: is for the same workloads as PeerAuthentication ns/a (a.yaml:1:1)"),
        "{found:#?}"
    );
    assert!(
        found[1].contains("ns/d: spec: is for the same workloads as PeerAuthentication ns/c (a.yaml:5:1)"),
        "{found:#?}"
    );
    assert!(found[2].contains("istio-system/f: spec: has a selector in the root namespace"), "{found:#?}");
}

#[test]
fn a_low_port_that_the_gateways_services_leave_out_is_told() {
    let found = |services: &str| {
        let gateway = "{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {name: gw}, spec: {selector: {app: edge}, \
                       servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}}\n---\n";
        let mut files = Files::new(ReadDefaults::default());
        files.replace_file("a.yaml", &format!("{gateway}{services}"));
        review(&files.resources().0, &Credentials::UNSEEN, "cluster.local")
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    let service = |metadata: &str, ports: &str| {
        format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: edge, {metadata}}}, \
             spec: {{clusterIP: 10.0.0.1, selector: {{app: edge}}, ports: [{ports}]}}}}"
        )
    };
    let other = "{name: https, port: 443, targetPort: 8443}";
    let told = found(&service("", other));
    assert_eq!(
        told,
        [
            "a.yaml:1:116: Gateway default/gw: spec.servers[0].port: is in no Service in front of this gateway, so that it is \
          listened on as it is, which takes CAP_NET_BIND_SERVICE (found `80`; add it to Service default/edge (a.yaml:3:1), \
          with a `targetPort` of 1024 or more)"
        ]
    );
    let none = Vec::<String>::new();
    assert_eq!(found(""), none, "its Service may be in the cluster");
    assert_eq!(found(&service("", "{name: http, port: 80, targetPort: 8080}")), none);
    assert_eq!(found(&service("", "{name: http, port: 80, targetPort: 80}")), none, "which is meant");
    let label = "labels: {experimental.istio.io/disable-gateway-port-translation: 'true'}";
    assert_eq!(found(&service(label, other)), none);
}

fn reviewed_text(text: &str) -> Vec<String> {
    let mut files = Files::new(ReadDefaults::default());
    files.replace_file("a.yaml", text);
    let (set, findings) = files.resources();
    assert!(findings.is_empty(), "{findings:?}");
    review(&set, &Credentials::UNSEEN, "cluster.local").iter().map(ToString::to_string).collect()
}

#[test]
fn a_secret_of_another_namespace_is_named_where_the_gateways_is_known() {
    let gateway = "{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {name: gw, namespace: apps}, spec: {selector: \
                   {app: edge}, servers: [{port: {number: 8443, name: https, protocol: HTTPS}, hosts: ['*'], \
                   tls: {mode: SIMPLE, credentialName: cert}}]}}";
    let service = "{apiVersion: v1, kind: Service, metadata: {name: edge, namespace: edge}, spec: {clusterIP: 10.0.0.1, \
                   selector: {app: edge}, ports: [{name: https, port: 8443}]}}";
    let secret = |name: &str, namespace: &str| {
        format!(
            "{{apiVersion: v1, kind: Secret, metadata: {{name: {name}, namespace: {namespace}}}, type: Opaque}}"
        )
    };
    let all = |documents: &[&str]| reviewed_text(&documents.join("\n---\n"));
    let elsewhere = secret("cert", "apps");
    let found = all(&[gateway, service, &elsewhere]);
    assert_eq!(found.len(), 1, "{found:#?}");
    let told = "spec.servers[0].tls.credentialName: there is no such Secret in namespace `edge` (written: `cert`; the one in \
                namespace `apps` is not looked at: it belongs beside the gateway's pod)";
    assert!(found[0].ends_with(told), "{found:#?}");
    for documents in [
        &[gateway, service, &secret("other", "apps")][..],
        // Where the gateway runs nobody knows.
        &[gateway, &secret("cert", "istio-system")],
    ] {
        assert_eq!(all(documents), Vec::<String>::new(), "{documents:?}");
    }
}

#[test]
fn a_ca_secret_of_another_namespace_is_named_like_others() {
    let found = |tls: &str, secrets: &[(&str, &str)]| {
        let gateway = format!(
            "{{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {{name: gw, namespace: edge}}, spec: {{selector: \
             {{app: edge}}, servers: [{{port: {{number: 8443, name: https, protocol: HTTPS}}, hosts: ['*'], \
             tls: {{{tls}, credentialName: cert}}}}]}}}}\n---\n"
        );
        let service = "{apiVersion: v1, kind: Service, metadata: {name: edge, namespace: edge}, spec: {clusterIP: \
                       10.0.0.1, selector: {app: edge}, ports: [{name: https, port: 8443}]}}\n";
        let secret = |(name, namespace): &(&str, &str)| {
            format!(
                "---\n{{apiVersion: v1, kind: Secret, metadata: {{name: {name}, namespace: {namespace}}}, type: Opaque}}\n"
            )
        };
        let found = reviewed_text(&(gateway + service + &secrets.iter().map(secret).collect::<String>()));
        found.into_iter().filter(|finding| finding.contains("there is no such Secret")).collect::<Vec<_>>()
    };
    let told = |field: &str, name: &str| {
        format!(
            "{field}: there is no such Secret in namespace `edge` (written: `{name}`; the one in namespace `apps` is not \
             looked at: it belongs beside the gateway's pod)"
        )
    };
    let beside = found("mode: MUTUAL", &[("cert-cacert", "apps")]);
    assert!(beside.len() == 1 && beside[0].ends_with(&told("credentialName", "cert-cacert")), "{beside:#?}");
    let named = found("mode: OPTIONAL_MUTUAL, caCertCredentialName: ca", &[("ca", "apps")]);
    assert!(named.len() == 1 && named[0].ends_with(&told("caCertCredentialName", "ca")), "{named:#?}");
    assert!(found("mode: SIMPLE", &[("cert-cacert", "apps")]).is_empty(), "clients are not asked");
    assert!(found("mode: MUTUAL", &[("cert-cacert", "apps"), ("cert-cacert", "edge")]).is_empty());
}

#[test]
fn a_rule_that_has_the_subset_but_does_not_count_is_named() {
    let found = |metadata: &str, spec: &str| {
        let text = format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: web, namespace: shop}}, \
             spec: {{clusterIP: 10.0.0.1, selector: {{app: web}}, ports: [{{name: http, port: 80}}]}}}}\n---\n\
             {{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {{name: vs, namespace: shop}}, \
             spec: {{hosts: [web], exportTo: [.], http: [{{route: [{{destination: {{host: web, subset: v1}}}}]}}]}}}}\n---\n\
             {{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{name: dr, {metadata}}}, \
             spec: {{{spec}, subsets: [{{name: v1}}]}}}}\n"
        );
        let found = reviewed_text(&text);
        found.into_iter().filter(|finding| finding.contains("subset: ")).collect::<Vec<_>>()
    };
    let host = "host: web.shop.svc.cluster.local";
    assert_eq!(found("namespace: shop", "host: web"), Vec::<String>::new());
    for (metadata, spec, why) in [
        (
            "namespace: other",
            host.to_owned(),
            "DestinationRule other/dr (a.yaml:5:1) has it, but counts in its own namespace only: move it to `shop`, that of \
             the service)",
        ),
        (
            "namespace: other",
            format!("{host}, exportTo: [.]"),
            "has it, but is not exported to namespace `shop`: add it to `exportTo`)",
        ),
        (
            "namespace: shop",
            format!("{host}, workloadSelector: {{matchLabels: {{app: other}}}}"),
            "has it, but is for some workloads only (`workloadSelector`))",
        ),
    ] {
        let found = found(metadata, &spec);
        assert_eq!(found.len(), 1, "{spec}: {found:#?}");
        assert!(found[0].contains("destination.subset: no DestinationRule that counts here"), "{found:#?}");
        assert!(found[0].ends_with(why), "{found:#?}");
    }
}

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
