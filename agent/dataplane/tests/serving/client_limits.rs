//! What clients of a listener may do and for how long, where its settings say so.

use std::{
    io::{Read, Write},
    sync::Arc,
    time::{Duration, Instant},
};

use dataplane::Settings;
use snapshot::{ClientLimits, EscapedSlashes, HttpSettings, NetworkFilter, Underscores};

use crate::{
    floods::{SETTINGS, greeted},
    http2::{bodiless, request, text_of, with_client, with_raw_client},
    support::{PATIENCE, Proxy, Upstream, gateway_draft},
};

const WINDOW_UPDATE: u8 = 8;

fn proxy(limits: ClientLimits) -> (Proxy, Upstream) {
    let upstream = Upstream::echoing_heads();
    let proxy = Proxy::start(Settings::default(), |address| {
        let mut draft = gateway_draft(address, &[upstream.address]);
        draft.http_settings = vec![Arc::new(HttpSettings { limits, ..HttpSettings::default() })];
        draft
    });
    (proxy, upstream)
}

/// What a client with a field `a_b` is told: the status over HTTP/1, and over HTTP/2 the status or why not.
fn told_of_an_underscore(limits: ClientLimits) -> (String, Result<u16, Option<h2::Reason>>) {
    let (proxy, _upstream) = proxy(limits);
    let mut client = proxy.connect();
    let answer = client.send("GET / HTTP/1.1\r\nhost: test\r\na_b: 1\r\n\r\n").answer();
    let mut request = bodiless("GET", "http://test/");
    request.headers_mut().insert("a_b", "1".parse().unwrap());
    let over_http2 = with_raw_client(proxy.address, async |sender| {
        let mut sender = sender.ready().await.unwrap();
        let (response, _) = sender.send_request(request, true).unwrap();
        response.await.map(|head| head.status().as_u16()).map_err(|error| error.reason())
    });
    (answer.status().to_owned(), over_http2)
}

#[test]
fn fields_with_underscores_are_refused_where_that_is_asked() {
    assert_eq!(told_of_an_underscore(ClientLimits::default()), ("200".to_owned(), Ok(200)));
    let refusing = ClientLimits { underscores: Underscores::Refused, ..ClientLimits::default() };
    let reset = Err(Some(h2::Reason::INTERNAL_ERROR));
    assert_eq!(told_of_an_underscore(refusing), ("400".to_owned(), reset));
}

/// Concurrent streams, window of a stream and window of the connection, as an HTTP/2 client is told.
fn told_of_limits(limits: ClientLimits) -> [u32; 3] {
    let (proxy, _upstream) = proxy(limits);
    let mut stream = greeted(&proxy);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
    let (mut told, mut updated) = ([0, 65_535, 65_535], false);
    while !(told[0] > 0 && updated) {
        let mut head = [0; 9];
        stream.read_exact(&mut head).unwrap();
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        stream.read_exact(&mut payload).unwrap();
        match head[3] {
            SETTINGS => {
                for setting in payload.chunks(6) {
                    match setting[1] {
                        3 => told[0] = number(&setting[2..]),
                        4 => told[1] = number(&setting[2..]),
                        _ => {}
                    }
                }
            }
            WINDOW_UPDATE => {
                told[2] += number(&payload);
                updated = true;
            }
            _ => {}
        }
    }
    told
}

#[test]
fn http2_clients_are_told_of_streams_and_windows() {
    assert_eq!(told_of_limits(ClientLimits::default()), [1024, 256 << 10, 1 << 20]);
    let limits = ClientLimits {
        streams: Some(100),
        stream_window: Some(64 << 10),
        connection_window: Some(2 << 20),
        ..ClientLimits::default()
    };
    assert_eq!(told_of_limits(limits), [100, 64 << 10, 2 << 20]);
}

#[test]
fn heads_and_idle_connections_have_the_time_of_their_listener() {
    let second = Some(Duration::from_secs(1));
    let limits = ClientLimits { idle_timeout: second, head_timeout: second, ..ClientLimits::default() };
    let (proxy, _upstream) = proxy(limits);
    let mut client = proxy.connect();
    let begun = Instant::now();
    let answer = client.send("GET / HTTP/1.1\r\nhost:").rest();
    assert!(answer.starts_with(b"HTTP/1.1 408 "), "{}", answer.escape_ascii());
    assert!(begun.elapsed() >= Duration::from_millis(900));
    let mut client = proxy.connect();
    assert_eq!(client.get("/").status(), "200");
    assert_eq!(client.rest(), b"");
}

