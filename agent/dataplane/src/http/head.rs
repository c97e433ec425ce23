//! Heads on their way through: what is dropped, what is added, in one place for every codec.

use std::{io::Write, net::IpAddr};

use http1::{BodyLength, ConnectionNames, Request, Response};
use snapshot::{Direction, RequestHead};

use crate::{
    access_log::{Field, RequestLine},
    connection::Connection,
    failure::LocalReply,
};

/// An HTTP/1 request as routing and header code see it: hop-by-hop fields are out of sight.
pub(super) struct Http1Head<'r, 'h, 'b> {
    request: &'r Request<'h, 'b>,
    nominated: ConnectionNames<'b>,
}

impl<'r, 'h, 'b> Http1Head<'r, 'h, 'b> {
    pub(super) fn new(request: &'r Request<'h, 'b>) -> Self {
        Self { request, nominated: http1::connection_names(request.headers) }
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
        (!is_dropped(found.name, &self.nominated)).then_some(found.value)
    }

    fn visit_headers(&self, visit: &mut dyn FnMut(&str, &[u8])) {
        visit_end_to_end(self.request.headers, &self.nominated, visit);
    }
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

/// What this proxy adds to a request, by the side of the workload it serves.
pub(super) struct Added {
    direction: Direction,
    /// How the client reached this proxy.
    scheme: &'static str,
    peer: IpAddr,
    /// Present when the client sent none, or one that is not trusted.
    request_id: Option<[u8; UUID_LEN]>,
}

const UUID_LEN: usize = 36;

impl Added {
    /// Decides what to add. Gateways trust nothing that comes from outside the mesh; sidecars only fill gaps.
    pub(super) fn new(connection: &Connection, request: &impl RequestHead) -> Self {
        let direction = connection.direction;
        let replaced = direction == Direction::Gateway || request.header(REQUEST_ID).is_none();
        let request_id = replaced.then(|| uuid_v4(fastrand::u128(..)));
        Self { direction, scheme: connection.scheme(), peer: connection.peer.ip(), request_id }
    }

    fn is_gateway(&self) -> bool {
        self.direction == Direction::Gateway
    }

    /// Whether a field of the client's is dropped because this proxy writes its own.
    fn replaces(&self, name: &str) -> bool {
        match name.len() {
            4 => name.eq_ignore_ascii_case("host"),
            12 => self.request_id.is_some() && name.eq_ignore_ascii_case(REQUEST_ID),
            14 => name.eq_ignore_ascii_case("content-length"),
            15 => self.is_gateway() && name.eq_ignore_ascii_case(FORWARDED_FOR),
            17 => self.is_gateway() && name.eq_ignore_ascii_case(FORWARDED_PROTO),
            _ => false,
        }
    }

    /// Logs `x-forwarded-for` as it goes upstream.
    pub(super) fn record_forwarded_for(&self, line: &mut RequestLine, request: &impl RequestHead) {
        let mut value = Vec::new();
        if self.is_gateway() {
            self.write_forwarded_for(&mut value, request);
        }
        let sent =
            if self.is_gateway() { &value[..] } else { request.header(FORWARDED_FOR).unwrap_or_default() };
        line.push(Field::ForwardedFor, sent);
    }

    /// Logs `x-request-id` as it goes upstream.
    pub(super) fn record_request_id(&self, line: &mut RequestLine, request: &impl RequestHead) {
        let sent = self.request_id.as_ref().map(|id| &id[..]).or_else(|| request.header(REQUEST_ID));
        line.push(Field::RequestId, sent.unwrap_or_default());
    }

