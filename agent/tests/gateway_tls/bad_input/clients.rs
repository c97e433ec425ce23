//! Clients whose certificates, versions or suites are not those asked for.

use std::fs;

use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize, SerialNumber, date_time_ymd};
use rustls::{
    AlertDescription as Alert,
    version::{TLS12, TLS13},
};

use super::{gateway, outcome, routes, told};

use crate::support::authority::{Authority, ask, connect};
use crate::support::{Setup, free_port};

/// What is asked of clients, what they do, and what the log says of it.
#[test]
fn clients_that_are_refused_are_told_why_and_so_is_the_log() {
    let (authority, stranger) = (Authority::new(), Authority::called("Somebody else"));
    let (setup, port) = (Setup::router(), free_port());
    let certs = setup.certificates();
    let write = |name: &str, content: &str| fs::write(certs.join(name), content).unwrap();
    let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let key = || KeyPair::generate().unwrap();
    let good = authority.issue("good.client");
    let other = authority.issue("other.client");
    let expired = authority.issue_for("good.client", &key(), |params| {
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    });
    let early = authority.issue_for("good.client", &key(), |params| {
        (params.not_before, params.not_after) = (date_time_ymd(2120, 1, 1), date_time_ymd(2121, 1, 1));
    });
    let serial = SerialNumber::from(vec![7; 8]);
    let revoked =
        authority.issue_for("good.client", &key(), |params| params.serial_number = Some(serial.clone()));
    let foreign = stranger.issue("good.client");
    let impostor = Authority::new().issue("good.client");
    write("ca.crt", &authority.pem());
    write("ca.crl", &authority.revoking(serial));
    let file = |name: &str| certs.join(name).display().to_string();
    let asking = |more: &str| format!("mode: MUTUAL, caCertificates: {}{more}", file("ca.crt"));
    let servers = [
        ("named", asking(", subjectAltNames: [good.client]")),
        ("listed", asking(&format!(", caCrl: {}", file("ca.crl")))),
        ("digest", asking(&format!(", verifyCertificateHash: ['{}']", "ab".repeat(32)))),
        ("new", "mode: SIMPLE, minProtocolVersion: TLSV1_3".to_owned()),
        ("narrow", "mode: SIMPLE, cipherSuites: [ECDHE-ECDSA-AES256-GCM-SHA384]".to_owned()),
    ];
    let mut resources = routes(&servers.each_ref().map(|(name, _)| *name));
    for (name, tls) in &servers {
        // A certificate of RSA, which `narrow` has no suite for.
        let issued = authority.issue_for(&format!("{name}.test"), &rsa, |_| {});
        write(&format!("{name}.crt"), &issued.certificate);
        write(&format!("{name}.key"), &issued.key);
        let files = format!(
            "serverCertificate: {}, privateKey: {}",
            file(&format!("{name}.crt")),
            file(&format!("{name}.key"))
        );
        resources += &gateway(name, port, &format!("tls: {{{tls}, {files}}}"));
    }
    let agent = setup.resources("all.yaml", &resources).start();
    agent.await_port(port);
    for (name, shown) in [("named", Some(&good)), ("listed", Some(&other)), ("new", None)] {
        let client = authority.client_with(rustls::ALL_VERSIONS, shown);
        assert_eq!(outcome(port, &format!("{name}.test"), &client), Ok(()), "{name}: {}", agent.log());
    }
    let refused = [
        ("named", &[&TLS13][..], None, Alert::CertificateRequired, "the client shows no certificate"),
        ("named", &[&TLS12], None, Alert::CertificateRequired, "the client shows no certificate"),
        ("named", &[&TLS13], Some(&expired), Alert::CertificateExpired, "certificate expired: "),
        ("named", &[&TLS12], Some(&expired), Alert::CertificateExpired, "certificate expired: "),
        ("named", &[&TLS13], Some(&early), Alert::CertificateExpired, "certificate not valid yet: "),
        ("named", &[&TLS13], Some(&foreign), Alert::UnknownCA, "is of no authority that is trusted here"),
        (
            "named",
            &[&TLS13],
            Some(&impostor),
            Alert::DecryptError,
            "is not signed by the authority that it names",
        ),
        ("named", &[&TLS13], Some(&other), Alert::AccessDenied, "has no name or digest that is asked for"),
        ("listed", &[&TLS13], Some(&revoked), Alert::CertificateRevoked, "is revoked"),
        ("digest", &[&TLS13], Some(&good), Alert::AccessDenied, "has no name or digest that is asked for"),
        ("new", &[&TLS12], None, Alert::ProtocolVersion, "speaks no TLS version that this server speaks"),
        ("narrow", &[&TLS12], None, Alert::HandshakeFailure, "offers no cipher suite that this server has"),
    ];
    for (name, versions, shown, alert, said) in refused {
        let client = authority.client_with(versions, shown);
        let mut connection = connect(&client, port, &format!("{name}.test"));
        let wrong = ask(&mut connection, "any").unwrap_err();
        assert!(wrong.ends_with(&told(alert)), "{name}, {said}: {wrong}");
        // No more is said at once than these.
        let from = connection.sock.local_addr().unwrap();
        agent.log_line(&[
            "INFO TLS handshake failed: ",
            said,
            &format!("downstream={from} "),
            &format!("\"{name}.test\""),
        ]);
    }
}
