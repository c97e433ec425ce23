//! The head of an answer on its way to an HTTP/1 client.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use http1::BodyLength;

use crate::http::{
    SWITCHING_PROTOCOLS,
    h1::reply::Lasting,
    head::{AnswerFields, AnswerHead, FieldSink},
};

/// The head of an answer, as far as it matters once it is written to memory.
#[derive(Clone, Copy)]
pub(super) struct Answer {
    pub(super) interim: bool,
    pub(super) status: u16,
    pub(super) service_time: Duration,
    pub(super) body: BodyLength,
    pub(super) framing: BodyLength,
    /// Whether the endpoint's connection can carry another request.
    pub(super) reusable: bool,
    pub(super) keep_alive: bool,
}

/// Writes into `out` what the client gets of a head: all of an interim one; of a final one all but the `connection`
/// field and the empty line, which depend on how much of the request has arrived by then.
pub(super) fn write_answer(
    out: &mut Vec<u8>,
    head: &AnswerHead<'_>,
    (start, upstream): (Instant, SocketAddr),
    lasting: Lasting,
    fields: &AnswerFields<'_>,
) -> Answer {
    let service_time = start.elapsed();
    let (status, body) = (head.status(), head.body());
    let framing = lasting.framing(body);
    out.clear();
    if head.is_interim() {
        lasting.write_interim(out, head);
    } else {
        http1::write_status_line(out, status);
        fields.write_response(out, head, (service_time, upstream));
        if status == SWITCHING_PROTOCOLS {
            out.field("connection", b"upgrade");
            out.field("upgrade", head.upgrade().unwrap_or_default());
        } else {
            http1::write_framing(out, framing);
        }
    }
    Answer {
        interim: head.is_interim(),
        status,
        service_time,
        body,
        framing,
        reusable: head.keep_alive(),
        keep_alive: false,
    }
}

impl Lasting {
    /// Passes an interim answer on, unless the client's version knows none (RFC 9110 §15.2).
    fn write_interim(self, out: &mut Vec<u8>, head: &AnswerHead<'_>) {
        if self.version == http1::Version::Http11 {
            http1::write_status_line(out, head.status());
            head.write_end_to_end(out);
            out.extend_from_slice(b"\r\n");
        }
    }
}
