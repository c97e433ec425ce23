//! Opaque connections through a forward proxy that speaks HTTP/2: each is a stream of a shared connection.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use dataplane::Settings;
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use http::{Request, Response, StatusCode};
use snapshot::{Draft, ServerCheck, ServerNameSource, Tunnel, TunnelMethod, UpstreamProtocol, UpstreamTls};

use crate::{
    handshakes::Lines,
    http2_upstream::Http2Upstream,
    origination::tls,
    support::{Client, Proxy, Upstream, cluster, endpoints, eventually, gateway_draft, tcp_chain},
    tls::{make, tls_draft},
};

const FAR_END: &str = "far.test:5432";

fn draft(address: SocketAddr, proxies: &[SocketAddr], method: TunnelMethod) -> Draft {
    let mut draft = gateway_draft(address, &[]);
    draft.listeners[0].filter_chains = vec![tcp_chain(0)];
    draft.clusters[0] = cluster("test", endpoints(proxies));
    draft.clusters[0].protocol = UpstreamProtocol::Http2;
    draft.clusters[0].tunnel = Some(Tunnel { far_end: FAR_END.to_owned(), method });
    draft
}

fn proxy(through: SocketAddr, method: TunnelMethod) -> Proxy {
    Proxy::start(Settings::default(), |address| draft(address, &[through], method))
}

/// Consents, and returns both directions of the tunnel.
fn opened(
    request: Request<RecvStream>,
    respond: &mut SendResponse<Bytes>,
) -> (SendStream<Bytes>, RecvStream) {
    let early = Response::builder().status(103).body(()).unwrap();
    respond.send_informational(early).unwrap();
    (respond.send_response(Response::new(()), false).unwrap(), request.into_body())
}

/// Sends back what comes, and says goodbye once the client has said everything.
async fn echo((mut to, mut from): (SendStream<Bytes>, RecvStream)) {
    while let Some(data) = from.data().await {
        let Ok(mut data) = data else { return };
        from.flow_control().release_capacity(data.len()).unwrap();
        while !data.is_empty() {
            to.reserve_capacity(data.len());
            let room = std::future::poll_fn(|cx| to.poll_capacity(cx)).await.unwrap().unwrap();
            to.send_data(data.split_to(room.min(data.len())), false).unwrap();
        }
    }
    to.send_data(Bytes::from_static(b";bye"), true).unwrap();
}

/// A forward proxy whose far end sends back what comes.
fn echoing() -> Http2Upstream {
    Http2Upstream::start(|request, mut respond| async move {
        echo(opened(request, &mut respond)).await;
    })
}

#[test]
fn each_connection_is_a_stream_of_one_that_they_share() {
    let (asked, heads) = mpsc::channel();
    let through = Http2Upstream::start(move |request: Request<RecvStream>, mut respond| {
        asked
            .send((request.method().to_string(), request.uri().to_string(), request.headers().len()))
            .unwrap();
        async move { echo(opened(request, &mut respond)).await }
    });
    for (method, uri) in
        [(TunnelMethod::Connect, FAR_END.to_owned()), (TunnelMethod::Post, format!("http://{FAR_END}/"))]
    {
        let before = through.connections();
        let proxy = proxy(through.address, method);
        let mut clients: Vec<_> = (0..3).map(|_| proxy.connect()).collect();
        for (n, client) in clients.iter_mut().enumerate() {
            client.send(format!("client {n}"));
            assert_eq!(client.exactly(8), format!("client {n}").as_bytes());
            assert_eq!(heads.recv().unwrap(), (method.as_str().to_owned(), uri.clone(), 0));
        }
        // The end of one direction leaves the other open.
        for client in &mut clients {
            client.0.shutdown(Shutdown::Write).unwrap();
            assert_eq!(client.rest(), b";bye");
        }
        assert_eq!(through.connections() - before, 1, "{method:?}");
    }
}

#[test]
fn much_goes_both_ways_without_loss() {
    const MUCH: usize = 3_000_000;
    let through = echoing();
    let proxy = proxy(through.address, TunnelMethod::Connect);
    let mut client = proxy.connect();
    let sent: Vec<u8> = (0..MUCH).map(|at| b'a' + (at % 23) as u8).collect();
    let (mut writing, bytes) = (client.0.try_clone().unwrap(), sent.clone());
    let writer = thread::spawn(move || {
        writing.write_all(&bytes).unwrap();
        writing.shutdown(Shutdown::Write).unwrap();
    });
    assert!(client.rest() == [&sent[..], b";bye"].concat(), "what comes back is what was sent");
    writer.join().unwrap();
}

