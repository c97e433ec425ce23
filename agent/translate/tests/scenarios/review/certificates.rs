//! What `validate` is told of certificates, and of the Secrets they are in.

use resources::{Files, ReadDefaults};
use snapshot::Certificate;
use translate::{Credentials, review};

use super::reviewed_text;

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
