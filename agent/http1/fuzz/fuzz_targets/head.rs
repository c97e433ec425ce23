//! Heads of any bytes: no panic, and a head that was taken is written and taken again as the same.
#![no_main]

use http1::{
    Header, HeaderSlots, Limits, connection_names, parse_request, parse_response, write_header,
    write_request_line,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut slots = HeaderSlots::new();
    if let Ok(Some(request)) = parse_request(bytes, &Limits::default(), &mut slots) {
        assert!(request.head_len <= bytes.len());
        let _ = connection_names(request.headers);
        let target = request.target.authority().filter(|_| request.method == "CONNECT");
        let target = target.unwrap_or(request.target.path_and_query());
        let again = write_head(request.method, target, request.headers);
        let mut slots = HeaderSlots::new();
        let again =
            parse_request(&again, &Limits { head_bytes: usize::MAX, ..Limits::default() }, &mut slots);
        // Written for HTTP/1.1, a head of HTTP/1.0 may lack a host.
        if let Some(again) = again.ok().flatten() {
            assert_eq!((again.method, again.headers), (request.method, request.headers));
            assert_eq!(again.body, request.body);
        } else {
            assert!(request.host.is_none());
        }
    }
    for method in ["GET", "HEAD", "CONNECT"] {
        let mut slots = HeaderSlots::new();
        if let Ok(Some(response)) = parse_response(bytes, &Limits::default(), method, &mut slots) {
            assert!(response.head_len <= bytes.len() && response.status >= 100);
        }
    }
});

fn write_head(method: &str, target: &str, headers: &[Header<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    write_request_line(&mut out, method, target);
    headers.iter().for_each(|header| write_header(&mut out, header.name.as_bytes(), header.value));
    out.extend_from_slice(b"\r\n");
    out
}
