//! What is asked for.

/// What is asked for: a request line and its fields; every case is compared.
pub(super) const CASES: &[&str] = &[
    "GET /plain?q=1 HTTP/1.1\nhost: test\nx-kept: 1\nx-forwarded-for: 9.9.9.9\nx-forwarded-proto: https\n\
     x-request-id: mine\nx-forwarded-host: h\nx-envoy-retry-on: 5xx\nx-envoy-max-retries: 3\n\
     x-envoy-upstream-rq-timeout-ms: 1\nx-envoy-unknown: 1\nx-envoy-internal: true\n\
     x-envoy-external-address: 1.1.1.1\nx-envoy-original-path: /o\nx-envoy-decorator-operation: o\n\
     x-envoy-attempt-count: 7\nx-envoy-expected-rq-timeout-ms: 9\nx-envoy-ip-tags: t\n\
     x-envoy-force-trace: 1\nx-envoy-peer-metadata: m\nx-client-trace-id: c\n\n",
    "GET /rewrite/a?b=/rewrite/ HTTP/1.1\nhost: test\n\n",
    "GET /whole/a?b HTTP/1.1\nhost: test\n\n",
    "GET /headers HTTP/1.1\nhost: test\nx-gone: 1\nx-set: old\nx-kept: k\n\n",
    "GET /limited HTTP/1.1\nhost: test\n\n",
    "GET /timeout HTTP/1.1\nhost: test\n\n",
    "GET /busy HTTP/1.1\nhost: test\n\n",
    "GET /close HTTP/1.1\nhost: test\n\n",
    "GET /nonsense HTTP/1.1\nhost: test\n\n",
    "GET /empty HTTP/1.1\nhost: test\n\n",
    "GET /refused HTTP/1.1\nhost: test\n\n",
    "GET /unknown HTTP/1.1\nhost: test\n\n",
    "GET /direct?q HTTP/1.1\nhost: test\n\n",
    "GET /nothing HTTP/1.1\nhost: test\n\n",
    "GET /redirect/a?b HTTP/1.1\nhost: test:8080\n\n",
    "GET /fault HTTP/1.1\nhost: test\n\n",
    "GET / HTTP/1.1\nhost: test\n\n",
    "OPTIONS /cors HTTP/1.1\nhost: test\norigin: https://a\naccess-control-request-method: PUT\n\n",
    "OPTIONS /cors HTTP/1.1\nhost: test\norigin: https://b\naccess-control-request-method: PUT\n\n",
    "GET /cors HTTP/1.1\nhost: test\norigin: https://a\n\n",
    "POST /empty HTTP/1.1\nhost: test\ncontent-type: application/grpc\ncontent-length: 0\n\n",
    "POST /unknown HTTP/1.1\nhost: test\ncontent-type: application/grpc+proto\ncontent-length: 0\n\n",
    "POST / HTTP/1.1\nhost: test\ncontent-type: application/grpc\ncontent-length: 0\n\n",
    "POST /refused HTTP/1.1\nhost: test\ncontent-type: application/grpc\ncontent-length: 0\n\n",
    "POST /timeout HTTP/1.1\nhost: test\ncontent-type: application/grpc\ncontent-length: 0\n\n",
    "POST /fault HTTP/1.1\nhost: test\ncontent-type: application/grpc\ncontent-length: 0\n\n",
];

