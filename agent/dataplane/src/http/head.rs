//! Heads on their way through: what is dropped, what is added, in one place for every codec.

mod added;
mod answer;
mod answer_head;
mod certificate_field;
mod control;
mod request;
mod seen;
mod trusted_proxies;

use http1::{ConnectionNames, Request};
use snapshot::{RequestHead, Underscores};

use super::edits::Fields;
use crate::upgrades::Upgrades;

pub(super) use added::{ATTEMPT_COUNT, Added, EXPECTED_TIMEOUT};
pub(super) use answer::AnswerFields;
pub(super) use answer_head::AnswerHead;
pub(super) use request::{http2_request_head, replace_number, write_request_head};
pub(super) use seen::Seen;

/// Whether one of the names holds `_`: servers that make variables of names take it for `-`.
pub(super) fn has_underscore<'n>(mut names: impl Iterator<Item = &'n str>) -> bool {
    names.any(|name| name.contains('_'))
}

/// An HTTP/1 request as routing and header code see it: hop-by-hop fields are out of sight, but for an offer that is passed
/// on, which routes may ask for.
pub(super) struct Http1Head<'r, 'h, 'b> {
    request: &'r Request<'h, 'b>,
    hop_by_hop: HopByHop<'r, 'b>,
}

impl<'r, 'h, 'b> Http1Head<'r, 'h, 'b> {
    /// `nominated` are the fields that its `connection` field names.
    pub(super) fn new(
        request: &'r Request<'h, 'b>,
        nominated: &'r ConnectionNames<'b>,
        (upgrades, underscores): (&Upgrades, Underscores),
    ) -> Self {
        let hop_by_hop = HopByHop {
            drops_underscores: underscores == Underscores::Dropped,
            ..HopByHop::of(nominated, request.upgrade, upgrades)
        };
        Self { request, hop_by_hop }
    }

    /// The protocol that the client offers, if it may be switched to.
    pub(super) fn offer(&self) -> Option<&'b str> {
        self.request.upgrade.filter(|_| self.hop_by_hop.passes_offer)
    }
}

impl RequestHead for Http1Head<'_, '_, '_> {
    fn method(&self) -> &str {
        self.request.method
    }

    fn authority(&self) -> &str {
        self.request.authority().unwrap_or_default()
    }

    fn path_and_query(&self) -> &str {
        self.request.target.path_and_query()
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        let same = |header: &&httparse::Header<'_>| header.name.eq_ignore_ascii_case(name);
        let found = self.request.headers.iter().find(same)?;
        self.hop_by_hop.passed_on(found)
    }

    fn visit_headers(&self, visit: &mut dyn FnMut(&str, &[u8])) {
        for header in self.request.headers {
            if let Some(value) = self.hop_by_hop.passed_on(header) {
                visit(header.name, value);
            }
        }
    }
}

/// What routes see of the fields that a client of HTTP/1.1 sends: those that end at the proxy are out of sight,
/// and so are offers to switch to anything but `upgrades`.
pub fn shown_to_routes(fields: &[(String, String)], upgrades: &Upgrades) -> Vec<(String, String)> {
    let headers = fields.iter().map(|(name, value)| httparse::Header { name, value: value.as_bytes() });
    let headers: Vec<_> = headers.collect();
    let nominated = http1::connection_names(&headers);
    let hop_by_hop = HopByHop::of(&nominated, http1::upgrade_offer(&headers), upgrades);
    let shown = headers.iter().filter_map(|header| Some((header.name, hop_by_hop.passed_on(header)?)));
    shown.map(|(name, value)| (name.to_owned(), String::from_utf8_lossy(value).into_owned())).collect()
}

/// Which fields of an HTTP/1 request end at this proxy.
struct HopByHop<'r, 'b> {
    nominated: &'r ConnectionNames<'b>,
    /// Whether the client offers what is passed on, as in Envoy with the fields that say so.
    passes_offer: bool,
    /// Whether fields end here whose names hold `_`.
    drops_underscores: bool,
}

impl<'r, 'b> HopByHop<'r, 'b> {
    fn of(nominated: &'r ConnectionNames<'b>, upgrade: Option<&str>, upgrades: &Upgrades) -> Self {
        let passes_offer = upgrade.is_some_and(|protocol| upgrades.allow(protocol));
        Self { nominated, passes_offer, drops_underscores: false }
    }