#[test]
fn fields_with_underscores_go_no_further_where_that_is_asked() {
    let dropping = ClientLimits { underscores: Underscores::Dropped, ..ClientLimits::default() };
    let (proxy, _upstream) = proxy(dropping);
    let fields = [("a_b", "1"), ("x-c", "2"), ("_", "3"), ("x_content-length", "4")];
    let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let answer = proxy
        .connect()
        .send(format!("GET / HTTP/1.1\r\nhost: test\r\n{lines}\r\n"))
        .answer()
        .text()
        .to_owned();
    let mut request = bodiless("GET", "http://test/");
    for (name, value) in fields {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let over_http2 = text_of(proxy.address, request);
    for echoed in [answer, over_http2] {
        assert!(echoed.contains("x-c: 2") && !echoed.contains('_'), "{echoed}");
    }
}

#[test]
fn escaped_slashes_are_kept_undone_refused_or_lead_elsewhere() {
    let upstream = Upstream::echoing_heads();
    let told = |slashes| {
        let proxy = Proxy::start(Settings::default(), |address| {
            let mut draft = gateway_draft(address, &[upstream.address]);
            let NetworkFilter::Http(http) = &mut draft.listeners[0].filter_chains[0].filter else { panic!() };
            http.escaped_slashes = slashes;
            draft
        });
        let answer = proxy.connect().get("/a%2Fb?c=%2F");
        let line = answer.text().lines().next().unwrap_or_default().to_owned();
        let grpc = "POST /a%2Fb HTTP/1.1\r\nhost: test\r\ncontent-type: application/grpc\r\ncontent-length: 0\r\n\r\n";
        let grpc = proxy.connect().send(grpc).answer();
        let over_http2 = with_raw_client(proxy.address, async |sender| {
            let mut sender = sender.ready().await.unwrap();
            let request = bodiless("GET", "http://test/a%2Fb?c=%2F");
            let head = sender.send_request(request, true).unwrap().0.await.unwrap();
            let location =
                head.headers().get("location").map(|location| location.to_str().unwrap().to_owned());
            (head.status().as_str().to_owned(), location)
        });
        let location = answer.field("location").map(str::to_owned);
        assert_eq!((answer.status().to_owned(), location.clone()), over_http2);
        (answer.status().to_owned(), location, line, grpc.field("grpc-status").map(str::to_owned))
    };
    let forwarded = |path: &str| ("200".to_owned(), None, format!("GET {path} HTTP/1.1"), None);
    assert_eq!(told(EscapedSlashes::Kept), forwarded("/a%2Fb?c=%2F"));
    assert_eq!(told(EscapedSlashes::Undone), forwarded("/a/b?c=%2F"));
    let internal = Some("13".to_owned());
    assert_eq!(told(EscapedSlashes::Refused), ("400".to_owned(), None, String::new(), internal.clone()));
    // Nobody is sent to another host.
    let proxy = Proxy::start(Settings::default(), |address| {
        let mut draft = gateway_draft(address, &[upstream.address]);
        let NetworkFilter::Http(http) = &mut draft.listeners[0].filter_chains[0].filter else { panic!() };
        http.escaped_slashes = EscapedSlashes::Redirected;
        draft
    });
    for path in ["/%2Fb.com/x", "/%5Cb.com/x", "/%2f%2fb.com/x"] {
        assert_eq!(proxy.connect().get(path).field("location"), Some("/b.com/x"), "{path}");
    }
    let location = Some("/a/b?c=%2F".to_owned());
    assert_eq!(told(EscapedSlashes::Redirected), ("307".to_owned(), location, String::new(), internal));
}

/// A server that takes all there is of requests and begins no answer, or one that never ends.
fn lazy() -> Upstream {
    Upstream::start(|mut client| {
        let head = client.request_head().unwrap_or_default();
        if head.starts_with("GET /drip ") {
            client.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
            while client.0.write_all(b"1\r\na\r\n").is_ok() {
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        client.rest_or_reset();
    })
}

fn lazy_proxy(limits: ClientLimits) -> (Proxy, Upstream) {
    let upstream = lazy();
    let proxy = Proxy::start(Settings::default(), |address| {
        let mut draft = gateway_draft(address, &[upstream.address]);
        draft.http_settings = vec![Arc::new(HttpSettings { limits, ..HttpSettings::default() })];
        draft
    });
    (proxy, upstream)
}

const SECOND: Option<Duration> = Some(Duration::from_secs(1));

/// Status and body that a client gets, who sends no more than this.
fn told(proxy: &Proxy, request: &str) -> (String, String) {
    let answer = proxy.connect().send(request).answer();
    (answer.status().to_owned(), answer.text().to_owned())
}

/// The same over HTTP/2, with a body of which no more comes than this.
fn told_http2(proxy: &Proxy, body: Option<&'static str>) -> (String, String) {
    with_raw_client(proxy.address, async |sender| {
        let mut sender = sender.ready().await.unwrap();
        let request = bodiless("POST", "http://test/");
        let (response, mut upload) = sender.send_request(request, body.is_none()).unwrap();
        if let Some(body) = body {
            upload.send_data(body.into(), false).unwrap();
        }
        let head = response.await.unwrap();
        let (status, mut body) = (head.status().as_str().to_owned(), head.into_body());
        let data = body.data().await.unwrap().unwrap();
        (status, String::from_utf8(data.to_vec()).unwrap())
    })
}

const WHOLE: &str = "POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 4\r\n\r\nbody";
const HALF: &str = "POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 9\r\n\r\nhalf";
const HEAD: &str = "POST / HTTP/1.1\r\nhost: te";

fn says(status: &str, body: &str) -> (String, String) {
    (status.to_owned(), body.to_owned())
}

#[test]
fn a_request_that_stands_still_is_ended_wherever_it_stands() {
    let limits = ClientLimits { stream_idle_timeout: SECOND, ..ClientLimits::default() };
    let (proxy, _upstream) = lazy_proxy(limits);
    for (request, status) in [(WHOLE, "504"), (HALF, "408"), (HEAD, "408")] {
        assert_eq!(told(&proxy, request), says(status, "stream timeout"), "{request}");
    }
    assert_eq!(told_http2(&proxy, None), says("504", "stream timeout"));
    assert_eq!(told_http2(&proxy, Some("half")), says("408", "stream timeout"));
}

#[test]
fn a_request_has_the_time_of_its_listener_to_arrive_however_it_trickles() {
    let limits = ClientLimits { request_timeout: SECOND, ..ClientLimits::default() };
    let (proxy, _upstream) = lazy_proxy(limits);
    assert_eq!(told(&proxy, HALF), says("408", "request timeout"));
    assert_eq!(told(&proxy, HEAD), says("408", "request timeout"));
    assert_eq!(told_http2(&proxy, Some("half")), says("408", "request timeout"));
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 1000000\r\n\r\n");
    let trickling = client.0.try_clone().unwrap();
    let trickling = std::thread::spawn(move || {
        while (&trickling).write_all(b"a").is_ok() {
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let answer = client.answer();
    assert_eq!((answer.status(), answer.text()), ("408", "request timeout"));
    drop(client.rest_or_reset());
    drop(client);
    trickling.join().unwrap();
}

#[test]
fn a_request_and_its_answer_have_the_time_of_their_listener_together() {
    let limits = ClientLimits { max_stream_duration: SECOND, ..ClientLimits::default() };
    let (proxy, _upstream) = lazy_proxy(limits);
    const EXPIRED: &str = "downstream duration timeout";
    for (request, status) in [(WHOLE, "504"), (HALF, "408"), (HEAD, "408")] {
        assert_eq!(told(&proxy, request), says(status, EXPIRED), "{request}");
    }
    assert_eq!(told_http2(&proxy, None), says("504", EXPIRED));
    assert_eq!(told_http2(&proxy, Some("half")), says("408", EXPIRED));
    // What has begun is cut.
    let mut client = proxy.connect();
    let answered = client.send("GET /drip HTTP/1.1\r\nhost: test\r\n\r\n").rest_or_reset();
    let answered = String::from_utf8(answered).unwrap();
    assert!(answered.starts_with("HTTP/1.1 200 ") && !answered.ends_with("0\r\n\r\n"), "{answered}");
    let reason = with_raw_client(proxy.address, async |sender| {
        let mut sender = sender.ready().await.unwrap();
        let (response, _) = sender.send_request(bodiless("GET", "http://test/drip"), true).unwrap();
        let mut body = response.await.unwrap().into_body();
        loop {
            match body.data().await.expect("it is cut") {
                Ok(data) => _ = body.flow_control().release_capacity(data.len()),
                Err(error) => return error.reason(),
            }
        }
    });
    assert_eq!(reason, Some(h2::Reason::INTERNAL_ERROR));
}

#[test]
fn a_connection_lasts_as_long_as_its_listener_lets_it() {
    let upstream = Upstream::echoing_heads();
    let limits = ClientLimits { max_connection_duration: SECOND, ..ClientLimits::default() };
    let settings = Settings { draining_patience: Duration::from_secs(60), ..Settings::default() };
    let proxy = |settings: Settings| {
        Proxy::start(settings, |address| {
            let mut draft = gateway_draft(address, &[upstream.address]);
            draft.http_settings = vec![Arc::new(HttpSettings { limits, ..HttpSettings::default() })];
            draft
        })
    };
    let patient = proxy(settings);
    let mut client = patient.connect();
    let close = (0..1000).find_map(|_| {
        std::thread::sleep(Duration::from_millis(20));
        let answer = client.get("/");
        assert_eq!(answer.status(), "200");
        answer.field("connection").map(str::to_owned)
    });
    assert_eq!(close.as_deref(), Some("close"));
    assert_eq!(client.rest(), b"");
    // Nobody has to ask to be told.
    let proxy = proxy(Settings::default());
    let mut idle = proxy.connect();
    assert_eq!(idle.get("/").status(), "200");
    assert_eq!(idle.rest(), b"");
    with_client(proxy.address, async |mut sender| {
        assert_eq!(sender.send_request(request("GET", "/", b"")).await.unwrap().status(), 200);
        while !sender.is_closed() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}
