//! The codec against hyper, an independent reading of the same standards: over a table and over generated streams.
//!
//! What hyper refuses, the codec refuses; what both take, they take alike: the same messages with the same contents, one
//! after another on a connection, and the same end of it. Where the codec refuses what hyper takes, it is for one of the
//! reasons in [`STRICTER`]; the few things it takes and hyper refuses are in a table of their own.

use std::cell::Cell;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};

use sides::{End, Exchange, codec_requests, codec_response, hyper_requests, hyper_response};

#[path = "differential/sides.rs"]
mod sides;

/// What a comparison came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Comparison {
    /// Both took every message.
    Taken,
    /// Both refused, or both found the stream too short.
    Refused,
    /// The codec refused what hyper took, for a listed reason.
    Stricter,
}

/// Compares message by message. Once either side refuses there is nothing more to compare.
fn compare(ours: &Exchange, theirs: &Exchange) -> Result<Comparison, String> {
    let shared = ours.messages.len().min(theirs.messages.len());
    let same_messages = ours.messages[..shared] == theirs.messages[..shared];
    let same_number = ours.messages.len() == theirs.messages.len();
    let not_beyond = ours.messages.len() <= theirs.messages.len();
    match (&ours.end, &theirs.end) {
        _ if !same_messages => Err("messages differ"),
        (End::Clean, End::Clean) if same_number => Ok(Taken),
        (End::Incomplete, End::Incomplete) if same_number => Ok(Refused),
        (End::Refused(_), End::Refused(_)) if same_number => Ok(Refused),
        (End::Refused(error), _) if not_beyond && is_listed(error) => Ok(Stricter),
        (End::Refused(_), _) if not_beyond => Err("refused for a reason that is not listed"),
        _ => Err("ends differ"),
    }
    .map_err(|difference| format!("{difference}\ncodec: {ours:#?}\nhyper: {theirs:#?}"))
}

fn is_listed(error: &str) -> bool {
    STRICTER.iter().any(|(listed, _)| *listed == error)
}

fn compare_requests(stream: &[u8]) -> Result<Comparison, String> {
    compare(&codec_requests(stream), &hyper_requests(stream))
        .map_err(|difference| format!("{}\n{difference}", stream.escape_ascii()))
}

fn compare_response(method: &str, stream: &[u8]) -> Result<Comparison, String> {
    compare(&codec_response(method, stream), &hyper_response(method, stream))
        .map_err(|difference| format!("{method}: {}\n{difference}", stream.escape_ascii()))
}

/// Why the codec refuses what hyper takes.
const STRICTER: &[(&str, &str)] = &[
    ("MissingHost", "RFC 9112 §3.2: an HTTP/1.1 request without it is answered with 400"),
    ("SeveralHosts", "RFC 9112 §3.2: so is one with more than one"),
    ("InvalidHost", "RFC 9112 §3.2: so is one with an invalid value"),
    ("TooManyEmptyLines", "nobody sends them but to keep a connection busy"),
    ("Target(Fragment)", "RFC 9112 §3.2.1: a target has none; hyper cuts it off"),
    ("Target(InvalidScheme)", "RFC 9110 §4.2: what is not `http` or `https` is for another kind of proxy"),
    ("Target(InvalidForm)", "RFC 9112 §3.2: the form must fit the method"),
    ("Target(InvalidAuthority)", "RFC 9110 §4.2.4: no user information; a CONNECT needs a port"),
    ("Target(InvalidByte)", "RFC 3986: a URI is ASCII"),
    (
        "Head(InvalidLineEnd)",
        "RFC 9112 §2.2 lets LF alone end a line; recipients that do not agree can be played off",
    ),
    (
        "Framing(LengthAndTransferEncoding)",
        "RFC 9112 §6.1: may be refused, and is what smuggling begins with",
    ),
    ("Framing(UnknownTransferCoding)", "RFC 9112 §6.1: the coding could not be passed on"),
    (
        "Framing(InvalidTransferEncoding)",
        "RFC 9110 §5.6.1 lets empty elements pass; recipients do not agree on them",
    ),
    (
        "Framing(ChunkedNotLast)",
        "RFC 9112 §6.1: `chunked` only once; in a response the coding could not be passed on",
    ),
    ("Framing(BodyNotAllowed)", "RFC 9110 §8.6, RFC 9112 §6.1: a 1xx, a 204 and a CONNECT announce none"),
    ("Framing(InvalidContentLength)", "checked even where it does not count, for it is passed on"),
    (
        "Framing(SeveralContentLengths)",
        "RFC 9110 §8.6: equal ones may be refused; recipients differ in what they make of them",
    ),
    ("Framing(TransferEncodingInHttp10)", "checked even where it does not count"),
    ("InvalidExtension", "RFC 9112 §7.1.1: an extension holds no control characters"),
    ("InvalidLineEnd", "a trailer that ends in LF alone, as in a head"),
    ("InvalidTrailer", "refused at its first wrong byte, where hyper waits for the end of the trailers"),
    ("InvalidStatusLine", "RFC 9112 §2.2 lets empty lines come before requests, not before responses"),
];

