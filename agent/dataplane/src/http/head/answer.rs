//! What goes to a client: the endpoint's fields, and what this proxy adds.

use std::{io::Write, time::Duration};

use snapshot::{Address, Direction, ServerHeader};

use super::{AnswerHead, Changed, FieldSink, Fields};
use crate::{
    connection::Connection,
    failure::LocalReply,
    http::{
        PEER_METADATA, PEER_METADATA_ID, PeerMetadata,
        edits::AnswerChanges,
        grpc_web::GrpcWeb,
        substitute::AnswerFacts,
        websocket::{self, Agreement},
    },
};

const SERVICE_TIME: &str = "x-envoy-upstream-service-time";

/// What this proxy puts into an answer.
pub(in crate::http) struct AnswerFields<'c> {
    /// What `server` says; `None` leaves it to the endpoint.
    server: Option<&'c str>,
    /// Whether the client is told what happened on the way.
    debug: bool,
    /// Whether it is told why an answer is our own: the workload's application is.
    tells_reason: bool,
    date: [u8; 29],
    /// What a client in the mesh is told of the workload.
    introduction: Option<&'c PeerMetadata>,
    /// What the route changes.
    changes: Option<&'c AnswerChanges<'c>>,
    /// How a client of gRPC-Web gets what is gRPC.
    grpc_web: Option<GrpcWeb>,
    /// What the client waits for if the endpoint, which does not say it, agrees to switch protocols.
    agreement: Option<Box<Agreement>>,
}

impl<'c> AnswerFields<'c> {
    pub(in crate::http) fn of(connection: &'c Connection, changes: Option<&'c AnswerChanges<'c>>) -> Self {
        // Istio overwrites the server field at gateways and towards callers; its outbound side keeps Envoy's name.
        let headers = &connection.settings.headers;
        let server = match (&headers.server, connection.direction) {
            (ServerHeader::Named(name), _) => Some(name.as_str()),
            (ServerHeader::Endpoint, _) => None,
            (ServerHeader::Proxy, Direction::Outbound) => Some("envoy"),
            (ServerHeader::Proxy, Direction::Inbound | Direction::Gateway) => Some("istio-envoy"),
        };
        let (date, introduction) = (connection.worker().date(), connection.introduction());
        let debug = headers.debug;
        let tells_reason = debug && connection.direction == Direction::Outbound;
        Self { server, debug, tells_reason, date, introduction, changes, grpc_web: None, agreement: None }
    }

    /// For a client of gRPC-Web, if it is one whose calls become gRPC.
    pub(in crate::http) fn for_grpc_web(self, grpc_web: Option<GrpcWeb>) -> Self {
        Self { grpc_web, ..self }
    }

    /// For a client whose offer is made to an endpoint in HTTP/2, which agrees by its status alone.
    pub(in crate::http) fn agreeing(self, agreement: Option<Box<Agreement>>) -> Self {
        Self { agreement, ..self }
    }

    /// Writes that the endpoint has agreed on another protocol.
    pub(in crate::http) fn write_switch(&self, sink: &mut impl FieldSink, response: &AnswerHead<'_>) {
        sink.field("connection", b"upgrade");
        let agreed = || Some(self.agreement.as_ref()?.protocol.as_str().as_bytes());
        sink.field("upgrade", response.upgrade().or_else(agreed).unwrap_or_default());
        let accept = self.agreement.as_ref().and_then(|agreement| agreement.accept);
        if let Some(accept) = accept.filter(|_| response.field(websocket::ACCEPT).is_none()) {
            sink.field(websocket::ACCEPT, accept.as_bytes());
        }
    }

    /// How the body of an endpoint's answer changes on its way, if it does: other protocols than gRPC pass.
    pub(in crate::http) fn converts(&self, response: &AnswerHead<'_>) -> Option<GrpcWeb> {
        let web = self.grpc_web?;
        response.field("content-type").is_some_and(|kind| kind.starts_with(GRPC)).then_some(web)
    }

    /// Writes the fields of an upstream's answer, without its framing. `service_time` is how long it took to come
    /// once the whole request was here; an answer that came before tells none, as in Envoy.
    pub(in crate::http) fn write_response(
        &self,
        sink: &mut impl FieldSink,
        response: &AnswerHead<'_>,
        (service_time, upstream): (Option<Duration>, &Address),
    ) {
        let field = |name: &str| response.field(name);
        let changed = self.changes.map(|changes| {
            changes.finish(&AnswerFacts {
                status: response.status(),
                flags: "",
                details: "via_upstream",
                upstream: Some(upstream),
                field: &field,
            })
        });
        let mut changing = Changed { sink, changed: changed.as_ref() };
        let has_date = self.write_received(&mut changing, response, service_time);
        changing.finish();
        self.write_own(sink, has_date, changed.as_ref());
    }

    /// Writes what no route changes, as in Envoy: the name of the server, and a date where there is none.
    fn write_own(&self, sink: &mut impl FieldSink, has_date: bool, changed: Option<&Fields<'_>>) {
        let keeps_date = has_date && !changed.is_some_and(|fields| fields.drops("date"));
        if !keeps_date && changed.is_none_or(|fields| fields.first("date").is_none()) {
            sink.field("date", &self.date);
        }
        if let Some(server) = self.server {
            sink.field("server", server.as_bytes());
        }
    }

