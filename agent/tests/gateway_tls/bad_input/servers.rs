//! Certificates, keys, authorities and settings that servers cannot use, and keys in every form that they can.

use std::{fs, path::Path};

use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use rustls::{
    AlertDescription as Alert,
    version::{TLS12, TLS13},
};

use super::{gateway, outcome, routes, secret, told};

use crate::support::authority::Authority;
use crate::support::{Setup, free_port, has, openssl};

/// Certificates and keys for `x.test`, good and bad, as files.
fn write_files(directory: &Path, authority: &Authority) {
    let write = |name: &str, content: &str| fs::write(directory.join(name), content).unwrap();
    let (own, other) = (authority.issue("own.test"), authority.issue("own.test"));
    write("own.crt", &own.certificate);
    write("own.key", &own.key);
    write("other.key", &other.key);
    write("reversed.crt", &(authority.pem() + &own.certificate));
    write("junk.pem", "not a certificate, not a key\n");
    write("cut.key", &own.key[..own.key.len() / 2]);
    write("garbled.key", &own.key.replace('M', "!"));
    write("no.crt", "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n");
    write("no.crl", "-----BEGIN X509 CRL-----\nAQID\n-----END X509 CRL-----\n");
    write("ca.crt", &authority.pem());
    openssl(directory, "pkcs8 -topk8 -in own.key -passout pass:secret -out encrypted.key");
    openssl(directory, "ec -in own.key -aes128 -passout pass:secret -out encrypted-sec1.key");
    openssl(
        directory,
        "req -x509 -newkey rsa:1024 -nodes -keyout weak.key -out weak.crt -subj /CN=weak.test",
    );
}

#[test]
fn servers_that_cannot_serve_say_why_and_answer_with_an_alert() {
    if !has("openssl") {
        return;
    }
    let (authority, setup, port) = (Authority::new(), Setup::router(), free_port());
    let certs = setup.certificates();
    write_files(&certs, &authority);
    let at = |name: &str| certs.join(name).display().to_string();
    let files = |certificate: &str, key: &str| {
        format!("serverCertificate: {}, privateKey: {}", at(certificate), at(key))
    };
    let simple = |certificate: &str, key: &str| format!("mode: SIMPLE, {}", files(certificate, key));
    let with = |more: &str| format!("mode: SIMPLE, {}, {more}", files("own.crt", "own.key"));
    let asking = |more: String| format!("mode: MUTUAL, {}, {more}", files("own.crt", "own.key"));
    let credential = |name: &str| format!("mode: SIMPLE, credentialName: {name}");
    let (own, other) = (authority.issue("own.test"), authority.issue("own.test"));
    let encrypted = fs::read_to_string(certs.join("encrypted.key")).unwrap();
    let secrets = [
        secret("mixed", &[("tls.crt", &own.certificate), ("tls.key", &other.key)]),
        secret("keyless", &[("username", "a"), ("password", "b")]),
        secret("locked", &[("tls.crt", &own.certificate), ("tls.key", &encrypted)]),
        secret("rootless", &[("tls.crt", &own.certificate), ("tls.key", &own.key)]),
        secret("hollow", &[("tls.crt", &own.certificate), ("tls.key", &own.key), ("ca.crt", "nothing")]),
    ];
    let cases = [
        (
            "mismatch",
            simple("own.crt", "other.key"),
            "privateKey: cannot be used: key does not match certificate",
        ),
        (
            "reversed",
            simple("reversed.crt", "own.key"),
            "privateKey: cannot be used: key is for certificate 2 of the chain, not for the first",
        ),
        (
            "encrypted",
            simple("own.crt", "encrypted.key"),
            "privateKey: is encrypted, and nobody is there to give",
        ),
        (
            "encrypted-sec1",
            simple("own.crt", "encrypted-sec1.key"),
            "privateKey: is encrypted, and nobody is there",
        ),
        ("junk-crt", simple("junk.pem", "own.key"), "serverCertificate: holds no certificate"),
        ("junk-key", simple("own.crt", "junk.pem"), "privateKey: holds no private key"),
        ("cut-key", simple("own.crt", "cut.key"), "privateKey: ends in the middle of a PEM section"),
        ("garbled-key", simple("own.crt", "garbled.key"), "privateKey: is not base64 between its PEM lines"),
        (
            "no-x509",
            simple("no.crt", "own.key"),
            "privateKey: cannot be used: certificate is not valid X.509",
        ),
        (
            "weak",
            simple("weak.crt", "weak.key"),
            "privateKey: cannot be used: key is not usable: expected RSA of 2048",
        ),
        ("absent", simple("own.crt", "absent.key"), "privateKey: cannot be read: "),
        (
            "empty-ca",
            asking(format!("caCertificates: {}", at("junk.pem"))),
            "caCertificates: holds no certificate",
        ),
        ("no-ca", asking(format!("caCertificates: {}", at("no.crt"))), "caCertificates: cannot be used: "),
        (
            "no-crl",
            asking(format!("caCertificates: {}, caCrl: {}", at("ca.crt"), at("no.crl"))),
            "cannot be used: revocation list is not valid",
        ),
        ("suites", with("cipherSuites: [AES128-SHA, DES-CBC3-SHA]"), "cipherSuites: leaves no cipher suite"),
        (
            "unknown-suites",
            with("cipherSuites: [AES512]"),
            "cipherSuites: leaves no cipher suite that is spoken here",
        ),
        (
            "old",
            with("minProtocolVersion: TLSV1_0, maxProtocolVersion: TLSV1_1"),
            "maxProtocolVersion: is below TLS 1.2",
        ),
        ("curves", with("ecdhCurves: [P-521]"), "ecdhCurves: leaves no curve that is spoken here"),
        ("no-secret", credential("nobody"), "credentialName: there is no such Secret in namespace `default`"),
        (
            "mixed",
            credential("mixed"),
            "credentialName: Secret default/mixed cannot be used: key does not match certificate",
        ),
        ("keyless", credential("keyless"), "Secret default/keyless holds no certificate and key: "),
        (
            "locked",
            credential("locked"),
            "credentialName: the private key in Secret default/locked is encrypted",
        ),
        (
            "rootless",
            "mode: MUTUAL, credentialName: rootless".to_owned(),
            "Secret default/rootless holds no CA certificate: ",
        ),
        (
            "hollow",
            "mode: MUTUAL, credentialName: hollow".to_owned(),
            "the CA certificate in Secret default/hollow holds no certificate",
        ),
    ];
    let names: Vec<&str> = cases.iter().map(|(name, ..)| *name).chain(["own"]).collect();
    let mut resources = routes(&names) + &secrets.concat();
    for (name, tls, _) in &cases {
        resources += &gateway(name, port, &format!("tls: {{{tls}}}"));
    }
    resources += &gateway("own", port, &format!("tls: {{{}}}", simple("own.crt", "own.key")));
    let agent = setup.resources("all.yaml", &resources).mesh("accessLogFile: /dev/stdout\n").start();
    agent.await_port(port);
    let client = authority.client();
    for (name, _, wrong) in &cases {
        let finding =
            agent.log_line(&["ERROR", &format!("Gateway default/{name}: spec.servers[0].tls."), wrong]);
        assert!(finding.contains("TLS handshakes that need it are refused"), "{finding}");
        let host = format!("{name}.test");
        let refused = outcome(port, &host, &client).unwrap_err();
        assert!(refused.contains(&told(Alert::InternalError)), "{name}: {refused}");
    }
    // Whoever looks into the access log learns it there.
    for (name, _, wrong) in &cases {
        let last = wrong.rsplit(": ").next().unwrap().trim_end_matches(' ').replace(' ', "_");
        agent.access_line(&[&format!(" {name}.test "), &last]);
    }
    assert_eq!(outcome(port, "own.test", &client), Ok(()), "{}", agent.log());
}

