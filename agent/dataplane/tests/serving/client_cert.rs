//! What endpoints and the access log are told of the certificate that a client has shown.

use std::{net::SocketAddr, sync::Arc};

use dataplane::{LogFormat, Settings};
use rcgen::SanType;
use rustls::{ClientConnection, StreamOwned};
use snapshot::{
    ClientCertDetails, ClientCertificates, Direction, Draft, ForwardClientCert, HeaderMatch, HttpSettings,
    NetworkFilter, Pattern, PeerRules, Route, RouteAction, RouteMatch, TextMatch,
};

use crate::{
    handshakes::Lines,
    issuer::{Issued, Issuer},
    mutual::config,
    support::{Client, Proxy, Upstream, route_config},
    tls::{Made, make, tls_draft},
};

/// What an endpoint of a server that does this is told; `shown` is the client's certificate, if it has one.
fn told(
    (forward, details): (ForwardClientCert, Option<ClientCertDetails>),
    direction: Direction,
    shown: Option<&Issued>,
    issuer: &Issuer,
) -> Vec<String> {
    let server = make(&["a.com"]);
    let lines = Lines::default();
    let proxy = serve((&server, issuer), &lines, |draft| {
        draft.listeners[0].direction = direction;
        let NetworkFilter::Http(http) = &mut draft.listeners[0].filter_chains[0].filter else { panic!() };
        http.forward_client_cert = forward;
        let settings = HttpSettings { client_cert_details: details, ..HttpSettings::default() };
        draft.http_settings = vec![Arc::new(settings)];
    });
    let session = ClientConnection::new(Arc::new(config(&[&server.der], shown)), "a.com".try_into().unwrap());
    let mut client = Client(StreamOwned::new(session.unwrap(), Client::connect(proxy.address).0));
    let answer = client
        .send("GET / HTTP/1.1\r\nhost: a.com\r\nX-Forwarded-Client-Cert: Hash=0\r\n")
        .send("x-forwarded-client-cert: Hash=1\r\n\r\n")
        .answer();
    let logged = lines.with("TLSv1.3");
    let uri = if shown.is_some() { "spiffe://td/ns/a/sa/b" } else { "-" };
    assert!(logged.starts_with("TLSv1.3 TLS_AES_") && logged.ends_with(&format!(" {uri}")), "{logged}");
    let head = answer.text();
    let fields = head.lines().filter_map(|line| line.split_once(": "));
    let told = fields.filter(|(name, _)| name.eq_ignore_ascii_case("x-forwarded-client-cert"));
    told.map(|(_, value)| value.to_owned()).collect()
}

fn serve((server, issuer): (&Made, &Issuer), lines: &Lines, change: impl FnOnce(&mut Draft)) -> Proxy {
    let upstream = Upstream::echoing_heads();
    let format =
        snapshot::Format::parse("%DOWNSTREAM_TLS_VERSION% %DOWNSTREAM_TLS_CIPHER% %DOWNSTREAM_PEER_URI_SAN%")
            .unwrap();
    let settings = lines.settings();
    let settings = Settings {
        access_log: settings.access_log.map(|log| log.with_format(LogFormat::text(&format))),
        original_destination: |_| Ok(Some(SocketAddr::from(([10, 0, 0, 1], 80)))),
        ..settings
    };
    Proxy::start(settings, |address| {
        let mut draft = tls_draft(address, upstream.address, &[("a.com", Some(server))]);
        let rules = PeerRules { authority: issuer.authority(), ..PeerRules::default() };
        draft.tls_contexts[0].clients = ClientCertificates::Optional(rules);
        change(&mut draft);
        draft
    })
}

#[test]
fn what_a_client_says_of_itself_counts_only_as_envoy_lets_it() {
    use ForwardClientCert::{AlwaysForwardOnly, AppendForward, ForwardOnly, Sanitize, SanitizeSet};
    let issuer = Issuer::new();
    let names = [
        SanType::URI("spiffe://td/ns/a/sa/b".try_into().unwrap()),
        SanType::DnsName("c.com".try_into().unwrap()),
    ];
    let client = issuer.issue(&names, |_| {});
    let ask = |forward, shown| told((forward, None), Direction::Gateway, shown, &issuer);
    let received = ["Hash=0", "Hash=1"];
    for forward in [Sanitize, ForwardOnly, AppendForward, SanitizeSet] {
        assert_eq!(ask(forward, None), Vec::<String>::new(), "{forward:?}");
    }
    assert_eq!(ask(AlwaysForwardOnly, None), received);
    assert_eq!(ask(AlwaysForwardOnly, Some(&client)), received);
    assert_eq!(ask(ForwardOnly, Some(&client)), received);
    assert_eq!(ask(Sanitize, Some(&client)), Vec::<String>::new());
    let [set] = &ask(SanitizeSet, Some(&client))[..] else { panic!() };
    assert!(set.starts_with("Hash=") && set.contains(";Cert=\"-----BEGIN%20CERTIFICATE-----%0A"), "{set}");
    assert!(set.ends_with(";URI=spiffe://td/ns/a/sa/b;DNS=c.com"), "{set}");
    let [appended] = &ask(AppendForward, Some(&client))[..] else { panic!() };
    assert_eq!(*appended, format!("Hash=0,Hash=1,{set}"));
    // Workloads are not told the certificate itself.
    let [inbound] = &told((SanitizeSet, None), Direction::Inbound, Some(&client), &issuer)[..] else {
        panic!()
    };
    assert!(inbound.starts_with("Hash=") && !inbound.contains("Cert="), "{inbound}");
}