#[test]
fn requests_of_the_table_compare_as_said() {
    for (stream, expected) in REQUESTS {
        assert_eq!(compare_requests(stream.as_bytes()), Ok(*expected), "{stream:?}");
    }
}

#[test]
fn responses_of_the_table_compare_as_said() {
    for (method, stream, expected) in RESPONSES {
        assert_eq!(compare_response(method, stream.as_bytes()), Ok(*expected), "{stream:?}");
    }
}

#[test]
fn requests_that_hyper_alone_refuses_are_these() {
    for (stream, reason) in MORE_LENIENT {
        assert_eq!(codec_requests(stream.as_bytes()).end, End::Clean, "{stream:?}: {reason}");
        assert!(matches!(hyper_requests(stream.as_bytes()).end, End::Refused(_)), "{stream:?}: {reason}");
    }
}

#[test]
fn every_listed_reason_is_in_a_table() {
    let requests = REQUESTS.iter().map(|(stream, _)| codec_requests(stream.as_bytes()).end);
    let responses = RESPONSES.iter().map(|(method, stream, _)| codec_response(method, stream.as_bytes()).end);
    let ends: Vec<_> = requests.chain(responses).collect();
    for (error, reason) in STRICTER {
        assert!(ends.contains(&End::Refused((*error).to_owned())), "{error}: {reason}");
    }
}

#[test]
fn generated_requests_compare_well() {
    let seen = run_generated(request_streams(), |stream| compare_requests(stream));
    assert!(seen.iter().all(|count| *count > CASES as usize / 20), "one-sided: {seen:?}");
}

#[test]
fn generated_responses_compare_well() {
    let streams = (select(&["GET", "HEAD", "CONNECT"]), response_streams());
    let seen = run_generated(streams, |(method, stream)| compare_response(method, stream));
    assert!(seen.iter().all(|count| *count > CASES as usize / 20), "one-sided: {seen:?}");
}