/// Requests that end their connection, or that break off themselves; `~` is a pause, and the end of the client's bytes
/// follows [`GONE`].
pub(super) const LAST: &[&str] = &[
    "GET /cookie HTTP/1.1\nhost: test\nconnection: close\n\n",
    "GET /cookie HTTP/1.1\nhost: test\ncookie: sid=\"1\"\nconnection: close\n\n",
    "GET /cut HTTP/1.1\nhost: test\nconnection: close\n\n",
    "GET /cut-chunks HTTP/1.1\nhost: test\nconnection: close\n\n",
    "GET /huge HTTP/1.1\nhost: test\nconnection: close\n\n",
    "GET /many HTTP/1.1\nhost: test\nconnection: close\n\n",
    "GET /overflow HTTP/1.1\nhost: test\nconnection: close\n\n",
    "GET /full HTTP/1.1\nhost: test\nconnection: close\n\n",
    "GET /reset HTTP/1.1\nhost: test\nconnection: close\n\n",
    "GET /try HTTP/1.1\nhost: test\nconnection: close\n\n",
    "GET /again/refused HTTP/1.1\nhost: test\nconnection: close\n\n",
    "GET /again/close HTTP/1.1\nhost: test\nconnection: close\n\n",
    "GET /again/nonsense HTTP/1.1\nhost: test\nconnection: close\n\n",
    "GET /again/try HTTP/1.1\nhost: test\nconnection: close\n\n",
    "GET /again/busy HTTP/1.1\nhost: test\nconnection: close\n\n",
    "POST /again/close HTTP/1.1\nhost: test\ncontent-type: application/grpc\ncontent-length: 0\nconnection: close\n\n",
    "GET /again/overflow/busy HTTP/1.1\nhost: test\nconnection: close\n\n",
    "GET /again/overflow/close HTTP/1.1\nhost: test\nconnection: close\n\n",
    "GET /delayed HTTP/1.1\nhost: test\nconnection: close\n\n",
    "GET /delayed-abort HTTP/1.1\nhost: test\nconnection: close\n\n",
    "POST /grpc-fault HTTP/1.1\nhost: test\ncontent-type: application/grpc\ncontent-length: 0\nconnection: close\n\n",
    "GET /grpc-fault HTTP/1.1\nhost: test\nconnection: close\n\n",
    "HEAD /plain HTTP/1.1\nhost: test\nconnection: close\n\n",
    "HEAD /empty HTTP/1.1\nhost: test\nconnection: close\n\n",
    "POST /plain HTTP/1.1\nhost: test\ncontent-length: 4\nconnection: close\n\nbody",
    "POST /plain HTTP/1.1\nhost: test\ntransfer-encoding: chunked\nconnection: close\n\n4\nbody\n0\n\n",
    "GET /plain/./a/../b HTTP/1.1\nhost: test\nconnection: close\n\n",
    "GET http://test/plain HTTP/1.1\nhost: other\nconnection: close\n\n",
    "GET /plain HTTP/1.1\nhost: TEST\nconnection: close\n\n",
    "GET /plain#f HTTP/1.1\nhost: test\nconnection: close\n\n",
    "GET /plain/../../.. HTTP/1.1\nhost: test\nconnection: close\n\n",
    "GET /plain HTTP/1.1\nconnection: close\n\n",
    "GET /plain HTTP/1.1\nhost: test\ncontent-length: 1\ntransfer-encoding: chunked\n\n1\na\n0\n\n",
    "GET /plain HTTP/1.1\nhost: test\ncontent-length: 1\ncontent-length: 2\n\nab",
    "GET /plain HTTP/1.1\nhost: test\ntransfer-encoding: gzip\n\n",
    "GET /plain HTTP/1.1\nhost: test\nx y: 1\n\n",
    "GET /plain HTTP/1.1\nhost: test\nx-a: \x01\n\n",
    "nonsense\n\n",
    "CONNECT test:443 HTTP/1.1\nhost: test:443\n\n",
    "GET /plain HTTP/1.1\nhost: test\nconnection: close\nupgrade-insecure-requests: 1\n\n",
    "POST /plain-unanswered HTTP/1.1\nhost: test\ncontent-length: 9\n\nhalf\u{4}",
    "POST /plain HTTP/1.1\nhost: test\ntransfer-encoding: chunked\n\nnonsense\n",
    "GET /plain-unanswered HTTP/1.1\nhost: test\n\n~\u{4}",
];
/// Ends the client's bytes in a case.
pub(super) const GONE: char = '\u{4}';