#[test]
fn no_more_is_told_of_a_certificate_than_is_asked_for() {
    let issuer = Issuer::new();
    let names = [
        SanType::URI("spiffe://td/ns/a/sa/b".try_into().unwrap()),
        SanType::DnsName("c.com".try_into().unwrap()),
    ];
    let client = issuer.issue(&names, |_| {});
    let none = ClientCertDetails { subject: false, cert: false, chain: false, dns: false, uri: false };
    for (details, expected) in [
        (none, &["Hash"][..]),
        (ClientCertDetails { subject: true, ..none }, &["Hash", "Subject"]),
        (ClientCertDetails { cert: true, ..none }, &["Hash", "Cert"]),
        (ClientCertDetails { chain: true, ..none }, &["Hash", "Chain"]),
        (ClientCertDetails { dns: true, ..none }, &["Hash", "DNS"]),
        (ClientCertDetails { uri: true, ..none }, &["Hash", "URI"]),
    ] {
        for direction in [Direction::Gateway, Direction::Inbound] {
            let forward = (ForwardClientCert::SanitizeSet, Some(details));
            let told = told(forward, direction, Some(&client), &issuer);
            let keys: Vec<_> = told[0].split(';').map(|pair| pair.split('=').next().unwrap()).collect();
            assert_eq!(keys, expected, "{told:?}");
        }
    }
}

/// The answer of the first route of which a condition on a header holds, else 404.
fn routed(
    (field, condition): (&str, TextMatch),
    forward: ForwardClientCert,
    shown: Option<&Issued>,
    issuer: &Issuer,
) -> String {
    let server = make(&["a.com"]);
    let proxy = serve((&server, issuer), &Lines::default(), |draft| {
        let NetworkFilter::Http(http) = &mut draft.listeners[0].filter_chains[0].filter else { panic!() };
        http.forward_client_cert = forward;
        let headers = vec![HeaderMatch { name: field.to_owned(), condition, invert: false }];
        let matches = RouteMatch { headers, ..RouteMatch::default() };
        let action = RouteAction::DirectResponse { status: 200, body: String::new() };
        draft.route_configs = vec![route_config("*", vec![Route::new(matches, action)])];
    });
    let session = ClientConnection::new(Arc::new(config(&[&server.der], shown)), "a.com".try_into().unwrap());
    let mut client = Client(StreamOwned::new(session.unwrap(), Client::connect(proxy.address).0));
    let said = "x-forwarded-client-cert: Hash=claimed\r\nx-forwarded-proto: http\r\nx-forwarded-for: 10.1.1.1\r\n\
                x-envoy-external-address: 10.1.1.1\r\n";
    let answer = client.send(format!("GET / HTTP/1.1\r\nhost: a.com\r\n{said}\r\n")).answer();
    answer.status().to_owned()
}

#[test]
fn no_route_is_had_by_claiming_what_another_is() {
    use ForwardClientCert::{AlwaysForwardOnly, AppendForward, ForwardOnly, Sanitize, SanitizeSet};
    let issuer = Issuer::new();
    let client = issuer.client("c.com");
    let (claimed, whole) = (|| TextMatch::Prefix("Hash=claimed".to_owned()), || TextMatch::Present);
    let expression = |text: &str| TextMatch::Regex(Pattern::new(text).unwrap());
    let certificate = "x-forwarded-client-cert";
    for (condition, forward, shown, expected) in [
        // Who shows none is told of to nobody.
        (whole(), SanitizeSet, None, "404"),
        (whole(), AppendForward, None, "404"),
        (whole(), ForwardOnly, None, "404"),
        (claimed(), AlwaysForwardOnly, None, "200"),
        // Who shows one is who it proves to be.
        (claimed(), SanitizeSet, Some(&client), "404"),
        (expression("Hash=.*;DNS=c.com"), SanitizeSet, Some(&client), "200"),
        (expression("Hash=claimed,Hash=.*;DNS=c.com"), AppendForward, Some(&client), "200"),
        (claimed(), ForwardOnly, Some(&client), "200"),
        (whole(), Sanitize, Some(&client), "404"),
    ] {
        let shows = shown.is_some();
        let found = routed((certificate, condition.clone()), forward, shown, &issuer);
        assert_eq!(found, expected, "{condition:?} {forward:?} {shows}");
    }
    for (field, value, expected) in [
        ("X-Forwarded-Proto", "https", "200"),
        ("x-forwarded-proto", "http", "404"),
        ("x-forwarded-for", "10.1.1.1,127.0.0.1", "200"),
        ("x-forwarded-for", "10.1.1.1", "404"),
        ("x-envoy-external-address", "127.0.0.1", "200"),
        ("x-envoy-external-address", "10.1.1.1", "404"),
    ] {
        let condition = TextMatch::Exact(value.to_owned());
        assert_eq!(routed((field, condition), SanitizeSet, None, &issuer), expected, "{field}: {value}");
    }
}