    fn passed_on(&self, header: &httparse::Header<'b>) -> Option<&'b [u8]> {
        let nominated = !self.nominated.is_empty() && self.nominated.contains(header.name);
        if self.passes_offer && is_of_offer(header.name) {
            return Some(header.value);
        }
        let dropped = nominated || self.drops_underscores && header.name.contains('_');
        end_to_end(header.name, header.value).filter(|_| !dropped)
    }
}

/// Whether a field is one of the two that offer another protocol; heads for endpoints get their own.
pub(super) fn is_of_offer(name: &str) -> bool {
    match name.len() {
        7 => name.eq_ignore_ascii_case("upgrade"),
        10 => name.eq_ignore_ascii_case("connection"),
        _ => false,
    }
}

/// What goes on of a field of a request: all but hop-by-hop ones, and of `te` that the client takes trailers, which
/// servers of gRPC insist on.
pub(super) fn end_to_end<'v>(name: &str, value: &'v [u8]) -> Option<&'v [u8]> {
    if !http1::is_hop_by_hop(name) {
        return Some(value);
    }
    let takes_trailers = || value.split(|byte| *byte == b',').any(|coding| is_trailers(coding.trim_ascii()));
    (name.eq_ignore_ascii_case("te") && takes_trailers()).then_some(b"trailers")
}

fn is_trailers(coding: &[u8]) -> bool {
    coding.eq_ignore_ascii_case(b"trailers")
}

fn visit_end_to_end(
    headers: &[httparse::Header<'_>],
    nominated: &ConnectionNames<'_>,
    mut visit: impl FnMut(&str, &[u8]),
) {
    for header in headers.iter().filter(|header| !is_dropped(header.name, nominated)) {
        visit(header.name, header.value);
    }
}

fn is_dropped(name: &str, nominated: &ConnectionNames<'_>) -> bool {
    http1::is_hop_by_hop(name) || (!nominated.is_empty() && nominated.contains(name))
}

/// Where fields are written: HTTP/1 text or HTTP/2 fields.
pub(super) trait FieldSink {
    fn field(&mut self, name: &str, value: &[u8]);

    /// A field whose value is written by `write`.
    fn field_with(&mut self, name: &str, write: impl FnOnce(&mut Vec<u8>));
}

impl FieldSink for Vec<u8> {
    fn field(&mut self, name: &str, value: &[u8]) {
        http1::write_header(self, name.as_bytes(), value);
    }

    fn field_with(&mut self, name: &str, write: impl FnOnce(&mut Self)) {
        self.extend_from_slice(name.as_bytes());
        self.extend_from_slice(b": ");
        write(self);
        self.extend_from_slice(b"\r\n");
    }
}

impl FieldSink for http::HeaderMap {
    fn field(&mut self, name: &str, value: &[u8]) {
        let name = http::HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, http::HeaderValue::from_bytes(value)) {
            self.append(name, value);
        }
    }

    fn field_with(&mut self, name: &str, write: impl FnOnce(&mut Vec<u8>)) {
        let mut value = Vec::new();
        write(&mut value);
        self.field(name, &value);
    }
}

/// Passes fields on as a route changes them.
struct Changed<'s, 'f, S> {
    sink: &'s mut S,
    changed: Option<&'f Fields<'f>>,
}

impl<S: FieldSink> Changed<'_, '_, S> {
    /// Writes what the route adds.
    fn finish(self) {
        if let Some(fields) = self.changed {
            fields.write(self.sink);
        }
    }

    fn drops(&self, name: &str) -> bool {
        self.changed.is_some_and(|fields| fields.drops(name))
    }
}

impl<S: FieldSink> FieldSink for Changed<'_, '_, S> {
    fn field(&mut self, name: &str, value: &[u8]) {
        if !self.drops(name) {
            self.sink.field(name, value);
        }
    }

    fn field_with(&mut self, name: &str, write: impl FnOnce(&mut Vec<u8>)) {
        if !self.drops(name) {
            self.sink.field_with(name, write);
        }
    }
}
