//! Listeners and what they are asked.

use super::Asked::{self, *};

/// A listener with settings of its own, as either proxy has them.
pub(super) struct Place {
    pub(super) name: &'static str,
    /// `connectionSettings`.
    pub(super) settings: &'static str,
    /// The environment of the program.
    pub(super) variables: &'static [(&'static str, &'static str)],
    /// Of Envoy's connection manager, and of what it has in common with clusters.
    pub(super) manager: &'static str,
    pub(super) common: &'static str,
}

const fn managed(name: &'static str, settings: &'static str, manager: &'static str) -> Place {
    Place { name, settings, variables: &[], manager, common: "" }
}

const fn limited(name: &'static str, settings: &'static str, common: &'static str) -> Place {
    Place { name, settings, variables: &[], manager: "", common }
}

pub(super) const PLACES: &[Place] = &[
    managed("plain", "", ""),
    managed("head", "httpRequestHeadersTimeout: 1s", "request_headers_timeout: 1s, "),
    managed("silence", "httpStreamIdleTimeout: 1s", "stream_idle_timeout: 1s, "),
    managed("request", "httpRequestTimeout: 1s", "request_timeout: 1s, "),
    limited("stream", "httpMaxStreamDuration: 1s", "max_stream_duration: 1s"),
    limited("idle", "httpIdleTimeout: 1s", "idle_timeout: 1s"),
    limited("aged", "httpMaxConnectionDuration: 1s", "max_connection_duration: 1s"),
    limited(
        "refused",
        "httpHeadersWithUnderscoresAction: REJECT_REQUEST",
        "headers_with_underscores_action: REJECT_REQUEST",
    ),
    limited(
        "dropped",
        "httpHeadersWithUnderscoresAction: DROP_HEADER",
        "headers_with_underscores_action: DROP_HEADER",
    ),
    managed(
        "rejected",
        "httpPathWithEscapedSlashesAction: REJECT_REQUEST",
        "path_with_escaped_slashes_action: REJECT_REQUEST, ",
    ),
    managed(
        "redirected",
        "httpPathWithEscapedSlashesAction: UNESCAPE_AND_REDIRECT",
        "path_with_escaped_slashes_action: UNESCAPE_AND_REDIRECT, ",
    ),
    managed(
        "forwarded",
        "httpPathWithEscapedSlashesAction: UNESCAPE_AND_FORWARD",
        "path_with_escaped_slashes_action: UNESCAPE_AND_FORWARD, ",
    ),
    managed("merged", "httpMergeSlashes: true", "merge_slashes: true, "),
    Place {
        variables: &[("POSTERN_MAX_HEADERS_KB", "4"), ("POSTERN_MAX_HEADERS_COUNT", "8")],
        common: "max_headers_count: 8",
        ..managed("small", "", "max_request_headers_kb: 4, ")
    },
];

const HEAD: &str = "POST /plain HTTP/1.1\nhost: te";
const HALF: &str = "POST /plain-unanswered HTTP/1.1\nhost: test\ncontent-length: 9\n\nhalf";
const GRPC: &str =
    "POST /plain-unanswered HTTP/1.1\nhost: test\ncontent-type: application/grpc\ncontent-length: 9\n\nhalf";
const SILENT: &str = "GET /plain-unanswered HTTP/1.1\nhost: test\nconnection: close\n\n";
const SILENT_HTTP2: &str = "GET /plain-unanswered HTTP/1.1\nhost: test\n\n";
const STALLING: &str = "GET /stall HTTP/1.1\nhost: test\n\n";
const UNDERSCORE: &str = "GET /plain HTTP/1.1\nhost: test\nx_a: 1\nx-b: 2\nconnection: close\n\n";
const ESCAPED: &str = "GET /a%2Fb%5Cc?d=%2F HTTP/1.1\nhost: test\nconnection: close\n\n";
const ESCAPED_GRPC: &str = "POST /a%2Fb HTTP/1.1\nhost: test\ncontent-type: application/grpc\ncontent-length: 0\n\
    connection: close\n\n";
