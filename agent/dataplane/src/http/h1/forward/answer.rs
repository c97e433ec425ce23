//! The head of an answer on its way to an HTTP/1 client.

use std::time::{Duration, Instant};

use http1::BodyLength;

use crate::http::{
    SWITCHING_PROTOCOLS,
    attempts::Answerer,
    grpc_web::GrpcWeb,
    h1::reply::Persistence,
    head::{AnswerFields, AnswerHead},
};

/// The head of an answer, as far as it matters once it is written to memory.
#[derive(Clone, Copy)]
pub(super) struct Answer {
    pub(super) interim: bool,
    pub(super) status: u16,
    /// How long after the request's first byte it began.
    pub(super) began: Duration,
    pub(super) body: BodyLength,
    pub(super) framing: BodyLength,
    /// Whether the endpoint's connection can carry another request.
    pub(super) reusable: bool,
    pub(super) keep_alive: bool,
    /// How the body changes on its way.
    pub(super) grpc_web: Option<GrpcWeb>,
}

/// Writes into `out` what the client gets of a head: all of an interim one; of a final one all but the `connection`
/// field and the empty line, which depend on how much of the request has arrived by then.
pub(super) fn write_answer(
    out: &mut Vec<u8>,
    head: &AnswerHead<'_>,
    (start, from): (Instant, Answerer),
    persistence: Persistence,
    fields: &AnswerFields<'_>,
) -> Answer {
    let now = Instant::now();
    let (status, body) = (head.status(), head.body());
    let grpc_web = fields.converts(head);
    let body = grpc_web.map_or(body, |web| web.answer_body(body));
    let framing = persistence.framing(body);
    out.clear();
    if head.is_interim() {
        persistence.write_interim(out, head);
    } else {
        http1::write_status_line(out, status);
        let service_time = from.asked.map(|asked| now - asked);
        fields.write_response(out, head, (service_time, &from.address));
        if status == SWITCHING_PROTOCOLS {
            fields.write_switch(out, head);
        } else {
            http1::write_framing(out, framing);
        }
    }
    Answer {
        interim: head.is_interim(),
        status,
        began: now - start,
        body,
        framing,
        reusable: head.keep_alive(),
        keep_alive: false,
        grpc_web,
    }
}

impl Persistence {
    /// Passes an interim answer on, unless the client's version knows none (RFC 9110 §15.2).
    fn write_interim(self, out: &mut Vec<u8>, head: &AnswerHead<'_>) {
        if self.version == http1::Version::Http11 {
            http1::write_status_line(out, head.status());
            head.write_end_to_end(out);
            out.extend_from_slice(b"\r\n");
        }
    }
}
