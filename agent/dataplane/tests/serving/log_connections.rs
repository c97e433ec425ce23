//! What the access log tells of connections: their numbers, their TLS, and the certificates of both sides.

use std::sync::Arc;

use dataplane::LogFormat;
use rcgen::SanType;
use rustls::{ClientConnection, StreamOwned};
use snapshot::{
    Certificate, ClientCertificates, Credential, Format, PeerRules, ServerCheck, TlsVersion, UpstreamTls,
};

use crate::{
    handshakes::Lines,
    issuer::{Issued, Issuer},
    mutual::config,
    origination::{TlsServer, tls},
    support::{Client, Proxy},
    tls::{make, tls_draft},
};

const LOGGED: &[&str] = &[
    "DOWNSTREAM_TLS_VERSION",
    "DOWNSTREAM_PEER_URI_SAN",
    "DOWNSTREAM_PEER_DNS_SAN",
    "DOWNSTREAM_PEER_IP_SAN",
    "DOWNSTREAM_PEER_EMAIL_SAN",
    "DOWNSTREAM_PEER_CERT_V_START",
    "DOWNSTREAM_PEER_CERT_V_END(%Y)",
    "DOWNSTREAM_LOCAL_DNS_SAN",
    "DOWNSTREAM_LOCAL_URI_SAN",
    "UPSTREAM_TLS_VERSION",
    "UPSTREAM_PEER_DNS_SAN",
    "UPSTREAM_PEER_CERT_V_START(%d.%m.%Y)",
    "UPSTREAM_LOCAL_DNS_SAN",
    "UPSTREAM_LOCAL_URI_SAN",
    "FILTER_CHAIN_NAME",
    "ACCESS_LOG_TYPE",
    "QUERY_PARAM(b)",
    "DOWNSTREAM_PEER_SERIAL",
];

/// A gateway for `a.com` that knows its clients by certificate, where they have one, and speaks TLS to its endpoint.
fn serve(issuer: &Issuer, lines: &Lines, format: &str) -> Proxy {
    let (server, own) = (make(&["a.com"]), issuer.client("own.com"));
    let endpoint = issuer.issue(&[dns("up.com"), dns("up2.com")], |params| {
        params.not_before = rcgen::date_time_ymd(2024, 3, 1);
    });
    let endpoint = TlsServer::start(&endpoint, None, &[]);
    let mut settings = lines.settings();
    let format = LogFormat::text(&Format::parse(format).unwrap());
    settings.access_log = settings.access_log.map(|log| log.with_format(format));
    Proxy::start(settings, |address| {
        let mut draft = tls_draft(address, endpoint.address, &[("a.com", Some(&server))]);
        let rules = PeerRules { authority: issuer.authority(), ..PeerRules::default() };
        draft.tls_contexts[0].clients = ClientCertificates::Optional(rules);
        draft.listeners[0].filter_chains[0].name = "the-chain".to_owned();
        let certificate = Some(Certificate::new(vec![own.der.clone()], own.private_key()));
        let credential = Some(Credential { name: "own".to_owned(), certificate });
        let mut tls = UpstreamTls { credential, ..tls(ServerCheck::Unverified) };
        tls.parameters.max_version = Some(TlsVersion::V1_2);
        draft.clusters[0].tls = Some(Arc::new(tls));
        draft
    })
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

fn connect(
    proxy: &Proxy,
    shown: Option<&Issued>,
) -> Client<StreamOwned<ClientConnection, std::net::TcpStream>> {
    let mut config = config(&[], shown);
    config.dangerous().set_certificate_verifier(crate::mutual::trusting());
    let session = ClientConnection::new(Arc::new(config), "a.com".try_into().unwrap());
    Client(StreamOwned::new(session.unwrap(), Client::connect(proxy.address).0))
}

#[test]
fn lines_show_what_envoys_show_of_certificates_and_tls() {
    let (issuer, lines) = (Issuer::new(), Lines::default());
    let format: Vec<_> = LOGGED.iter().map(|operator| format!("%{operator}%")).collect();
    let proxy = serve(&issuer, &lines, &format.join("|"));
    let names = [
        SanType::URI("spiffe://td/ns/a/sa/b".try_into().unwrap()),
        dns("c.com"),
        SanType::URI("spiffe://td/\"second".try_into().unwrap()),
        SanType::IpAddress([10, 0, 0, 1].into()),
        SanType::Rfc822Name("me@c.com".try_into().unwrap()),
    ];
    let shown = issuer.issue(&names, |params| {
        params.not_before = rcgen::date_time_ymd(2024, 1, 2);
        params.not_after = rcgen::date_time_ymd(2124, 1, 2);
        params.serial_number = Some(rcgen::SerialNumber::from(vec![0x0a, 0xbc]));
    });
    let ask = |shown| {
        let mut client = connect(&proxy, shown);
        let answer = client.send("GET /x?a=1&bb=2&b=3&b=4 HTTP/1.1\r\nhost: a.com\r\n\r\n").answer();
        assert_eq!(answer.status(), "200");
    };
    ask(Some(&shown));
    let line = lines.with("|0abc");
    let told: Vec<_> = line.split('|').collect();
    let expected = [
        "TLSv1.3",
        "spiffe://td/ns/a/sa/b,spiffe://td/\\\"second",
        "c.com",
        "10.0.0.1",
        "me@c.com",
        "2024-01-02T00:00:00.000Z",
        "2124",
        "a.com",
        "-",
        "TLSv1.2",
        "up.com,up2.com",
        "01.03.2024",
        "own.com",
        "-",
        "the-chain",
        "DownstreamEnd",
        "3",
        "0abc",
    ];
    for ((operator, told), expected) in LOGGED.iter().zip(told).zip(expected) {
        assert_eq!(told, expected, "{operator}");
    }
    // Who shows none has none; what the endpoint showed is remembered with its connection.
    ask(None);
    let line = lines.with("TLSv1.3|-|-|-|-|-|-|");
    assert!(
        line.ends_with("|a.com|-|TLSv1.2|up.com,up2.com|01.03.2024|own.com|-|the-chain|DownstreamEnd|3|-"),
        "{line}"
    );
}

#[test]
fn connections_have_numbers_of_their_own() {
    let (issuer, lines) = (Issuer::new(), Lines::default());
    let proxy = serve(&issuer, &lines, "%REQ(:PATH)% %CONNECTION_ID% %UPSTREAM_CONNECTION_ID% %UNIQUE_ID%");
    let mut clients = [(); 2].map(|()| connect(&proxy, None));
    for (client, path) in [(0, "/first"), (0, "/second"), (1, "/third")] {
        let answer = clients[client].send(format!("GET {path} HTTP/1.1\r\nhost: a.com\r\n\r\n")).answer();
        assert_eq!(answer.status(), "200");
    }
    let [first, second, third] = ["/first", "/second", "/third"].map(|path| {
        let line = lines.with(path);
        let numbers: Vec<_> = line.split(' ').skip(1).map(str::to_owned).collect();
        <[String; 3]>::try_from(numbers).unwrap()
    });
    assert!(first[0] == second[0] && first[1] == second[1] && first[2] != second[2], "{first:?} {second:?}");
    assert!(third[0] != first[0] && third[0] != third[1] && third[2].len() == 36, "{third:?}");
    // The endpoint's connection was free again.
    assert_eq!(third[1], first[1]);
}