const SLASHES: &str = "GET //a///b?c=// HTTP/1.1\nhost: test\nconnection: close\n\n";
/// Nine with those that frame it.
const MANY: &str =
    "GET /plain HTTP/1.1\nhost: test\nconnection: close\na: 1\nb: 1\nc: 1\nd: 1\ne: 1\nf: 1\ng: 1\n\n";
const FEW: &str =
    "GET /plain HTTP/1.1\nhost: test\nconnection: close\na: 1\nb: 1\nc: 1\nd: 1\ne: 1\nf: 1\n\n";
const MANY_HTTP2: &str = "GET /plain HTTP/1.1\nhost: test\na: 1\nb: 1\nc: 1\nd: 1\n\n";

pub(super) const CASES: &[(&str, &str, Asked)] = &[
    ("head", HEAD, Last),
    ("silence", HEAD, Last),
    ("silence", HALF, Last),
    ("silence", GRPC, Last),
    ("silence", SILENT, Last),
    ("silence", STALLING, Last),
    ("silence", HALF, OverHttp2),
    ("silence", GRPC, OverHttp2),
    ("silence", SILENT_HTTP2, OverHttp2),
    ("silence", STALLING, OverHttp2),
    ("request", HEAD, Last),
    ("request", HALF, Last),
    ("request", GRPC, Last),
    ("request", HALF, OverHttp2),
    ("request", GRPC, OverHttp2),
    ("stream", HEAD, Last),
    ("stream", HALF, Last),
    ("stream", GRPC, Last),
    ("stream", SILENT, Last),
    ("stream", STALLING, Last),
    ("stream", HALF, OverHttp2),
    ("stream", GRPC, OverHttp2),
    ("stream", SILENT_HTTP2, OverHttp2),
    ("stream", STALLING, OverHttp2),
    ("idle", "GET /plain HTTP/1.1\nhost: test\n\n", Last),
    ("aged", "GET /plain HTTP/1.1\nhost: test\n\n", Last),
    ("aged", "GET /plain HTTP/1.1\nhost: te~~~~~~~~~~~~~~~st\n\n", Last),
    ("plain", UNDERSCORE, Last),
    ("refused", UNDERSCORE, Last),
    ("refused", "GET /plain HTTP/1.1\nhost: test\nx_a: 1\n\n", OverHttp2),
    ("dropped", UNDERSCORE, Last),
    ("dropped", "GET /plain HTTP/1.1\nhost: test\nx_a: 1\nx-b: 2\n\n", OverHttp2),
    ("plain", ESCAPED, Last),
    ("rejected", ESCAPED, Last),
    ("rejected", ESCAPED_GRPC, Last),
    ("rejected", "GET /a%2Fb HTTP/1.1\nhost: test\n\n", OverHttp2),
    ("redirected", ESCAPED, Last),
    ("redirected", ESCAPED_GRPC, Last),
    ("redirected", "GET /a%2Fb HTTP/1.1\nhost: test\n\n", OverHttp2),
    ("forwarded", ESCAPED, Last),
    ("forwarded", "GET /a%2F..%2F%2Fb HTTP/1.1\nhost: test\nconnection: close\n\n", Last),
    ("plain", SLASHES, Last),
    ("merged", SLASHES, Last),
    ("small", MANY, Last),
    ("small", FEW, Last),
    ("small", MANY_HTTP2, OverHttp2),
];