    /// Whether there is a date among them.
    fn write_received(
        &self,
        sink: &mut impl FieldSink,
        response: &AnswerHead<'_>,
        service_time: Option<Duration>,
    ) -> bool {
        let keeps_length = response.keeps_length();
        let mut has_date = false;
        response.visit(|name, value| {
            let replaced = match name.len() {
                4 if name.eq_ignore_ascii_case("date") => {
                    has_date = true;
                    false
                }
                6 => self.server.is_some() && name.eq_ignore_ascii_case("server"),
                12 => self.grpc_web.is_some_and(|web| {
                    let replaced = name.eq_ignore_ascii_case("content-type") && value.starts_with(GRPC);
                    if replaced {
                        sink.field(name, web.content_type());
                    }
                    replaced
                }),
                21 => name.eq_ignore_ascii_case(PEER_METADATA),
                24 => name.eq_ignore_ascii_case(PEER_METADATA_ID),
                14 => !keeps_length && name.eq_ignore_ascii_case("content-length"),
                29 => self.debug && name.eq_ignore_ascii_case(SERVICE_TIME),
                _ => false,
            };
            if !replaced {
                sink.field(name, value);
            }
        });
        if let Some(time) = service_time.filter(|_| self.debug) {
            sink.field(SERVICE_TIME, itoa::Buffer::new().format(time.as_millis()).as_bytes());
        }
        if let Some(introduction) = self.introduction {
            introduction.write(sink);
        }
        has_date
    }

    /// Writes the fields of an answer of our own.
    pub(in crate::http) fn write_local(&self, to: &mut impl FieldSink, reply: &LocalReply<'_>) {
        let field = |name: &str| (name == "location").then(|| reply.location.map(Vec::from)).flatten();
        let facts = AnswerFacts {
            status: reply.status,
            flags: reply.flags,
            details: reply.details,
            upstream: None,
            field: &field,
        };
        let changed = self.changes.map(|changes| changes.finish(&facts));
        let mut sink = Changed { sink: &mut *to, changed: changed.as_ref() };
        if self.debug && reply.flags == LocalReply::OVERFLOW.flags {
            sink.field("x-envoy-overloaded", b"true");
        }
        if self.tells_reason && !reply.flags.is_empty() {
            // Writing into memory cannot fail.
            sink.field_with(REASON, |out| _ = write!(out, "{} {}", reply.flags, reply.details));
        }
        if let Some(location) = reply.location {
            sink.field("location", location.as_bytes());
        }
        match reply.grpc_status {
            Some(status) => {
                let kind = self.grpc_web.map_or(GRPC, GrpcWeb::content_type);
                write_grpc_status(&mut sink, kind, (status, reply.body));
            }
            None => {
                let kind = if reply.body.is_empty() { None } else { Some(&b"text/plain"[..]) };
                if let Some(kind) = self.grpc_web.map(GrpcWeb::content_type).or(kind) {
                    sink.field("content-type", kind);
                }
            }
        }
        // RFC 9110 §8.6: no length where there can be no body.
        if reply.status != 204 {
            let length = reply.sent_body().len();
            sink.sink.field("content-length", itoa::Buffer::new().format(length).as_bytes());
        }
        sink.finish();
        self.write_own(to, false, changed.as_ref());
    }
}

/// Says why an answer is our own, in the words of the access log: its flags and details.
const REASON: &str = "x-postern-reason";

/// The content type of gRPC, and what those begin with that name a format.
const GRPC: &[u8] = b"application/grpc";

fn write_grpc_status(sink: &mut impl FieldSink, content_type: &[u8], (status, message): (u8, &str)) {
    sink.field("content-type", content_type);
    sink.field("grpc-status", itoa::Buffer::new().format(status).as_bytes());
    if !message.is_empty() {
        sink.field_with("grpc-message", |out| {
            for byte in message.bytes() {
                match byte {
                    // As Envoy does it; `~` could stay (gRPC over HTTP/2, Percent-Encoded).
                    b' '..b'~' if byte != b'%' => out.push(byte),
                    // Writing into memory cannot fail.
                    _ => _ = write!(out, "%{byte:02X}"),
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_get_server_date_and_service_time_and_lose_hop_by_hop_fields() {
        let head = "HTTP/1.1 200 OK\r\nServer: nginx\r\nConnection: close\r\nX-A: 1\r\nX-Envoy-Peer-Metadata: a\r\n\
             X-Envoy-Peer-Metadata-Id: b\r\nContent-Length: 2\r\n\r\n";
        let mut slots = http1::HeaderSlots::new();
        let limits = http1::Limits::default();
        let response = http1::parse_response(head.as_bytes(), &limits, "GET", &mut slots).unwrap().unwrap();
        let fields = AnswerFields {
            server: Some("istio-envoy"),
            debug: true,
            tells_reason: false,
            date: [b'D'; 29],
            introduction: None,
            changes: None,
            grpc_web: None,
            agreement: None,
        };
        let mut out = Vec::new();
        fields.write_response(
            &mut out,
            &AnswerHead::Http1(&response),
            (Some(Duration::from_millis(7)), &([10, 0, 0, 1], 80).into()),
        );
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
        let fields = AnswerFields {
            server: Some("envoy"),
            debug: true,
            tells_reason: true,
            date: [b'D'; 29],
            introduction: None,
            changes: None,
            grpc_web: None,
            agreement: None,
        };
        fields.write_response(&mut out, &AnswerHead::Http1(&response), (None, &([10, 0, 0, 1], 80).into()));
        assert!(String::from_utf8(out).unwrap().contains("Content-Length: 12\r\n"));
    }
}
