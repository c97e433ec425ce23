//! What is known of endpoints, and the connections to them, when it changes how they are spoken to.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use http::{Request, Response};
use snapshot::{
    Authority, Certificate, Cluster, Credential, CrlBundle, Discovery, Draft, Keepalive, LiveEndpoint,
    OutlierDetection, OwnPorts, ServerCheck, ServerNameSource, TlsParameters, TlsVersion, TrustBundle,
    UpstreamProtocol, UpstreamTls,
};

use crate::{
    handshakes::Lines,
    http2_upstream::{self, Http2Upstream},
    issuer::{Issued, Issuer},
    origination::{TlsServer, by, dns, proxy, tls},
    support::{Client, Proxy, Upstream, free_address, gateway_draft},
};

/// Other rules for the only cluster from now on; workers have them when this returns.
fn change(proxy: &mut Proxy, endpoint: SocketAddr, change: impl FnOnce(&mut Cluster)) {
    let mut draft = gateway_draft(proxy.address, &[endpoint]);
    change(&mut draft.clusters[0]);
    proxy.publish(draft);
}

pub(crate) fn observed(proxy: &Proxy, endpoint: SocketAddr) -> LiveEndpoint {
    let live = proxy.runtime.block_on(proxy.plane.telemetry().clusters());
    live.endpoint(&Cluster::new("test", Discovery::Endpoints(Vec::new())), &endpoint.into())
}

fn gain_keepalive(cluster: &mut Cluster) {
    cluster.connections.keepalive = Some(Keepalive::default());
}

#[test]
fn counts_go_on_where_connections_are_made_anew() {
    let upstream = Upstream::echoing_heads();
    let mut proxy = Proxy::gateway(&[upstream.address]);
    let mut client = proxy.connect();
    let mut ask = |times: u64| (0..times).for_each(|_| assert_eq!(client.get("/").status(), "200"));
    ask(3);
    change(&mut proxy, upstream.address, gain_keepalive);
    ask(2);
    assert_eq!(upstream.connections(), 2);
    let counts = observed(&proxy, upstream.address).counts;
    assert_eq!((counts.cx_total, counts.cx_active, counts.rq_total, counts.rq_success), (2, 1, 5, 5));
}

