//! What heads may cost, where the proxy is told so.

use dataplane::{HeadLimits, Settings};
use snapshot::UpstreamProtocol;

use crate::{
    http2::{bodiless, with_raw_client},
    http2_upstream::Http2Upstream,
    support::{Proxy, Upstream, gateway_draft},
};

/// `count` fields that take about so many KiB together.
fn fields(count: usize, kibibytes: usize) -> impl Iterator<Item = (String, String)> {
    let value = "a".repeat(kibibytes * 1024 / count);
    (0..count).map(move |number| (format!("x-{number}"), value.clone()))
}

fn lines(count: usize, kibibytes: usize) -> String {
    fields(count, kibibytes).map(|(name, value)| format!("{name}: {value}\r\n")).collect()
}

/// An endpoint of HTTP/1 whose answers have as many fields and KiB as the path says.
fn upstream() -> Upstream {
    Upstream::start(|mut client| {
        while let Some(head) = client.request_head() {
            let path = head.split(' ').nth(1).unwrap_or_default();
            let asked = path.trim_start_matches('/').split_once('/').unwrap();
            let lines = lines(asked.0.parse().unwrap(), asked.1.parse().unwrap());
            client.send(format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n{lines}\r\n"));
        }
    })
}

fn proxy(upstream: &Upstream, heads: HeadLimits) -> Proxy {
    Proxy::start(Settings { heads, ..Settings::default() }, |address| {
        gateway_draft(address, &[upstream.address])
    })
}

/// What an HTTP/1 client is told that asks for `path` with so many fields and KiB beside `host`.
fn told(proxy: &Proxy, path: &str, (count, kibibytes): (usize, usize)) -> String {
    let head = format!("GET {path} HTTP/1.1\r\nhost: test\r\n{}\r\n", lines(count, kibibytes));
    proxy.connect().send(head).answer().status().to_owned()
}

/// The same of an HTTP/2 client; 431 also where the codec ends the connection, which it does for much more than allowed.
fn told_http2(proxy: &Proxy, path: &str, (count, kibibytes): (usize, usize)) -> u16 {
    let mut request = bodiless("GET", &format!("http://test{path}"));
    for (name, value) in fields(count, kibibytes) {
        request.headers_mut().insert(http::HeaderName::try_from(name).unwrap(), value.parse().unwrap());
    }
    with_raw_client(proxy.address, async |sender| {
        let mut sender = sender.ready().await.unwrap();
        let (response, _) = sender.send_request(request, true).unwrap();
        match response.await {
            Ok(head) => head.status().as_u16(),
            Err(error) => {
                assert_eq!(error.reason(), Some(h2::Reason::ENHANCE_YOUR_CALM), "{error}");
                431
            }
        }
    })
}

#[test]
fn heads_may_be_larger_than_usual_where_that_is_said() {
    let upstream = upstream();
    let usual = proxy(&upstream, HeadLimits::default());
    let larger = proxy(&upstream, HeadLimits::new(Some(200 << 10), Some(500)));
    // Requests, in both versions, then answers.
    for (asked, path) in [((150, 1), "/1/1"), ((3, 150), "/1/1"), ((400, 180), "/1/1")] {
        assert_eq!(
            (told(&usual, path, asked), told(&larger, path, asked)),
            ("431".to_owned(), "200".to_owned())
        );
        assert_eq!((told_http2(&usual, path, asked), told_http2(&larger, path, asked)), (431, 200));
    }
    for path in ["/150/1", "/3/150", "/400/180"] {
        let told = [&usual, &larger].map(|proxy| told(proxy, path, (1, 1)));
        assert_eq!(told, ["502", "200"], "{path}");
    }
    for over in [(501, 1), (3, 201)] {
        assert_eq!((told(&larger, "/1/1", over), told_http2(&larger, "/1/1", over)), ("431".to_owned(), 431));
    }
    assert_eq!([told(&larger, "/501/1", (1, 1)), told(&larger, "/3/201", (1, 1))], ["502", "502"]);
}

#[test]
fn heads_may_be_smaller_than_usual_where_that_is_said() {
    let upstream = upstream();
    let smaller = proxy(&upstream, HeadLimits::new(Some(4 << 10), Some(10)));
    for (asked, status) in [((5, 2), 200), ((11, 1), 431), ((2, 5), 431)] {
        let both = (told(&smaller, "/1/1", asked), told_http2(&smaller, "/1/1", asked));
        assert_eq!(both, (status.to_string(), status), "{asked:?}");
    }
    assert_eq!(["/11/1", "/2/5", "/5/2"].map(|path| told(&smaller, path, (1, 1))), ["502", "502", "200"]);
}

#[test]
fn endpoints_of_http2_are_told_what_their_answers_may_cost() {
    let upstream = Http2Upstream::start(async |_, mut respond| {
        let mut head = http::Response::new(());
        head.headers_mut().insert("x-large", "a".repeat(100 << 10).parse().unwrap());
        respond.send_response(head, true).unwrap();
    });
    for (heads, status) in [(HeadLimits::default(), "502"), (HeadLimits::new(Some(200 << 10), None), "200")] {
        let proxy = Proxy::start(Settings { heads, ..Settings::default() }, |address| {
            let mut draft = gateway_draft(address, &[upstream.address]);
            draft.clusters[0].protocol = UpstreamProtocol::Http2;
            draft
        });
        assert_eq!(proxy.connect().get("/").status(), status);
    }
}