#[test]
fn a_server_that_speaks_first_is_heard() {
    let through = Http2Upstream::start(|request, mut respond| async move {
        let (mut to, from) = opened(request, &mut respond);
        to.send_data(Bytes::from_static(b"welcome;"), false).unwrap();
        echo((to, from)).await;
    });
    let proxy = proxy(through.address, TunnelMethod::Connect);
    assert_eq!(proxy.connect().exactly(8), b"welcome;");
}

#[test]
fn refusals_go_to_the_next_endpoint_and_are_named_in_the_log() {
    let through = echoing();
    let answering = |status: StatusCode| {
        Http2Upstream::start(move |_, mut respond: SendResponse<Bytes>| async move {
            let head = Response::builder().status(status).body(()).unwrap();
            respond.send_response(head, true).unwrap();
        })
    };
    let refusing = answering(StatusCode::FORBIDDEN);
    let both = [refusing.address, through.address];
    let proxy = Proxy::start(Settings::default(), |at| draft(at, &both, TunnelMethod::Connect));
    for _ in 0..8 {
        assert_eq!(proxy.connect().send("ping").exactly(4), b"ping");
    }
    let resetting = Http2Upstream::start(|_, mut respond| async move {
        respond.send_reset(Reason::INADEQUATE_SECURITY);
    });
    let chattering = Http2Upstream::start(|_, mut respond| async move {
        for _ in 0..20 {
            respond.send_informational(Response::builder().status(102).body(()).unwrap()).unwrap();
        }
        std::future::pending::<()>().await;
    });
    let of_http1 = Upstream::start(|mut client| _ = client.send("HTTP/1.1 400 Bad Request\r\n\r\n"));
    for (through, reason) in [
        (answering(StatusCode::PROXY_AUTHENTICATION_REQUIRED).address, "tunnel_response:407"),
        (resetting.address, "tunnel_refused:_it_reset_the_stream:_"),
        (chattering.address, "tunnel_refused:_interim_answers_without_end"),
        (of_http1.address, "tunnel_refused:_not_HTTP/2:_"),
    ] {
        let lines = Lines::default();
        let proxy = Proxy::start(lines.settings(), |at| draft(at, &[through], TunnelMethod::Connect));
        assert_eq!(Client::connect(proxy.address).rest_or_reset(), b"", "{reason}");
        assert!(lines.with(reason).contains(" 0 UF,URX "), "{}", lines.with(reason));
    }
}

#[test]
fn a_proxy_that_does_not_answer_costs_no_more_than_the_time_to_connect() {
    let silent = Http2Upstream::start(|_, respond| async move {
        std::future::pending::<()>().await;
        drop(respond);
    });
    let lines = Lines::default();
    let proxy = Proxy::start(lines.settings(), |at| {
        let mut draft = draft(at, &[silent.address], TunnelMethod::Connect);
        draft.clusters[0].connect_timeout = Duration::from_millis(100);
        draft
    });
    assert_eq!(proxy.connect().rest_or_reset(), b"");
    lines.with(" 0 UF,URX ");
}

#[test]
fn a_stream_that_was_not_looked_at_is_asked_for_again() {
    let streams = AtomicUsize::new(0);
    let through = Http2Upstream::start(move |request, mut respond| {
        let is_refused = !streams.fetch_add(1, Ordering::SeqCst).is_multiple_of(3);
        async move {
            match is_refused {
                true => respond.send_reset(Reason::REFUSED_STREAM),
                false => echo(opened(request, &mut respond)).await,
            }
        }
    });
    let proxy = proxy(through.address, TunnelMethod::Connect);
    for _ in 0..5 {
        let mut client = proxy.connect();
        assert_eq!(client.send("ping").exactly(4), b"ping");
        client.0.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.rest(), b";bye");
    }
}

#[test]
fn connections_that_say_goodbye_are_followed_by_others() {
    let through = Http2Upstream::with(h2::server::Builder::new(), 1, |request, mut respond| async move {
        echo(opened(request, &mut respond)).await;
    });
    let proxy = proxy(through.address, TunnelMethod::Connect);
    for _ in 0..5 {
        let mut client = proxy.connect();
        assert_eq!(client.send("ping").exactly(4), b"ping");
        client.0.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.rest(), b";bye");
    }
    assert_eq!(through.connections(), 5);
}