#[test]
fn who_is_ejected_stays_so() {
    let upstream = Upstream::start(|mut client| {
        while client.request_head().is_some() {
            client.send("HTTP/1.1 500 Broken\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let ejecting = |cluster: &mut Cluster| {
        let consecutive_5xx = Some(1);
        cluster.outlier_detection =
            Some(OutlierDetection { consecutive_5xx, max_ejection_percent: 100, ..Default::default() });
    };
    let mut proxy = Proxy::gateway(&[upstream.address]);
    change(&mut proxy, upstream.address, ejecting);
    assert_eq!(proxy.connect().get("/").status(), "500");
    assert!(observed(&proxy, upstream.address).is_ejected);
    change(&mut proxy, upstream.address, |cluster| {
        ejecting(cluster);
        gain_keepalive(cluster);
    });
    assert!(observed(&proxy, upstream.address).is_ejected);
    assert_eq!(proxy.connect().get("/").status(), "503");
    assert_eq!(upstream.connections(), 1);
}

/// A request under way keeps its connection to the end; the connection is not used again.
#[test]
fn what_is_under_way_ends_on_the_connection_it_began_on() {
    let (release, held) = mpsc::channel();
    let held = Mutex::new(held);
    let upstream = Upstream::start(move |mut client| {
        while let Some(head) = client.request_head() {
            if head.starts_with("GET /held") {
                held.lock().unwrap().recv().unwrap();
            }
            client.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let mut proxy = Proxy::gateway(&[upstream.address]);
    let address = proxy.address;
    let waiting = thread::spawn(move || Client::connect(address).get("/held").status().to_owned());
    await_active(&proxy, upstream.address);
    change(&mut proxy, upstream.address, gain_keepalive);
    assert_eq!(observed(&proxy, upstream.address).counts.rq_active, 1);
    release.send(()).unwrap();
    assert_eq!(waiting.join().unwrap(), "200");
    assert_eq!(proxy.connect().get("/").status(), "200");
    assert_eq!(upstream.connections(), 2);
}

#[test]
fn streams_end_on_the_connection_they_began_on_and_new_ones_get_another() {
    let (release, held) = tokio::sync::watch::channel(false);
    let answer = move |request: Request<RecvStream>, mut respond: SendResponse<Bytes>| {
        let mut held = held.clone();
        async move {
            if request.uri().path() == "/held" {
                held.wait_for(|released| *released).await.unwrap();
            }
            respond.send_response(Response::new(()), true).unwrap();
        }
    };
    let upstream = Http2Upstream::start(answer);
    let mut proxy = http2_upstream::gateway(upstream.address, UpstreamProtocol::Http2);
    let address = proxy.address;
    let waiting = thread::spawn(move || Client::connect(address).get("/held").status().to_owned());
    await_active(&proxy, upstream.address);
    change(&mut proxy, upstream.address, |cluster| {
        cluster.protocol = UpstreamProtocol::Http2;
        gain_keepalive(cluster);
    });
    assert_eq!(proxy.connect().get("/").status(), "200");
    assert_eq!(upstream.connections(), 2);
    release.send(true).unwrap();
    assert_eq!(waiting.join().unwrap(), "200");
    assert_eq!(observed(&proxy, upstream.address).counts.cx_total, 2);
}

fn await_active(proxy: &Proxy, endpoint: SocketAddr) {
    let start = Instant::now();
    while observed(proxy, endpoint).counts.rq_active == 0 {
        assert!(start.elapsed() < Duration::from_secs(30), "never asked");
        thread::sleep(Duration::from_millis(5));
    }
}

fn own(certificate: &Issued) -> Option<Credential> {
    let certificate = Certificate::new(vec![certificate.der.clone()], certificate.private_key());
    Some(Credential { name: "default".to_owned(), certificate: Some(certificate) })
}

/// What the endpoint is shown by the time a new connection is made is what counts then.
#[test]
fn a_renewed_certificate_of_ours_is_for_new_connections() {
    let (issuer, stranger) = (Issuer::new(), Issuer::new());
    let server = TlsServer::start(&issuer.issue(&[dns("a.com")], |_| {}), Some(&issuer), &[]);
    let mutual = |shown: &Issued| UpstreamTls { credential: own(shown), ..tls(by(&issuer, &[])) };
    let mut proxy = proxy(&server, mutual(&issuer.client("me.com")));
    let mut client = proxy.connect();
    let mut ask = |path: &str| {
        client.send(format!("GET {path} HTTP/1.1\r\nhost: a.com\r\n\r\n")).answer().status().to_owned()
    };
    assert_eq!(ask("/"), "200");
    // By somebody the endpoint does not trust, so that it shows which of the two is used.
    let renewed = mutual(&stranger.client("me.com"));
    change(&mut proxy, server.address, |cluster| cluster.tls = Some(Arc::new(renewed)));
    assert_eq!(ask("/"), "200");
    assert_eq!(server.seen().len(), 1);
    assert_eq!(observed(&proxy, server.address).counts.cx_total, 1);
    // The endpoint closes after this one.
    assert_eq!(ask("/whole"), "200");
    assert_eq!(ask("/"), "503");
}

#[test]
fn connections_are_made_anew_where_endpoints_are_told_or_must_prove_something_else() {
    let issuer = Issuer::new();
    let others = [Issuer::new(), Issuer::new()];
    let no_list: CrlBundle = Arc::new([]);
    let with = |name: &str, issuers: &[&Issuer], revocations: &CrlBundle| {
        let certificates = issuers.iter().map(|issuer| issuer.der()).collect();
        let bundle = Some(TrustBundle { certificates, revocations: Arc::clone(revocations) });
        ServerCheck::Authority(Authority { name: name.to_owned(), bundle }, Vec::new())
    };
    let list = issuer.revoking(&[&issuer.client("me.com")]).bundle.unwrap().revocations;
    let before = tls(with("a", &[&issuer, &others[0]], &no_list));
    let check = |check: ServerCheck| UpstreamTls { check, ..before.clone() };
    let only_1_3 = TlsParameters { min_version: TlsVersion::V1_3, ..TlsParameters::default() };
    for (what, after, anew) in [
        ("one authority more", check(with("a", &[&others[1], &issuer, &others[0]], &no_list)), false),
        ("one authority less", check(with("a", &[&issuer], &no_list)), true),
        ("authorities from elsewhere", check(with("b", &[&issuer, &others[0]], &no_list)), true),
        ("a revocation list", check(with("a", &[&issuer, &others[0]], &list)), true),
        ("no check", check(ServerCheck::Unverified), true),
        ("a credential", UpstreamTls { credential: own(&issuer.client("me.com")), ..before.clone() }, true),
        (
            "a server name",
            UpstreamTls { server_name: ServerNameSource::Fixed("b.com".to_owned()), ..before.clone() },
            true,
        ),
        ("another version", UpstreamTls { parameters: only_1_3, ..before.clone() }, true),
    ] {
        let server = TlsServer::start(&issuer.issue(&[dns("a.com"), dns("b.com")], |_| {}), None, &[]);
        let mut proxy = proxy(&server, before.clone());
        let mut client = proxy.connect();
        let mut ask = || client.send("GET / HTTP/1.1\r\nhost: a.com\r\n\r\n").answer().status().to_owned();
        assert_eq!(ask(), "200", "{what}");
        change(&mut proxy, server.address, |cluster| cluster.tls = Some(Arc::new(after)));
        assert_eq!(ask(), "200", "{what}");
        assert_eq!(server.seen().len(), 1 + usize::from(anew), "{what}");
        assert_eq!(observed(&proxy, server.address).counts.rq_total, 2, "{what}");
    }
}

#[test]
fn the_proxy_itself_is_no_endpoint() {
    let own = Upstream::echoing_heads();
    let lines = Lines::default();
    let draft = |address, own_ports| Draft { own_ports, ..gateway_draft(address, &[own.address]) };
    let proxy = Proxy::start(lines.settings(), |at| draft(at, OwnPorts::new([own.address])));
    assert_eq!(proxy.connect().get("/").status(), "503");
    lines.with("the_endpoint_is_a_port_of_the_proxy_itself");
    assert_eq!(own.connections(), 0);
    let elsewhere = OwnPorts::new([free_address()]);
    assert_eq!(Proxy::start(lines.settings(), |at| draft(at, elsewhere)).connect().get("/").status(), "200");
}