    fn write_forwarded_for(&self, out: &mut Vec<u8>, request: &impl RequestHead) {
        request.visit_headers(&mut |name, value| {
            if name.eq_ignore_ascii_case(FORWARDED_FOR) {
                out.extend_from_slice(value);
                out.push(b',');
            }
        });
        // Writing into memory cannot fail.
        _ = write!(out, "{}", self.peer);
    }
}

const REQUEST_ID: &str = "x-request-id";
const FORWARDED_FOR: &str = "x-forwarded-for";
const FORWARDED_PROTO: &str = "x-forwarded-proto";
const SERVICE_TIME: &str = "x-envoy-upstream-service-time";

/// Appends the head of a request as it goes to an HTTP/1.1 upstream.
///
/// `upgrade` is the protocol to offer, if the client asked for one that may be switched to.
pub(super) fn write_request_head(
    out: &mut Vec<u8>,
    request: &impl RequestHead,
    added: &Added,
    body: BodyLength,
    upgrade: Option<&str>,
) {
    http1::write_request_line(out, request.method(), request.path_and_query());
    http1::write_header(out, b"host", request.authority().as_bytes());
    let mut has_scheme = false;
    request.visit_headers(&mut |name, value| {
        has_scheme = has_scheme || name.eq_ignore_ascii_case(FORWARDED_PROTO);
        if !added.replaces(name) {
            http1::write_header(out, name.as_bytes(), value);
        }
    });
    http1::write_framing(out, body);
    if added.is_gateway() || !has_scheme {
        http1::write_header(out, FORWARDED_PROTO.as_bytes(), added.scheme.as_bytes());
    }
    if added.is_gateway() {
        out.extend_from_slice(b"x-forwarded-for: ");
        added.write_forwarded_for(out, request);
        out.extend_from_slice(b"\r\n");
    }
    if let Some(id) = &added.request_id {
        http1::write_header(out, REQUEST_ID.as_bytes(), id);
    }
    if let Some(protocol) = upgrade {
        http1::write_header(out, b"connection", b"upgrade");
        http1::write_header(out, b"upgrade", protocol.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// Where the fields of an answer are written: HTTP/1 text or HTTP/2 fields.
pub(super) trait FieldSink {
    fn field(&mut self, name: &str, value: &[u8]);
}

impl FieldSink for Vec<u8> {
    fn field(&mut self, name: &str, value: &[u8]) {
        http1::write_header(self, name.as_bytes(), value);
    }
}

impl FieldSink for http::HeaderMap {
    fn field(&mut self, name: &str, value: &[u8]) {
        let name = http::HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, http::HeaderValue::from_bytes(value)) {
            self.append(name, value);
        }
    }
}

/// What this proxy puts into every answer.
pub(super) struct AnswerFields {
    pub(super) server: &'static str,
    pub(super) date: [u8; 29],
}

impl AnswerFields {
    pub(super) fn of(connection: &Connection) -> Self {
        // Istio overwrites the server field at gateways and towards callers; its outbound side keeps Envoy's name.
        let server = match connection.direction {
            Direction::Outbound => "envoy",
            Direction::Inbound | Direction::Gateway => "istio-envoy",
        };
        Self { server, date: connection.worker().date() }
    }

    /// Writes the fields of an upstream's answer, without its framing. `service_time` is in milliseconds.
    pub(super) fn write_response(
        &self,
        sink: &mut impl FieldSink,
        response: &Response<'_, '_>,
        service_time: u64,
    ) {
        let nominated = http1::connection_names(response.headers);
        let mut has_date = false;
        visit_end_to_end(response.headers, &nominated, |name, value| {
            let replaced = match name.len() {
                4 if name.eq_ignore_ascii_case("date") => {
                    has_date = true;
                    false
                }
                6 => name.eq_ignore_ascii_case("server"),
                14 => !keeps_length(response) && name.eq_ignore_ascii_case("content-length"),
                29 => name.eq_ignore_ascii_case(SERVICE_TIME),
                _ => false,
            };
            if !replaced {
                sink.field(name, value);
            }
        });
        sink.field(SERVICE_TIME, itoa::Buffer::new().format(service_time).as_bytes());
        if !has_date {
            sink.field("date", &self.date);
        }
        sink.field("server", self.server.as_bytes());
    }

    /// Writes the fields of an answer of our own.
    pub(super) fn write_local(&self, sink: &mut impl FieldSink, reply: &LocalReply<'_>) {
        if let Some(location) = reply.location {
            sink.field("location", location.as_bytes());
        }
        if !reply.body.is_empty() {
            sink.field("content-type", b"text/plain");
        }
        // RFC 9110 §8.6: no length where there can be no body.
        if reply.status != 204 {
            sink.field("content-length", itoa::Buffer::new().format(reply.body.len()).as_bytes());
        }
        sink.field("date", &self.date);
        sink.field("server", self.server.as_bytes());
    }
}

/// Writes the fields of an interim answer as they are.
pub(super) fn write_end_to_end(sink: &mut impl FieldSink, response: &Response<'_, '_>) {
    let nominated = http1::connection_names(response.headers);
    visit_end_to_end(response.headers, &nominated, |name, value| sink.field(name, value));
}

/// Whether a length tells of a body that is not sent: the answer to HEAD, and 304.
fn keeps_length(response: &Response<'_, '_>) -> bool {
    response.body == BodyLength::Empty && response.status >= 200 && response.status != 204
}

/// A random UUID of version 4 (RFC 9562 §5.4) as text.
fn uuid_v4(random: u128) -> [u8; UUID_LEN] {
    let bits = random & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let mut text = [b'-'; UUID_LEN];
    let places = (0..UUID_LEN).filter(|place| !matches!(place, 8 | 13 | 18 | 23));
    for (nibble, place) in places.enumerate() {
        text[place] = b"0123456789abcdef"[(bits >> (124 - 4 * nibble)) as usize & 0xf];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_uuids_of_version_4() {
        assert_eq!(&uuid_v4(0), b"00000000-0000-4000-8000-000000000000");
        assert_eq!(&uuid_v4(u128::MAX), b"ffffffff-ffff-4fff-bfff-ffffffffffff");
    }

    fn forwarded(direction: Direction, head: &str) -> String {
        let mut slots = http1::HeaderSlots::new();
        let request =
            http1::parse_request(head.as_bytes(), &http1::Limits::default(), &mut slots).unwrap().unwrap();
        let head = Http1Head::new(&request);
        let added = Added {
            direction,
            scheme: "http",
            peer: "10.0.0.9".parse().unwrap(),
            request_id: (direction == Direction::Gateway || head.header(REQUEST_ID).is_none())
                .then(|| uuid_v4(0)),
        };
        let mut out = Vec::new();
        write_request_head(&mut out, &head, &added, request.body, None);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn gateways_replace_what_clients_claim() {
        let head = "GET /a?b HTTP/1.1\r\nHost: a.com\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\n\
                    X-Request-Id: mine\r\nConnection: close, x-secret\r\nX-Secret: 1\r\nX-Kept: 2\r\n\r\n";
        assert_eq!(
            forwarded(Direction::Gateway, head),
            "GET /a?b HTTP/1.1\r\nhost: a.com\r\nX-Kept: 2\r\nx-forwarded-proto: http\r\n\
             x-forwarded-for: 1.2.3.4,10.0.0.9\r\nx-request-id: 00000000-0000-4000-8000-000000000000\r\n\r\n"
        );
    }

    #[test]
    fn sidecars_only_fill_gaps() {
        let head = "POST / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\nX-Request-Id: mine\r\n\
                    Content-Length: 3\r\n\r\n";
        assert_eq!(
            forwarded(Direction::Outbound, head),
            "POST / HTTP/1.1\r\nhost: a\r\nX-Forwarded-For: 1.2.3.4\r\nX-Request-Id: mine\r\n\
             content-length: 3\r\nx-forwarded-proto: http\r\n\r\n"
        );
        let head = "GET / HTTP/1.1\r\nHost: a\r\nx-forwarded-proto: https\r\n\r\n";
        assert!(!forwarded(Direction::Inbound, head).contains("proto: http\r\n"));
    }

    #[test]
    fn answers_get_server_date_and_service_time_and_lose_hop_by_hop_fields() {
        let head =
            "HTTP/1.1 200 OK\r\nServer: nginx\r\nConnection: close\r\nX-A: 1\r\nContent-Length: 2\r\n\r\n";
        let mut slots = http1::HeaderSlots::new();
        let limits = http1::Limits::default();
        let response = http1::parse_response(head.as_bytes(), &limits, "GET", &mut slots).unwrap().unwrap();
        let fields = AnswerFields { server: "istio-envoy", date: [b'D'; 29] };
        let mut out = Vec::new();
        fields.write_response(&mut out, &response, 7);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            format!(
                "X-A: 1\r\nx-envoy-upstream-service-time: 7\r\ndate: {}\r\nserver: istio-envoy\r\n",
                "D".repeat(29)
            )
        );
    }

    #[test]
    fn answers_to_head_keep_their_length() {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n";
        let mut slots = http1::HeaderSlots::new();
        let limits = http1::Limits::default();
        let response = http1::parse_response(head.as_bytes(), &limits, "HEAD", &mut slots).unwrap().unwrap();
        let mut out = Vec::new();
        AnswerFields { server: "envoy", date: [b'D'; 29] }.write_response(&mut out, &response, 0);
        assert!(String::from_utf8(out).unwrap().contains("Content-Length: 12\r\n"));
    }
}
