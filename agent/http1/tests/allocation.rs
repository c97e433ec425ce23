//! Reading and writing a message allocates nothing once the vector written to has grown to its size.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use http1::{
    BodyDecoder, BodyLength, HeadEnd, HeaderSlots, Limits, chunk_head, connection_names, is_hop_by_hop,
    parse_request, parse_response, write_chunk, write_framing, write_header, write_last_chunk,
    write_request_line, write_status_line,
};

/// Counts, per thread, what the test harness's own threads must not be able to add to.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

#[expect(
    unsafe_code,
    reason = "an allocator cannot be written without it; this one only counts and passes on"
)]
// SAFETY: every call is passed on unchanged to the system allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs `work` once to let vectors grow, then again; returns the allocations of the second run.
fn allocations_when_warm(mut work: impl FnMut()) -> usize {
    work();
    let before = ALLOCATIONS.with(Cell::get);
    work();
    ALLOCATIONS.with(Cell::get) - before
}

/// Writes the request in `buf` as a proxy would send it on, body included.
fn forward_request(buf: &[u8], out: &mut Vec<u8>) {
    assert!(HeadEnd::default().find(buf, &Limits::default()));
    let mut slots = HeaderSlots::new();
    let Ok(Some(request)) = parse_request(buf, &Limits::default(), &mut slots) else {
        panic!("request refused")
    };
    write_request_line(out, request.method, request.target.path_and_query());
    let nominated = connection_names(request.headers);
    for header in request.headers {
        let framing = header.name.eq_ignore_ascii_case("content-length");
        if !framing && !is_hop_by_hop(header.name) && !nominated.contains(header.name) {
            write_header(out, header.name.as_bytes(), header.value);
        }
    }
    write_framing(out, request.body);
    out.extend_from_slice(b"\r\n");
    forward_body(request.body, &buf[request.head_len..], out);
}

fn forward_response(buf: &[u8], out: &mut Vec<u8>) {
    let mut slots = HeaderSlots::new();
    let parsed = parse_response(buf, &Limits::default(), "GET", &mut slots);
    let Ok(Some(response)) = parsed else { panic!("response refused") };
    write_status_line(out, response.status);
    for header in response.headers {
        if !is_hop_by_hop(header.name) {
            write_header(out, header.name.as_bytes(), header.value);
        }
    }
    out.extend_from_slice(b"\r\n");
    forward_body(response.body, &buf[response.head_len..], out);
}

fn forward_body(length: BodyLength, mut buf: &[u8], out: &mut Vec<u8>) {
    let mut decoder = BodyDecoder::new(length);
    while !decoder.is_done() {
        let decoded = decoder.decode(buf).expect("the body is valid");
        match length {
            BodyLength::Chunked => write_chunk(out, &buf[decoded.data]),
            _ => out.extend_from_slice(&buf[decoded.data]),
        }
        buf = &buf[decoded.consumed..];
    }
    if length == BodyLength::Chunked {
        write_last_chunk(out);
    }
}

#[test]
fn allocations_are_counted() {
    assert_eq!(allocations_when_warm(|| drop(std::hint::black_box(vec![1u8; 10]))), 1);
}

#[test]
fn forwarding_a_usual_exchange_allocates_nothing() {
    let mut out = Vec::new();
    let allocations = allocations_when_warm(|| {
        out.clear();
        forward_request(REQUEST, &mut out);
        forward_response(RESPONSE, &mut out);
    });
    assert_eq!(allocations, 0);
}

#[test]
fn forwarding_chunks_allocates_nothing() {
    let mut out = Vec::new();
    let allocations = allocations_when_warm(|| {
        out.clear();
        forward_request(CHUNKED_REQUEST, &mut out);
        out.extend_from_slice(chunk_head(4096).as_ref());
    });
    assert_eq!(allocations, 0);
}

#[test]
fn refusing_allocates_nothing() {
    let refuse = || {
        let mut slots = HeaderSlots::new();
        let error = parse_request(b"GET /#a HTTP/1.1\r\nhost: a\r\n\r\n", &Limits::default(), &mut slots);
        assert_eq!(error.unwrap_err().status(), 400);
    };
    assert_eq!(allocations_when_warm(refuse), 0);
}

const REQUEST: &[u8] = b"GET /api/v1/products/42?full=true HTTP/1.1\r\n\
    Host: productpage.shop.svc.cluster.local:9080\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Encoding: gzip, deflate, br\r\n\
    Accept-Language: en-GB,en;q=0.7\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\
    X-Request-Id: 0f6f4d1e-5c7c-4b0a-9c1c-0a1b2c3d4e5f\r\n\
    X-Forwarded-Proto: https\r\n\
    Connection: keep-alive, x-hop\r\n\
    X-Hop: 1\r\n\
    \r\n";

const CHUNKED_REQUEST: &[u8] = b"POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
    5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nx-sum: 1\r\n\r\n";

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Server: a\r\n\
    Date: Sat, 21 Nov 2026 09:00:00 GMT\r\n\
    Content-Type: application/json\r\n\
    Content-Length: 13\r\n\
    Keep-Alive: timeout=5\r\n\
    \r\n\
    {\"ok\": true}\n";