/// Compares many generated inputs; returns how many were taken, refused, and refused by the codec alone.
fn run_generated<S: Strategy>(
    inputs: S,
    compare: impl Fn(&S::Value) -> Result<Comparison, String>,
) -> [usize; 3] {
    let seen: [Cell<usize>; 3] = Default::default();
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&inputs, |input| {
        let comparison = compare(&input).map_err(TestCaseError::fail)?;
        let count = &seen[comparison as usize];
        count.set(count.get() + 1);
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    seen.map(|count| count.get())
}

const CASES: u32 = 5000;

/// Two requests on one connection, the first put together from parts that are valid, dubious or wrong.
fn request_streams() -> impl Strategy<Value = Vec<u8>> {
    let line = (select(METHODS), select(TARGETS), select(VERSIONS))
        .prop_map(|(method, target, version)| format!("{method} {target} {version}"));
    let host = prop_oneof![9 => Just("host: a\r\n"), 1 => select(HOSTS)];
    let fields = prop::collection::vec(select(FIELDS), 0..4).prop_map(|fields| fields.concat());
    let framed =
        (select(FRAMINGS), select(BODIES)).prop_map(|(framing, body)| format!("{framing}\r\n{body}"));
    (line, host, fields, framed, noise()).prop_map(|(line, host, fields, framed, noise)| {
        let next = "GET /next HTTP/1.1\r\nhost: b\r\n\r\n";
        with_noise(format!("{line}{host}{fields}{framed}{next}").into_bytes(), noise)
    })
}

fn response_streams() -> impl Strategy<Value = Vec<u8>> {
    let fields = prop::collection::vec(select(FIELDS), 0..4).prop_map(|fields| fields.concat());
    let framed =
        (select(FRAMINGS), select(BODIES)).prop_map(|(framing, body)| format!("{framing}\r\n{body}"));
    (select(INTERIM), select(STATUS_LINES), fields, framed, noise()).prop_map(
        |(interim, line, fields, framed, noise)| {
            with_noise(format!("{interim}{line}{fields}{framed}").into_bytes(), noise)
        },
    )
}

/// In one stream of four, one byte is replaced. It stays within ASCII: beyond it, hyper takes no notice of a whole
/// `Connection` line, while the codec sees the `close` that is left in it.
fn noise() -> impl Strategy<Value = Option<(prop::sample::Index, u8)>> {
    let other = (0u8..128).prop_filter("hyper refuses it", |byte| !LENIENT_BYTES.contains(byte));
    let byte = prop_oneof![select(b"\r\n \t\0:,;#/0".to_vec()), other];
    prop::option::weighted(0.25, (any::<prop::sample::Index>(), byte))
}

fn with_noise(mut stream: Vec<u8>, noise: Option<(prop::sample::Index, u8)>) -> Vec<u8> {
    if let Some((index, byte)) = noise {
        let at = index.index(stream.len());
        stream[at] = byte;
    }
    stream
}

const METHODS: &[&str] = &["GET", "POST", "HEAD", "OPTIONS", "get", "M-SEARCH", "CONNECT"];
const TARGETS: &[&str] =
    &["/", "/a?b=c", "/a", "*", "http://a/b", "HTTP://a", "a:80", "/a%20b", "//a/", "/|^[]{}?^"];
const VERSIONS: &[&str] =
    &["HTTP/1.1\r\n", "HTTP/1.1\r\n", "HTTP/1.1\r\n", "HTTP/1.0\r\n", "HTTP/1.1\n", "HTTP/1.2\r\n"];
const HOSTS: &[&str] = &["", "Host: b:80\r\n", "host: a\r\nhost: a\r\n", "host: u@a\r\n", "host:\r\n"];
const FIELDS: &[&str] = &[
    "x: y\r\n",
    "X:  y z\t\r\n",
    "x:\r\n",
    "connection: close\r\n",
    "connection: keep-alive\r\n",
    "connection: a, Close\r\n",
    "upgrade: b\r\n",
    "connection: upgrade\r\n",
    "expect: 100-continue\r\n",
    "x: \u{e9}\r\n",
    "cookie: a\r\n",
    "cookie: b\r\n",
    "content-length: 5\r\n",
    " x: y\r\n",
    "x : y\r\n",
];
const FRAMINGS: &[&str] = &[
    "",
    "content-length: 0\r\n",
    "content-length: 5\r\n",
    "content-length: 5\r\n",
    "transfer-encoding: chunked\r\n",
    "transfer-encoding: chunked\r\n",
    "Transfer-Encoding: Chunked\r\n",
    "content-length: 5\r\ncontent-length: 5\r\n",
    "content-length: 5\r\ncontent-length: 6\r\n",
    "content-length: +5\r\n",
    "transfer-encoding: gzip, chunked\r\n",
    "transfer-encoding: chunked, gzip\r\n",
    "content-length: 5\r\ntransfer-encoding: chunked\r\n",
];
const BODIES: &[&str] = &[
    "",
    "hello",
    "5\r\nhello\r\n0\r\n\r\n",
    "2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
    "A\r\n0123456789\r\n000\r\nx: y\r\n\r\n",
    "5\r\nhello!\r\n0\r\n\r\n",
    "5\nhello\r\n0\r\n\r\n",
    "0\r\n\r\n",
];
const INTERIM: &[&str] =
    &["", "", "", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n"];
const STATUS_LINES: &[&str] = &[
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.1 404\r\n",
    "HTTP/1.1 999 \r\n",
    "HTTP/1.0 200 OK\r\n",
    "HTTP/1.1 204 No Content\r\n",
    "HTTP/1.1 304 Not Modified\r\n",
    "HTTP/1.1 200 OK\n",
    "HTTP/1.1 20 OK\r\n",
];

use Comparison::{Refused, Stricter, Taken};

const REQUESTS: &[(&str, Comparison)] = &[
    ("", Taken),
    ("GET / HTTP/1.1\r\nhost: a\r\n\r\n", Taken),
    ("\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", Taken),
    ("GET / HTTP/1.1\r\nhost: a\r\n\r\nGET /b HTTP/1.1\r\nhost: a\r\n\r\n", Taken),
    ("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\nGET /b HTTP/1.1\r\nhost: a\r\n\r\n", Taken),
    ("GET / HTTP/1.0\r\n\r\nGET /b HTTP/1.0\r\n\r\n", Taken),
    ("GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\nGET /b HTTP/1.0\r\n\r\n", Taken),
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nabGET /b HTTP/1.1\r\nhost: a\r\n\r\n", Taken),
    (
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\nGET /b HTTP/1.1\r\nhost: a\r\n\r\n",
        Taken,
    ),
    ("GET http://b/c?d HTTP/1.1\r\nhost: a\r\n\r\n", Taken),
    ("OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n", Taken),
    ("CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n", Taken),
    ("GET / HTTP/1.1\r\nhost: a\r\n", Refused),
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\na", Refused),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n", Refused),
    ("GET / HTTP/1.2\r\nhost: a\r\n\r\n", Refused),
    ("G(T / HTTP/1.1\r\nhost: a\r\n\r\n", Refused),
    ("GET /a b HTTP/1.1\r\nhost: a\r\n\r\n", Refused),
    ("GET / HTTP/1.1\r\nhost: a\r\nx : y\r\n\r\n", Refused),
    ("GET / HTTP/1.1\r\nhost: a\r\n x: y\r\n\r\n", Refused),
    ("GET / HTTP/1.1\r\nhost: a\r\nx: \0\r\n\r\n", Refused),
    ("GET / HTTP/1.1\r\nhost: a\r\nx: a\rb\r\n\r\n", Refused),
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nab", Refused),
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +2\r\n\r\nab", Refused),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, gzip\r\n\r\n", Refused),
    ("POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", Refused),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n", Refused),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nx\r\n", Refused),
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5, 5\r\n\r\nhello", Refused),
    ("GET ftp://a/b HTTP/1.1\r\nhost: a\r\n\r\n", Stricter),
    ("GET / HTTP/1.1\r\n\r\n", Stricter),
    ("GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", Stricter),
    ("GET / HTTP/1.1\r\nhost: u@a\r\n\r\n", Stricter),
    ("GET /#a HTTP/1.1\r\nhost: a\r\n\r\n", Stricter),
    ("GET * HTTP/1.1\r\nhost: a\r\n\r\n", Stricter),
    ("GET a:80 HTTP/1.1\r\nhost: a\r\n\r\n", Stricter),
    ("GET /\u{e9} HTTP/1.1\r\nhost: a\r\n\r\n", Stricter),
    ("GET http://u@b/ HTTP/1.1\r\nhost: a\r\n\r\n", Stricter),
    ("GET / HTTP/1.1\nhost: a\r\n\r\n", Stricter),
    ("\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", Stricter),
    (
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        Stricter,
    ),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", Stricter),
    (
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        Stricter,
    ),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: ,chunked\r\n\r\n0\r\n\r\n", Stricter),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1 \r\na\r\n0\r\n\r\n", Taken),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1;\x01\r\na\r\n0\r\n\r\n", Stricter),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: y\n\r\n", Stricter),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx : y\r\n", Stricter),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx : y\r\n\r\n", Refused),
];

