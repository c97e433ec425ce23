//! Heads of HTTP/2 messages, as routing and header code see them and as they are sent.

use std::{
    cell::OnceCell,
    time::{Duration, Instant},
};

use ::http::{
    HeaderMap, HeaderName, StatusCode,
    header::{CONTENT_LENGTH, COOKIE, HOST},
    request::Parts,
};
use h2::ext::Protocol;
use http1::BodyLength;
use snapshot::RequestHead;

use crate::{
    failure::LocalReply,
    http::{
        SWITCHING_PROTOCOLS,
        attempts::Answerer,
        fields::content_length,
        grpc_web::GrpcWeb,
        head::{AnswerFields, AnswerHead, end_to_end, is_of_offer},
    },
    worker::HeadLimits,
};

/// An HTTP/2 request as routing and header code see it.
pub(super) struct Http2Head<'p> {
    parts: &'p Parts,
    /// The protocol that is asked for.
    offer: Option<&'p str>,
    /// The lines of `cookie` as one, made when somebody asks for it and there are several.
    cookie: OnceCell<Vec<u8>>,
}

impl<'p> Http2Head<'p> {
    /// The head, or the answer to one that cannot be served: HTTP/1.1 could not carry it, or it has too many fields.
    pub(super) fn new(parts: &'p Parts, limits: HeadLimits) -> Result<Self, LocalReply<'static>> {
        let head = Self { parts, offer: offered(parts), cookie: OnceCell::new() };
        let authority = head.authority();
        let fits_http1 = !authority.is_empty()
            && http1::is_valid_authority(authority.as_bytes())
            && head.path_and_query().bytes().all(|byte| byte.is_ascii_graphic())
            // RFC 9113 §8.3.1.
            && (head.path_and_query() != "*" || parts.method == ::http::Method::OPTIONS);
        if parts.headers.len() > limits.codec().fields {
            return Err(LocalReply::TOO_MANY_FIELDS);
        }
        if fits_http1 && has_once(&parts.headers, CONTENT_LENGTH) && has_once(&parts.headers, HOST) {
            Ok(head)
        } else {
            Err(LocalReply::BAD_HTTP2)
        }
    }

    /// Cookies, which clients split for compression, in one line again (RFC 9113 §8.2.3).
    fn cookie(&self) -> Option<&[u8]> {
        let mut crumbs = self.parts.headers.get_all(COOKIE).iter().map(trimmed);
        match (crumbs.next()?, crumbs.next()) {
            (only, None) => Some(only),
            (first, Some(second)) => Some(self.cookie.get_or_init(|| {
                let crumbs: Vec<&[u8]> = [first, second].into_iter().chain(crumbs).collect();
                crumbs.join(&b"; "[..])
            })),
        }
    }
}

/// Whether there is no more than one line of a field of which others may look at another line.
fn has_once(fields: &HeaderMap, name: HeaderName) -> bool {
    fields.get_all(name).iter().nth(1).is_none()
}

/// A value as HTTP/1 has it: without the blanks around it that HTTP/2 can carry, and should not (RFC 9113 §8.2.1).
/// Whoever judges the field has to see what the endpoint will.
fn trimmed(value: &::http::HeaderValue) -> &[u8] {
    value.as_bytes().trim_ascii()
}

impl RequestHead for Http2Head<'_> {
    fn method(&self) -> &str {
        method(self.parts)
    }

    // A Host field that differs is dropped: `:authority` is what the client asked for (RFC 9113 §8.3.1).
    fn authority(&self) -> &str {
        let host = || self.parts.headers.get(HOST).and_then(|host| host.to_str().ok());
        self.parts.uri.authority().map(::http::uri::Authority::as_str).or_else(host).unwrap_or_default()
    }

    fn path_and_query(&self) -> &str {
        self.parts.uri.path_and_query().map_or("", ::http::uri::PathAndQuery::as_str)
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        match name {
            name if name.eq_ignore_ascii_case("cookie") => self.cookie(),
            name if is_of_offer(name) => {
                let mut offer = self.offer.into_iter().flat_map(offer_fields);
                offer.find(|(of_offer, _)| name.eq_ignore_ascii_case(of_offer)).map(|(_, value)| value)
            }
            name => self.parts.headers.get(name).map(trimmed),
        }
    }

