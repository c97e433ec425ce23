//! TLS to endpoints as a DestinationRule has it: what they are told, what they must show, and what they are shown.

use std::{fmt::Write as _, fs, io::Write as _, sync::Arc};

use rcgen::{KeyPair, SanType, SerialNumber};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;

use super::gateway::Gateway;
use crate::support::{Client, Endpoint, Message, authority::Authority, ok, virtual_service};

/// Answers with the server name that it was told and whether it was shown a certificate.
pub(super) fn telling(config: Arc<ServerConfig>) -> impl Fn(Client) + Send + Sync {
    move |client| {
        let session = ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut stream = StreamOwned::new(session, client.0);
        while Message::read(&mut stream).is_ok() {
            let name = stream.conn.server_name().unwrap_or("-");
            let client = if stream.conn.peer_certificates().is_some() { "known" } else { "anonymous" };
            _ = stream.write_all(ok(&format!("{name} {client}")).as_bytes());
        }
    }
}

fn tls_endpoint(config: Arc<ServerConfig>) -> Endpoint {
    Endpoint::start(telling(config))
}

/// Authorities, a certificate and a list, as files; and a credential as a Secret.
struct Files {
    directory: TempDir,
    secret: String,
}

impl Files {
    fn write(authority: &Authority) -> Self {
        let directory = TempDir::new().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        let client = authority.issue("client.test");
        write("ca.crt", &authority.pem());
        write("stranger.crt", &Authority::called("Stranger").pem());
        write("client.crt", &client.certificate);
        write("client.key", &client.key);
        write("revoking.crl", &authority.revoking(SerialNumber::from(SERIAL)));
        write("other.crl", &authority.revoking(SerialNumber::from(SERIAL + 1)));
        let mut secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: own}\nstringData:\n".to_owned();
        for (key, pem) in
            [("tls.crt", &client.certificate), ("tls.key", &client.key), ("ca.crt", &authority.pem())]
        {
            writeln!(secret, "  {key}: |").unwrap();
            pem.lines().for_each(|line| writeln!(secret, "    {line}").unwrap());
        }
        Self { directory, secret }
    }
}

/// The serial number of what the endpoint shows.
const SERIAL: u64 = 7;

/// A service of its own for each case, which paths that begin with its number lead to.
fn resources(cases: &[(&str, &str, &str)], port: u16) -> String {
    let mut yaml = String::new();
    let mut routes = String::new();
    for (number, (entry, tls, _)) in cases.iter().enumerate() {
        write!(
            yaml,
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: e{number}}}\n\
             spec: {{hosts: [e{number}.test], resolution: STATIC, ports: [{{number: 80, name: http, protocol: HTTP}}], \
             endpoints: [{{address: 127.0.0.1, ports: {{http: {port}}}}}]{entry}}}\n---\n\
             apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: e{number}}}\n\
             spec: {{host: e{number}.test, trafficPolicy: {{tls: {{{tls}}}}}}}\n---\n"
        )
        .unwrap();
        write!(
            routes,
            "{{match: [{{uri: {{exact: /{number}}}}}], retries: {{attempts: 0}}, \
             route: [{{destination: {{host: e{number}.test}}}}]}}, "
        )
        .unwrap();
    }
    yaml + &virtual_service("tls", &format!("hosts: [app.example.com], gateways: [gw], http: [{routes}]"))
}

/// Clients ask for `app.example.com`; the endpoint shows a certificate for it and `other.test`.
#[test]
fn rules_say_what_is_told_and_shown_to_endpoints_and_what_they_must_prove() {
    let authority = Authority::new();
    let shown = authority.issue_for("app.example.com", &KeyPair::generate().unwrap(), |params| {
        params.subject_alt_names.push(SanType::DnsName("other.test".try_into().unwrap()));
        params.serial_number = Some(SerialNumber::from(SERIAL));
    });
    let endpoint = tls_endpoint(authority.server(&shown));
    let files = Files::write(&authority);
    const NAMED: &str = ", subjectAltNames: [other.test]";
    const MISNAMED: &str = ", subjectAltNames: [third.test]";
    const OWN: &str = "app.example.com anonymous";
    const SHOWN: &str = "app.example.com known";
    // What a ServiceEntry says, the rule's `tls`, and what a client gets: `<ca>` and others are files.
    let cases = [
        ("", "mode: SIMPLE, caCertificates: <ca.crt>", OWN),
        ("", "mode: SIMPLE, caCertificates: <stranger.crt>", "503"),
        ("", "mode: SIMPLE", "503"),
        ("", "mode: SIMPLE, insecureSkipVerify: true", OWN),
        ("", "mode: SIMPLE, caCertificates: <ca.crt>, sni: other.test", "other.test anonymous"),
        ("", "mode: SIMPLE, caCertificates: <ca.crt>, sni: third.test", "503"),
        (
            "",
            "mode: SIMPLE, caCertificates: <ca.crt>, sni: third.test, subjectAltNames: [other.test]",
            "third.test anonymous",
        ),
        ("", "mode: SIMPLE, caCertificates: <ca.crt>, subjectAltNames: [third.test, other.test]", OWN),
        ("", "mode: SIMPLE, caCertificates: <ca.crt>, subjectAltNames: [third.test]", "503"),
        (NAMED, "mode: SIMPLE, caCertificates: <ca.crt>", OWN),
        (MISNAMED, "mode: SIMPLE, caCertificates: <ca.crt>", "503"),
        (MISNAMED, "mode: SIMPLE, caCertificates: <ca.crt>, subjectAltNames: [other.test]", OWN),
        ("", "mode: SIMPLE, caCertificates: <ca.crt>, caCrl: <revoking.crl>", "503"),
        ("", "mode: SIMPLE, caCertificates: <ca.crt>, caCrl: <other.crl>", OWN),
        (
            "",
            "mode: MUTUAL, caCertificates: <ca.crt>, clientCertificate: <client.crt>, privateKey: <client.key>",
            SHOWN,
        ),
        ("", "mode: MUTUAL, credentialName: own", SHOWN),
        ("", "mode: SIMPLE, credentialName: own", OWN),
        ("", "mode: SIMPLE, credentialName: absent", "503"),
        // In clear text an endpoint of TLS understands nothing.
        ("", "mode: DISABLE", "502"),
    ];
    let path = files.directory.path().display().to_string();
    let yaml = resources(&cases, endpoint.port()).replace('<', &format!("{path}/")).replace('>', "");
    let gateway = Gateway::start(&format!("{yaml}---\n{}", files.secret));
    let mut client = gateway.client();
    for (number, (entry, tls, expected)) in cases.iter().enumerate() {
        let answer = client.get(&format!("/{number}"));
        let met = if answer.status() == 200 { answer.body } else { answer.status().to_string() };
        assert_eq!(met, *expected, "{tls}{entry}\n{}", gateway.log());
    }
}
