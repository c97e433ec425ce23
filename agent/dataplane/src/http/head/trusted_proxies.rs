//! What trusted proxies before a gateway say of the client.

use std::net::IpAddr;

use snapshot::RequestHead;

use super::added::{FORWARDED_FOR, FORWARDED_PROTO};

/// The address that the outermost of `proxies` trusted ones has seen: each adds the one it sees to
/// `x-forwarded-for`, and the last of them is the peer. `None` when fewer are there, or it is none.
///
/// What stands before it is the client's own, and may be anything.
pub(super) fn forwarded_client(request: &impl RequestHead, proxies: u32) -> Option<IpAddr> {
    let mut addresses = 0;
    visit_addresses(request, |_| addresses += 1);
    let mut from_end = addresses;
    let mut client = None;
    visit_addresses(request, |address| {
        if from_end == proxies {
            client = std::str::from_utf8(address).ok().and_then(|address| address.parse().ok());
        }
        from_end -= 1;
    });
    client
}

/// Calls `visit` for every element of `x-forwarded-for`, over all its lines.
fn visit_addresses(request: &impl RequestHead, mut visit: impl FnMut(&[u8])) {
    request.visit_headers(&mut |name, value| {
        if name.eq_ignore_ascii_case(FORWARDED_FOR) && !value.is_empty() {
            value.split(|byte| *byte == b',').for_each(|address| visit(address.trim_ascii()));
        }
    });
}

/// The client of a request to or from a workload, as Envoy has it for sidecars: the last address that proxies before have
/// written, if it is one.
pub(super) fn last_forwarded(request: &impl RequestHead) -> Option<IpAddr> {
    // Most have none, which is found out without looking at every line.
    request.header(FORWARDED_FOR)?;
    let mut last = None;
    request.visit_headers(&mut |name, value| {
        if name.eq_ignore_ascii_case(FORWARDED_FOR) {
            let value = std::str::from_utf8(value).unwrap_or_default();
            last = value.rsplit(',').next().and_then(|address| address.trim().parse().ok());
        }
    });
    last
}

/// The scheme that trusted proxies tell; `None` where they tell none, or one on each of several lines: which of them the
/// client wrote is not known.
pub(super) fn forwarded_scheme(request: &impl RequestHead) -> Option<&'static str> {
    let value = request.header(FORWARDED_PROTO).filter(|_| request.lines(FORWARDED_PROTO) == 1)?;
    ["https", "http"].into_iter().find(|scheme| value.eq_ignore_ascii_case(scheme.as_bytes()))
}