#[test]
fn every_form_of_key_is_served_whatever_stands_around_it() {
    if !has("openssl") {
        return;
    }
    let (authority, setup, port) = (Authority::new(), Setup::router(), free_port());
    let certs = setup.certificates();
    let write = |name: &str, content: &str| fs::write(certs.join(name), content).unwrap();
    let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    for (name, key) in [("rsa", rsa), ("ec", KeyPair::generate().unwrap())] {
        let pem = key.serialize_pem();
        write(&format!("{name}8.key"), &pem);
        openssl(
            &certs,
            &format!(
                "{name} -in {name}8.key -out {name}-own.key {}",
                if name == "rsa" { "-traditional" } else { "" }
            ),
        );
        for host in [format!("{name}8"), format!("{name}-own")] {
            let issued = authority.issue_for(&format!("{host}.test"), &key, |_| {});
            write(&format!("{host}.crt"), &issued.certificate);
        }
    }
    let label = |name: &str| fs::read_to_string(certs.join(name)).unwrap().lines().next().unwrap().to_owned();
    assert_eq!(
        ["rsa8", "rsa-own", "ec8", "ec-own"].map(|name| label(&format!("{name}.key"))),
        ["PRIVATE KEY", "RSA PRIVATE KEY", "PRIVATE KEY", "EC PRIVATE KEY"]
            .map(|of| format!("-----BEGIN {of}-----"))
    );
    // Certificate and key in one file, with what `openssl pkcs12` and editors leave around them.
    let issued = authority.issue("around.test");
    let around = format!(
        "Bag Attributes\r\n    friendlyName: x\r\n{}\n\n# key\n{}\ntrailing",
        issued.certificate, issued.key
    );
    write("around.crt", &around);
    write("around.key", &around);
    let names = ["rsa8", "rsa-own", "ec8", "ec-own", "around"];
    let mut resources = routes(&names);
    for name in names {
        let file = |ending: &str| certs.join(format!("{name}.{ending}")).display().to_string();
        let tls = format!("mode: SIMPLE, serverCertificate: {}, privateKey: {}", file("crt"), file("key"));
        resources += &gateway(name, port, &format!("tls: {{{tls}}}"));
    }
    let agent = setup.resources("all.yaml", &resources).start();
    agent.await_port(port);
    for name in names {
        for version in [&TLS12, &TLS13] {
            let client = authority.client_with(&[version], None);
            assert_eq!(outcome(port, &format!("{name}.test"), &client), Ok(()), "{name}: {}", agent.log());
        }
    }
}