    fn visit_headers(&self, visit: &mut dyn FnMut(&str, &[u8])) {
        self.offer.into_iter().flat_map(offer_fields).for_each(|(name, value)| visit(name, value));
        let mut cookie = self.cookie();
        // Lines of one name come one after the other.
        for (name, value) in &self.parts.headers {
            let value = if *name == COOKIE { cookie.take() } else { Some(trimmed(value)) };
            if let Some(value) = value.and_then(|value| end_to_end(name.as_str(), value)) {
                visit(name.as_str(), value);
            }
        }
    }
}

/// The protocol that a client asks to speak on its stream (RFC 8441).
pub(super) fn offered(parts: &Parts) -> Option<&str> {
    parts.extensions.get::<Protocol>().map(Protocol::as_str)
}

/// The method as HTTP/1.1 has it: other protocols are asked for by GET there. Routes and logs see it so, as in Envoy.
pub(super) fn method(parts: &Parts) -> &str {
    if offered(parts).is_some() { "GET" } else { parts.method.as_str() }
}

/// The fields that ask for a protocol in HTTP/1.1.
fn offer_fields(protocol: &str) -> [(&'static str, &[u8]); 2] {
    [("connection", b"upgrade"), ("upgrade", protocol.as_bytes())]
}

/// HTTP/2 frames tell where a body ends; HTTP/1.1 wants its length, or chunks.
pub(super) fn body_length(fields: &HeaderMap, ended: bool) -> BodyLength {
    match content_length(fields) {
        Some(length) => BodyLength::Length(length),
        None if ended => BodyLength::Empty,
        None => BodyLength::Chunked,
    }
}

/// The head of an endpoint's answer in HTTP/2 terms.
pub(super) struct Answer {
    pub(super) interim: bool,
    pub(super) status: u16,
    /// How long after the request's first byte it began.
    pub(super) began: Duration,
    fields: HeaderMap,
    pub(super) body: BodyLength,
    /// Whether the endpoint's connection can carry another request.
    pub(super) reusable: bool,
    /// How the body changes on its way.
    pub(super) grpc_web: Option<GrpcWeb>,
}

/// `date`, `server` and the time that the endpoint took. With one more, the answers of most applications would need the
/// next larger map, which allocators have at hand far less often.
const USUALLY_ADDED: usize = 3;

impl Answer {
    pub(super) fn new(
        head: &AnswerHead<'_>,
        (start, from): (Instant, Answerer),
        added: &AnswerFields<'_>,
    ) -> Self {
        let (now, body) = (Instant::now(), head.body());
        let grpc_web = added.converts(head);
        let body = grpc_web.map_or(body, |web| web.answer_body(body));
        let mut fields = HeaderMap::with_capacity(head.field_count() + USUALLY_ADDED);
        if head.is_interim() {
            head.write_end_to_end(&mut fields);
        } else {
            let service_time = from.asked.map(|asked| now - asked);
            added.write_response(&mut fields, head, (service_time, &from.address));
        }
        match body {
            // The end of the frames says as much; gRPC answers without a body have no length.
            BodyLength::Length(0) if !head.has_length() => {}
            BodyLength::Length(length) => _ = fields.insert(CONTENT_LENGTH, length.into()),
            _ => {}
        }
        let (interim, status, reusable) = (head.is_interim(), head.status(), head.keep_alive());
        Self { interim, status, began: now - start, fields, body, reusable, grpc_web }
    }

    /// The head as it is sent; its fields are given away. HTTP/2 agrees on another protocol by 200 (RFC 8441 §4).
    pub(super) fn head(&mut self) -> ::http::Response<()> {
        let status = if self.status == SWITCHING_PROTOCOLS { 200 } else { self.status };
        head(status, std::mem::take(&mut self.fields))
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
