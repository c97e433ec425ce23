//! Requests for a host whose server asks clients for certificates, on connections that asked for another name.

use std::net::SocketAddr;

use dataplane::Settings;
use http::Request;
use http_body_util::Full;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use snapshot::{ClientCertificates, Draft, PeerRules};

use crate::{
    issuer::Issuer,
    support::{Proxy, Upstream},
    tls::{Made, client_config, connect, make, tls_draft},
};

/// A server for `*.a.com`, and one for `bank.a.com` that asks for certificates as `bank` says. Both have one route table,
/// which has every host.
fn draft(address: SocketAddr, upstream: SocketAddr, (made, bank): (&Made, ClientCertificates)) -> Draft {
    let mut draft = tls_draft(address, upstream, &[("*.a.com", Some(made)), ("bank.a.com", Some(made))]);
    draft.tls_contexts[1].clients = bank;
    draft
}

fn required() -> ClientCertificates {
    ClientCertificates::Required(PeerRules { authority: Issuer::new().authority(), ..PeerRules::default() })
}

fn status(proxy: &Proxy, made: &Made, target: &str, host: &str) -> String {
    let mut client = connect(proxy, "foo.a.com", &[made]).unwrap();
    client.send(format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n\r\n")).answer().status().to_owned()
}

#[test]
fn however_the_host_is_written_no_request_gets_past_its_servers_rules() {
    let made = make(&["foo.a.com", "bank.a.com"]);
    let upstream = Upstream::echoing_heads();
    let proxy = Proxy::start(Settings::default(), |at| draft(at, upstream.address, (&made, required())));
    for host in ["bank.a.com", "bank.a.com.", "BANK.a.com", "bank.a.com:8443"] {
        assert_eq!(status(&proxy, &made, "/", host), "421", "{host}");
    }
    assert_eq!(status(&proxy, &made, "https://bank.a.com/", "bank.a.com"), "421");
    assert_eq!(upstream.connections(), 0);
    for host in ["foo.a.com", "other.a.com"] {
        assert_eq!(status(&proxy, &made, "/", host), "200", "{host}");
    }
}

#[test]
fn hosts_of_servers_that_ask_for_nothing_else_are_served() {
    let made = make(&["foo.a.com", "bank.a.com"]);
    let upstream = Upstream::echoing_heads();
    let asks_nothing = ClientCertificates::NotAsked;
    let proxy =
        Proxy::start(Settings::default(), |at| draft(at, upstream.address, (&made, asks_nothing.clone())));
    assert_eq!(status(&proxy, &made, "/", "bank.a.com"), "200");
}

#[test]
fn one_http_2_connection_carries_requests_for_both_and_only_those_of_its_own_rules_are_served() {
    let made = make(&["foo.a.com", "bank.a.com"]);
    let upstream = Upstream::echoing_heads();
    let proxy = Proxy::start(Settings::default(), |at| draft(at, upstream.address, (&made, required())));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let statuses = tokio::task::LocalSet::new().block_on(&runtime, async {
        let tcp = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(client_config(&[&made], &["h2"]));
        let tls = connector.connect("foo.a.com".try_into().unwrap(), tcp).await.unwrap();
        let (mut sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await.unwrap();
        tokio::spawn(connection);
        let mut statuses = Vec::new();
        for host in ["bank.a.com", "foo.a.com", "bank.a.com"] {
            let get = Request::get(format!("https://{host}/")).body(Full::<bytes::Bytes>::default()).unwrap();
            statuses.push(sender.send_request(get).await.unwrap().status().as_u16());
        }
        statuses
    });
    assert_eq!(statuses, [421, 200, 421]);
}
