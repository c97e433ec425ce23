//! What trusted proxies before a gateway say of the client.

use std::net::IpAddr;

use snapshot::RequestHead;

use super::added::{FORWARDED_FOR, FORWARDED_PROTO, write_values};

/// The address that the outermost of `proxies` trusted ones has seen: each adds the one it sees to
/// `x-forwarded-for`, and the last of them is the peer. `None` when fewer are there, or it is none.
pub(super) fn forwarded_client(request: &impl RequestHead, proxies: u32) -> Option<IpAddr> {
    let mut values = Vec::new();
    write_values(&mut values, FORWARDED_FOR, request);
    let values = std::str::from_utf8(&values).ok()?.strip_suffix(',')?;
    values.rsplit(',').nth(proxies as usize - 1)?.trim().parse().ok()
}

pub(super) fn forwarded_scheme(request: &impl RequestHead) -> Option<&'static str> {
    match request.header(FORWARDED_PROTO)? {
        value if value.eq_ignore_ascii_case(b"https") => Some("https"),
        value if value.eq_ignore_ascii_case(b"http") => Some("http"),
        _ => None,
    }
}
