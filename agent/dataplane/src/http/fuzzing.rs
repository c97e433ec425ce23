//! What the fuzz target of header values calls.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::SystemTime,
};

use http1::HeaderSlots;
use snapshot::{
    Edits, EscapedSlashes, Format, HeaderEdits, Normalized, PathNormalization, ProxyHeaders, RequestHead,
    Underscores,
};

use super::{
    edits::{AnswerChanges, RequestChanges},
    head::{Added, FieldSink, Http1Head, http2_request_head, write_request_head},
    substitute::{AnswerFacts, RequestFacts},
};
use crate::upgrades::Upgrades;

/// Changes the request that `bytes` begin with, and the answer to it, by values of a format.
///
/// # Panics
/// What goes up is no request, or says more than it should; a line of the answer is none.
pub(crate) fn change_heads(format: &Format, bytes: &[u8]) {
    let mut slots = HeaderSlots::new();
    let Ok(Some(request)) = http1::parse_request(bytes, &http1::Limits::default(), &mut slots) else {
        return;
    };
    let nominated = http1::connection_names(request.headers);
    let head = Http1Head::new(&request, &nominated, (&Upgrades::default(), Underscores::Allowed));
    let Ok(head) = Normalized::new(&head, (PathNormalization::Base, EscapedSlashes::Kept)) else { return };
    let edits = || Edits {
        set: vec![(SET.to_owned(), format.clone())],
        add: vec![(ADDED.to_owned(), format.clone()), (SET.to_owned(), format.clone())],
        ..Edits::default()
    };
    let edits = HeaderEdits { request: edits(), response: edits() };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 80));
    let added = Added::of_gateway(address.ip());
    let facts = RequestFacts {
        peer: address,
        destination: address,
        unix: None,
        server_name: Some("a.com"),
        head: &head,
        added: &added,
        protocol: "HTTP/1.1",
        start: SystemTime::UNIX_EPOCH,
        route: None,
        cluster: Some("outbound|80||a"),
    };
    let changes =
        RequestChanges::of([Some(&edits), Some(&edits)], (None, None), (&facts, &ProxyHeaders::default()));
    let mut out = Vec::new();
    write_request_head(&mut out, &head, &added, request.body, (Some(&changes), None));
    _ = http2_request_head(&head, &added, request.body, (Some(&changes), None));
    // What is added must find room when it is read again.
    if request.headers.len() < FEW {
        assert_sent(&out, request.method, &head);
    }
    let field = |name: &str| head.header(name).map(<[u8]>::to_vec);
    let answer = AnswerFacts {
        status: 200,
        flags: "",
        details: "via_upstream",
        upstream: Some(&address.into()),
        field: &field,
    };
    let changes = AnswerChanges::of([Some(&edits), Some(&edits)], &facts, &changes);
    changes.finish(&answer).write(&mut Lines);
}

/// What was written is one head of a request with no name that was not there or asked for.
fn assert_sent(sent: &[u8], method: &str, received: &impl RequestHead) {
    let mut slots = HeaderSlots::new();
    let limits = http1::Limits { head_bytes: usize::MAX, ..http1::Limits::default() };
    let again = http1::parse_request(sent, &limits, &mut slots).expect("a request is sent");
    let again = again.expect("all of it");
    assert_eq!((again.head_len, again.method), (sent.len(), method));
    for header in again.headers {
        let own = OWN.contains(&header.name) || received.header(header.name).is_some();
        assert!(own, "`{}` comes from nowhere", header.name);
    }
}

/// Asserts of each line that it is one.
struct Lines;

impl FieldSink for Lines {
    fn field(&mut self, _name: &str, value: &[u8]) {
        assert!(value.iter().all(|byte| *byte == b'\t' || !byte.is_ascii_control()), "{value:?}");
    }

    fn field_with(&mut self, name: &str, write: impl FnOnce(&mut Vec<u8>)) {
        let mut value = Vec::new();
        write(&mut value);
        self.field(name, &value);
    }
}

const SET: &str = "x-set";
const ADDED: &str = "x-added";
const FEW: usize = 80;
/// Names that go up whatever the client sent.
const OWN: [&str; 10] = [
    SET,
    ADDED,
    "host",
    "content-length",
    "transfer-encoding",
    "x-envoy-attempt-count",
    "x-envoy-external-address",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-request-id",
];