/// Requests of HTTP/2 of which something is wrong, or odd.
pub(super) const MALFORMED: &[&str] = &[
    ":method: GET\n:scheme: http\n:authority: test\n:path: /plain",
    ":method: GET\n:scheme: http\n:authority: test\n:path: /plain\n:path: /other",
    ":method: GET\nx: 1\n:scheme: http\n:authority: test\n:path: /plain",
    ":scheme: http\n:authority: test\n:path: /plain",
    ":method: GET\n:authority: test\n:path: /plain",
    ":method: GET\n:scheme: http\n:authority: test",
    ":method: GET\n:scheme: http\n:authority: test\n:path: ",
    ":method: GET\n:scheme: http\n:path: /plain",
    ":method: GET\n:scheme: http\n:path: /plain\nhost: test",
    ":method: GET\n:scheme: http\n:authority: test\n:path: /plain\nhost: test",
    ":method: GET\n:scheme: http\n:authority: test\n:path: /plain\nhost: other",
    ":method: GET\n:scheme: http\n:path: /plain\nhost: test\nhost: test",
    ":method: GET\n:scheme: http\n:authority: test\n:path: /plain\nhost: test\nhost: test",
    ":method: GET\n:scheme: http\n:authority: test\n:path: /plain\nX-A: 1",
    ":method: GET\n:scheme: http\n:authority: test\n:path: /plain\nconnection: close",
    ":method: GET\n:scheme: http\n:authority: test\n:path: /plain\nkeep-alive: 1",
    ":method: GET\n:scheme: http\n:authority: test\n:path: /plain\nproxy-connection: 1",
    ":method: GET\n:scheme: http\n:authority: test\n:path: /plain\ntransfer-encoding: chunked",
    ":method: GET\n:scheme: http\n:authority: test\n:path: /plain\nupgrade: h2c",
    ":method: GET\n:scheme: http\n:authority: test\n:path: /plain\nte: gzip",
    ":foo: 1\n:method: GET\n:scheme: http\n:authority: test\n:path: /plain",
    ":status: 200\n:method: GET\n:scheme: http\n:authority: test\n:path: /plain",
    ":method: GET\n:scheme: http\n:authority: test\n:path: /plain\nx: a\rb",
    ":method: GET\n:scheme: http\n:authority: test\n:path: /plain\nx: a\0b",
    ":method: GET\n:scheme: http\n:authority: test\n:path: /plain\nx:  a",
    ":method: GET\n:scheme: http\n:authority: test\n:path: /plain\nx y: 1",
    ":method: GET\n:scheme: http\n:authority: test\n:path: /plain\nx:y: 1",
    ":method: GET\n:scheme: http\n:authority: test\n:path: plain",
    ":method: GET\n:scheme: http\n:authority: test\n:path: *",
    ":method: OPTIONS\n:scheme: http\n:authority: test\n:path: *",
    ":method: GET\n:scheme: http\n:authority: test\n:path: /a b",
    ":method: GET\n:scheme: http\n:authority: u@test\n:path: /plain",
    ":method: GET\n:scheme: http\n:authority: te st\n:path: /plain",
    ":method: GET\n:scheme: https\n:authority: test\n:path: /plain",
    ":method: GET\n:scheme: ftp\n:authority: test\n:path: /plain",
    ":method: G T\n:scheme: http\n:authority: test\n:path: /plain",
    ":method: CONNECT\n:authority: test:80",
    ":method: GET\n:scheme: http\n:authority: test\n:path: /plain\ncookie: a=1\ncookie: b=2",
    ":method: POST\n:scheme: http\n:authority: test\n:path: /plain\ncontent-length: 3\n\nhi",
    ":method: POST\n:scheme: http\n:authority: test\n:path: /plain\ncontent-length: 1\n\nhi",
    ":method: POST\n:scheme: http\n:authority: test\n:path: /plain\ncontent-length: 2\ncontent-length: 2\n\nhi",
    ":method: POST\n:scheme: http\n:authority: test\n:path: /plain\ncontent-length: 2\ncontent-length: 3\n\nhi",
    ":method: POST\n:scheme: http\n:authority: test\n:path: /plain\ncontent-length: x\n\nhi",
    ":method: POST\n:scheme: http\n:authority: test\n:path: /plain\n\nhi\n\nx-t: 1",
    ":method: POST\n:scheme: http\n:authority: test\n:path: /plain\n\nhi\n\nX-T: 1",
];
