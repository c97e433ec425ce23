//! Resources about TLS that are refused as a whole.

use rustls::AlertDescription as Alert;

use super::{gateway, outcome, routes, secret, told};

use crate::support::authority::Authority;
use crate::support::{Setup, agent, free_port, text};

#[test]
fn resources_that_are_refused_are_named_and_cost_only_themselves() {
    let (authority, mut setup, port) = (Authority::new(), Setup::router(), free_port());
    let own = authority.issue("own.test");
    let credential = secret("own", &[("tls.crt", &own.certificate), ("tls.key", &own.key)]);
    let good =
        routes(&["own"]) + &credential + &gateway("own", port, "tls: {mode: SIMPLE, credentialName: own}");
    setup = setup.resources("good.yaml", &good);
    let of_gateway = [
        ("without-tls", "name: a", "spec.servers[0].tls: is missing"),
        ("no-certificate", "tls: {mode: SIMPLE}", "tls: has no certificate for mode SIMPLE"),
        ("no-key", "tls: {mode: SIMPLE, serverCertificate: /c}", "tls.privateKey: is missing in mode SIMPLE"),
        (
            "no-chain",
            "tls: {mode: MUTUAL, privateKey: /k}",
            "tls.serverCertificate: is missing in mode MUTUAL",
        ),
        (
            "no-ca",
            "tls: {mode: MUTUAL, serverCertificate: /c, privateKey: /k}",
            "tls.caCertificates: is missing in mode MUTUAL",
        ),
        (
            "no-ca-asked",
            "tls: {mode: OPTIONAL_MUTUAL, serverCertificate: /c, privateKey: /k}",
            "tls.caCertificates: is missing in mode OPTIONAL_MUTUAL",
        ),
        (
            "two-sources",
            "tls: {mode: SIMPLE, credentialName: own, serverCertificate: /c, privateKey: /k}",
            "tls: names more than one source of certificates",
        ),
        (
            "mesh-credential",
            "tls: {mode: ISTIO_MUTUAL, credentialName: own}",
            "tls.credentialName: is used together with mode ISTIO_MUTUAL",
        ),
        (
            "crl",
            "tls: {mode: SIMPLE, credentialName: own, caCrl: /crl}",
            "tls.caCrl: has no meaning in mode SIMPLE",
        ),
        ("mode", "tls: {mode: SIMPEL, credentialName: own}", "did you mean `SIMPLE`?"),
        (
            "version",
            "tls: {mode: SIMPLE, credentialName: own, minProtocolVersion: TLS1_2}",
            "did you mean `TLSV1_2`?",
        ),
        (
            "crossed",
            "tls: {mode: SIMPLE, credentialName: own, minProtocolVersion: TLSV1_3, maxProtocolVersion: TLSV1_2}",
            "minProtocolVersion: is above `maxProtocolVersion: TLSV1_2`",
        ),
        (
            "digest",
            "tls: {mode: MUTUAL, credentialName: own, verifyCertificateHash: [abc]}",
            "verifyCertificateHash[0]: is no fingerprint",
        ),
    ];
    let kind = |kind: &str, name: &str, spec: &str| {
        let api = if kind == "PeerAuthentication" { "security" } else { "networking" };
        format!("apiVersion: {api}.istio.io/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n")
    };
    let rule = |name: &str, tls: &str| {
        kind("DestinationRule", name, &format!("{{host: a, trafficPolicy: {{tls: {{{tls}}}}}}}"))
    };
    let ingress = |name: &str, tls: &str| {
        let port = "port: {number: 8443, name: https, protocol: HTTPS}";
        kind(
            "Sidecar",
            name,
            &format!("{{ingress: [{{{port}, defaultEndpoint: '127.0.0.1:80', tls: {{{tls}}}}}]}}"),
        )
    };
    let others = [
        (rule("half", "mode: MUTUAL, clientCertificate: /c"), "tls.privateKey: is missing in mode MUTUAL"),
        (
            rule("both", "mode: MUTUAL, credentialName: a, privateKey: /k"),
            "cannot be combined with `credentialName`",
        ),
        (
            rule("contradiction", "mode: SIMPLE, insecureSkipVerify: true, subjectAltNames: [a]"),
            "insecureSkipVerify",
        ),
        (
            ingress("redirect", "mode: SIMPLE, httpsRedirect: true, serverCertificate: /c, privateKey: /k"),
            "httpsRedirect",
        ),
        (ingress("passed", "mode: PASSTHROUGH"), "tls.mode: "),
        (kind("PeerAuthentication", "ports", "{portLevelMtls: {80: {mode: STRICT}}}"), "portLevelMtls"),
        (
            kind(
                "PeerAuthentication",
                "zero",
                "{selector: {matchLabels: {a: b}}, portLevelMtls: {0: {mode: STRICT}}}",
            ),
            "portLevelMtls",
        ),
        (kind("PeerAuthentication", "word", "{mtls: {mode: STRIKT}}"), "did you mean `STRICT`?"),
        (
            "apiVersion: v1\nkind: Secret\nmetadata: {name: base}\ndata: {tls.crt: '!!'}\n".to_owned(),
            "data[tls.crt]: is not base64",
        ),
        (
            kind(
                "Gateway",
                "clear",
                &format!(
                    "{{servers: [{{port: {{number: {}, name: a, protocol: HTTP}}, hosts: [a.test], tls: {{mode: SIMPLE, credentialName: own}}}}]}}",
                    free_port()
                ),
            ),
            "spec.servers[0].tls: ",
        ),
        (
            kind(
                "Gateway",
                "bytes",
                &format!(
                    "{{servers: [{{port: {{number: {}, name: a, protocol: TCP}}, hosts: [a.test], tls: {{mode: SIMPLE, credentialName: own}}}}]}}",
                    free_port()
                ),
            ),
            "spec.servers[0].tls: ",
        ),
    ];
    let of_gateway = of_gateway.map(|(name, server, wrong)| (gateway(name, port, server), wrong));
    for (index, (text, _)) in of_gateway.iter().chain(&others).enumerate() {
        setup = setup.resources(&format!("wrong-{index:02}.yaml"), text);
    }
    let validated = agent(&["validate", setup.config().to_str().unwrap()]);
    assert_eq!(validated.status.code(), Some(3));
    let validated = text(&validated);
    let agent = setup.start();
    agent.await_port(port);
    for (index, (text, wrong)) in of_gateway.iter().chain(&others).enumerate() {
        let at = format!("wrong-{index:02}.yaml:");
        let said = agent.log_line(&["ERROR", &at, wrong]);
        // One mistake, one message, beside the one that says why the proxy is not ready.
        let log = agent.log();
        let number = log.lines().filter(|line| line.contains("ERROR /") && line.contains(&at)).count();
        assert_eq!(number, 1, "{text}: {log}");
        let finding = said.split_once("ERROR ").unwrap().1;
        assert!(validated.contains(finding.split_once(": ").unwrap().1), "{finding}\n{validated}");
    }
    let client = authority.client();
    let refused = outcome(port, "no-certificate.test", &client).unwrap_err();
    assert!(refused.ends_with(&told(Alert::UnrecognisedName)), "{refused}");
    assert_eq!(outcome(port, "own.test", &client), Ok(()), "{}", agent.log());
}