#[test]
fn resets_go_both_ways() {
    let (ended, how) = mpsc::channel();
    let through = Http2Upstream::start(move |request, mut respond| {
        let ended = ended.clone();
        async move {
            let (mut to, mut from) = opened(request, &mut respond);
            let first = from.data().await.unwrap().unwrap();
            to.send_data(Bytes::from_static(b"so far"), false).unwrap();
            if first == "reset" {
                to.send_reset(Reason::CONNECT_ERROR);
            } else if first == "stop" {
                to.send_reset(Reason::NO_ERROR);
            } else {
                let error = from.data().await.unwrap().unwrap_err();
                ended.send((error.is_remote(), error.reason())).unwrap();
            }
        }
    });
    let lines = Lines::default();
    let proxy = Proxy::start(lines.settings(), |at| draft(at, &[through.address], TunnelMethod::Connect));
    // Not even one without an error says that this was all.
    for how in ["stop", "reset"] {
        let mut client = proxy.connect();
        let cut = client.send(how).0.read_to_end(&mut Vec::new());
        assert_eq!(cut.map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset), "{how}");
    }
    lines.with(" 0 UR ");

    let mut client = proxy.connect();
    assert_eq!(client.send("leave").exactly(6), b"so far");
    socket2::SockRef::from(&client.0).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    assert_eq!(how.recv().unwrap(), (true, Some(Reason::CONNECT_ERROR)));
}

#[test]
fn an_end_that_is_said_is_one_although_the_stream_is_reset_behind_it() {
    let through = Http2Upstream::start(|request, mut respond| async move {
        let (mut to, _from) = opened(request, &mut respond);
        to.send_data(Bytes::from_static(b"all"), true).unwrap();
        // The codec resets what it has ended and nobody reads (RFC 9113 §8.1).
    });
    let proxy = proxy(through.address, TunnelMethod::Post);
    assert_eq!(proxy.connect().rest(), b"all");
}

#[test]
fn a_tunnel_whose_connection_is_cut_off_is_not_taken_for_the_whole() {
    let through = Upstream::start(|client| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        client.0.set_nonblocking(true).unwrap();
        runtime.block_on(async {
            let stream = tokio::net::TcpStream::from_std(client.0).unwrap();
            let mut served = h2::server::handshake(stream).await.unwrap();
            let (request, mut respond) = served.accept().await.unwrap().unwrap();
            let (mut to, _from) = opened(request, &mut respond);
            to.send_data(Bytes::from_static(b"half"), false).unwrap();
            // Says that it will end, then ends in the middle.
            served.graceful_shutdown();
            _ = tokio::time::timeout(Duration::from_millis(200), served.accept()).await;
        });
    });
    let proxy = proxy(through.address, TunnelMethod::Connect);
    let mut client = proxy.connect();
    let cut = client.0.read_to_end(&mut Vec::new());
    assert_eq!(cut.map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset));
}

#[test]
fn tls_is_begun_with_the_proxy_where_the_rule_asks_for_it() {
    let (made, far) = (make(&["proxy.test"]), echoing());
    // A gateway of HTTP/2 over TLS is a proxy that posts go through.
    let through = Proxy::start(Settings::default(), |address| {
        let mut draft = tls_draft(address, far.address, &[("*", Some(&made))]);
        draft.clusters[0].protocol = UpstreamProtocol::Http2;
        draft
    });
    let proxy = Proxy::start(Settings::default(), |address| {
        let mut draft = draft(address, &[through.address], TunnelMethod::Post);
        let server_name = ServerNameSource::Fixed("proxy.test".to_owned());
        draft.clusters[0].tls = Some(Arc::new(UpstreamTls { server_name, ..tls(ServerCheck::Unverified) }));
        draft
    });
    let mut clients = [proxy.connect(), proxy.connect()];
    for client in &mut clients {
        assert_eq!(client.send("ping").exactly(4), b"ping");
    }
    for client in &mut clients {
        client.0.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.rest(), b";bye");
    }
}

#[test]
fn tunnels_count_as_requests_of_their_cluster() {
    let (through, lines) = (echoing(), Lines::default());
    let proxy = Proxy::start(lines.settings(), |at| {
        let mut draft = draft(at, &[through.address], TunnelMethod::Connect);
        draft.clusters[0].limits.max_requests = Some(1);
        draft
    });
    let mut first = proxy.connect();
    assert_eq!(first.send("ping").exactly(4), b"ping");
    assert_eq!(proxy.connect().rest_or_reset(), b"");
    lines.with(" 0 UO ");
    first.0.shutdown(Shutdown::Write).unwrap();
    assert_eq!(first.rest(), b";bye");
    eventually("there is room again", || {
        let mut next = proxy.connect();
        next.send("ping");
        next.0.shutdown(Shutdown::Write).unwrap();
        next.rest_or_reset() == b"ping;bye"
    });
}