const MORE_LENIENT: &[(&str, &str)] =
    &[("GET /<a>` HTTP/1.1\r\nhost: a\r\n\r\n", "clients send them, and normal forms of paths escape them")];

/// The bytes of [`MORE_LENIENT`].
const LENIENT_BYTES: &[u8] = b"<>`";

const RESPONSES: &[(&str, &str, Comparison)] = &[
    ("GET", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab", Taken),
    ("GET", "HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\n\r\nab", Stricter),
    ("GET", "HTTP/1.1 200 OK\r\n\r\nuntil close", Taken),
    ("GET", "HTTP/1.0 200\r\n\r\nuntil close", Taken),
    ("GET", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", Taken),
    ("GET", "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na", Taken),
    ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n", Taken),
    ("GET", "HTTP/1.1 304 Not Modified\r\ncontent-length: 2\r\n\r\n", Taken),
    ("GET", "HTTP/1.1 204 No Content\r\n\r\n", Taken),
    ("CONNECT", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n", Taken),
    ("CONNECT", "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nab", Taken),
    ("GET", "HTTP/1.1 200 OK\r\n", Refused),
    ("GET", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\na", Refused),
    ("GET", "HTTP/1.1 20 OK\r\n\r\n", Refused),
    ("GET", "HTTP/1.1 099 X\r\n\r\n", Refused),
    ("GET", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nab", Refused),
    ("GET", "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", Refused),
    ("GET", "\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Stricter),
    ("GET", "HTTP/1.1 200 OK\ncontent-length: 0\r\n\r\n", Stricter),
    ("GET", "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nab", Stricter),
    ("GET", "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", Stricter),
    ("GET", "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", Stricter),
    ("GET", "HTTP/1.1 204 No Content\r\ncontent-length: 1\r\n\r\na", Stricter),
    ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", Stricter),
    ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", Stricter),
    ("HEAD", "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", Stricter),
];
