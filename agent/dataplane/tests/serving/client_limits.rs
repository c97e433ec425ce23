//! What clients of a listener may do and for how long, where its settings say so.

use std::{
    io::Read,
    sync::Arc,
    time::{Duration, Instant},
};

use dataplane::Settings;
use snapshot::{ClientLimits, HttpSettings};

use crate::{
    floods::{SETTINGS, greeted},
    http2::{bodiless, with_raw_client},
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
    let refusing = ClientLimits { refuses_underscores: true, ..ClientLimits::default() };
    let reset = Err(Some(h2::Reason::PROTOCOL_ERROR));
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
