//! Heads of HTTP/2 messages, as routing and header code see them and as they are sent.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use ::http::{HeaderMap, StatusCode, request::Parts};
use http1::BodyLength;
use snapshot::RequestHead;

use crate::{
    failure::LocalReply,
    http::head::{AnswerFields, AnswerHead},
};

/// An HTTP/2 request as routing and header code see it.
pub(super) struct Http2Head<'p>(&'p Parts);

impl<'p> Http2Head<'p> {
    /// The head, or the answer to one that cannot be served: HTTP/1.1 could not carry it, or it has too many fields.
    pub(super) fn new(parts: &'p Parts) -> Result<Self, LocalReply<'static>> {
        let head = Self(parts);
        let authority = head.authority();
        let fits_http1 = !authority.is_empty()
            && http1::is_valid_authority(authority.as_bytes())
            && head.path_and_query().bytes().all(|byte| byte.is_ascii_graphic());
        match parts.headers.len() {
            0..=http1::MAX_HEADERS if fits_http1 && same_lengths(&parts.headers) => Ok(head),
            0..=http1::MAX_HEADERS => Err(LocalReply::BAD_REQUEST),
            _ => Err(LocalReply::TOO_MANY_FIELDS),
        }
    }
}

/// Whether all lines of `content-length` say the same; the codec looks at the first.
fn same_lengths(fields: &HeaderMap) -> bool {
    let mut lengths = fields.get_all("content-length").iter();
    let first = lengths.next();
    lengths.all(|length| Some(length) == first)
}

impl RequestHead for Http2Head<'_> {
    fn method(&self) -> &str {
        self.0.method.as_str()
    }

    // A Host field that differs is dropped: `:authority` is what the client asked for (RFC 9113 §8.3.1).
    fn authority(&self) -> &str {
        let host = || self.0.headers.get("host").and_then(|host| host.to_str().ok());
        self.0.uri.authority().map(::http::uri::Authority::as_str).or_else(host).unwrap_or_default()
    }

    fn path_and_query(&self) -> &str {
        self.0.uri.path_and_query().map_or("/", ::http::uri::PathAndQuery::as_str)
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        self.0.headers.get(name).map(::http::HeaderValue::as_bytes)
    }

    fn visit_headers(&self, visit: &mut dyn FnMut(&str, &[u8])) {
        for name in self.0.headers.keys() {
            match name.as_str() {
                // Split for compression; one line again for HTTP/1.1 (RFC 9113 §8.2.3).
                "cookie" => visit("cookie", &joined_cookies(&self.0.headers)),
                name if http1::is_hop_by_hop(name) => {}
                name => self.0.headers.get_all(name).iter().for_each(|value| visit(name, value.as_bytes())),
            }
        }
    }
}

fn joined_cookies(headers: &HeaderMap) -> Vec<u8> {
    let crumbs: Vec<&[u8]> = headers.get_all("cookie").iter().map(::http::HeaderValue::as_bytes).collect();
    crumbs.join(&b"; "[..])
}

/// HTTP/2 frames tell where a body ends; HTTP/1.1 wants its length, or chunks.
pub(super) fn body_length(fields: &HeaderMap, ended: bool) -> BodyLength {
    // The codec has checked the number.
    let length = fields.get("content-length").and_then(|length| length.to_str().ok()?.parse().ok());
    match length {
        Some(length) => BodyLength::Length(length),
        None if ended => BodyLength::Empty,
        None => BodyLength::Chunked,
    }
}

/// The head of an endpoint's answer in HTTP/2 terms.
pub(super) struct Answer {
    pub(super) interim: bool,
    pub(super) status: u16,
    pub(super) service_time: Duration,
    fields: HeaderMap,
    pub(super) body: BodyLength,
    /// Whether the endpoint's connection can carry another request.
    pub(super) reusable: bool,
}

impl Answer {
    pub(super) fn new(
        head: &AnswerHead<'_>,
        (start, upstream): (Instant, SocketAddr),
        added: &AnswerFields<'_>,
    ) -> Self {
        let (service_time, body) = (start.elapsed(), head.body());
        let mut fields = HeaderMap::with_capacity(head.field_count() + 4);
        if head.is_interim() {
            head.write_end_to_end(&mut fields);
        } else {
            added.write_response(&mut fields, head, (service_time, upstream));
        }
        match body {
            // The end of the frames says as much; gRPC answers without a body have no length.
            BodyLength::Length(0) if !head.has_length() => {}
            BodyLength::Length(length) => _ = fields.insert("content-length", length.into()),
            _ => {}
        }
        let (interim, status, reusable) = (head.is_interim(), head.status(), head.keep_alive());
        Self { interim, status, service_time, fields, body, reusable }
    }

    /// The head as it is sent; its fields are given away.
    pub(super) fn head(&mut self) -> ::http::Response<()> {
        head(self.status, std::mem::take(&mut self.fields))
    }
}

/// The head of an answer of our own.
pub(super) fn local_head(reply: &LocalReply<'_>, added: &AnswerFields<'_>) -> ::http::Response<()> {
    let mut fields = HeaderMap::new();
    added.write_local(&mut fields, reply);
    head(reply.status, fields)
}

fn head(status: u16, fields: HeaderMap) -> ::http::Response<()> {
    let mut head = ::http::Response::new(());
    *head.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    *head.headers_mut() = fields;
    head
}
