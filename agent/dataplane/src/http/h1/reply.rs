//! Answers of our own, and what HTTP/1 answers have in common.

use std::{pin::pin, time::Instant};

use http1::{BodyLength, Version};
use tokio::io::AsyncWriteExt;

use super::{Next, Session};
use crate::{
    connection::Connection,
    failure::LocalReply,
    http::{
        Method, Outcome,
        edits::AnswerChanges,
        grpc_web::GrpcWeb,
        head::{AnswerFields, FieldSink},
        log,
        pump::PumpError,
        record_answer,
    },
    timer::Elapsed,
    transport::DownstreamStream,
};

/// What an answer depends on beside itself.
#[derive(Clone, Copy)]
pub(super) struct Answering<'a> {
    pub(super) persistence: Persistence,
    pub(super) method: Method,
    /// Whether answers of our own take the form of gRPC.
    pub(super) grpc: bool,
    /// The forms of bodies, where gRPC-Web becomes gRPC.
    pub(super) grpc_web: Option<GrpcWeb>,
    /// What the route changes in it.
    pub(super) changes: Option<&'a AnswerChanges<'a>>,
}

impl Answering<'_> {
    /// An answer of our own in the form that the client gets.
    pub(super) fn form_of<'r>(&self, reply: LocalReply<'r>) -> LocalReply<'r> {
        if self.grpc_web.is_some() { reply.for_grpc_web() } else { reply.for_client(self.grpc) }
    }
}

/// Whether the client's connection goes on, and how that is said in its version.
#[derive(Clone, Copy)]
pub(super) struct Persistence {
    pub(super) keep_alive: bool,
    pub(super) version: Version,
}

impl Persistence {
    pub(super) fn write(self, out: &mut Vec<u8>) {
        if !self.keep_alive {
            out.field("connection", b"close");
        }
    }

    /// How a body is sent that comes in as `body`: HTTP/1.0 knows no chunks.
    pub(super) fn framing(self, body: BodyLength) -> BodyLength {
        match (body, self.version) {
            (BodyLength::Chunked | BodyLength::UntilClose, Version::Http11) => BodyLength::Chunked,
            (BodyLength::Chunked | BodyLength::UntilClose, Version::Http10) => BodyLength::UntilClose,
            (known, _) => known,
        }
    }
}

impl Session<'_> {
    /// Answers a request that could not be read, and closes.
    pub(super) async fn refuse(&mut self, reply: &LocalReply<'static>) -> Next {
        let mut out = self.connection.worker().scratch();
        let persistence = Persistence { keep_alive: false, version: Version::Http11 };
        let start = Instant::now();
        let answering =
            Answering { persistence, method: Method::Other, grpc: false, grpc_web: None, changes: None };
        self.line.start(Version::Http11.as_str());
        let next = self.reply(reply, answering, &mut out).await;
        log(self.connection, start, self.line, &Outcome::reply(reply, Method::Other));
        next
    }

    pub(super) async fn reply(
        &mut self,
        reply: &LocalReply<'_>,
        Answering { persistence, method, changes, grpc_web, .. }: Answering<'_>,
        out: &mut Vec<u8>,
    ) -> Next {
        self.connection.worker().count(|counts| counts.local_replies += 1);
        out.clear();
        http1::write_status_line(out, reply.status);
        AnswerFields::of(self.connection, changes).for_grpc_web(grpc_web).write_local(out, reply);
        persistence.write(out);
        out.extend_from_slice(b"\r\n");
        if method != Method::Head {
            out.extend_from_slice(reply.sent_body().as_bytes());
        }
        record_answer(self.connection, self.line, |name| field_of(out, name));
        let written = write_whole(self.connection, self.stream, out).await;
        match (written, persistence.keep_alive) {
            (Ok(()), true) => Next::Request,
            (Ok(()), false) => Next::Linger,
            (Err(_), _) => Next::Close,
        }
    }
}

/// The first value of a field in a head that has been written.
pub(super) fn field_of<'h>(head: &'h [u8], name: &str) -> Option<&'h [u8]> {
    head.split(|byte| *byte == b'\n').skip(1).take_while(|line| line.len() > 1).find_map(|line| {
        let value = line.get(name.len()..)?.strip_prefix(b": ")?;
        line[..name.len()].eq_ignore_ascii_case(name.as_bytes()).then(|| value.trim_ascii_end())
    })
}

/// Writes so that nothing stays behind in the layer that encrypts.
pub(super) async fn write_whole(
    connection: &Connection,
    stream: &mut DownstreamStream,
    bytes: &[u8],
) -> Result<(), PumpError> {
    write_head(connection, stream, bytes).await?;
    let limit = connection.stream_idle_timeout();
    let flushed = connection.deadline.within(limit, pin!(stream.flush())).await;
    flushed.map_err(|Elapsed| PumpError::Idle)?.map_err(|_| PumpError::Write)
}

/// Writes what more follows upon. A client that never reads is not waited for for ever.
pub(super) async fn write_head(
    connection: &Connection,
    stream: &mut DownstreamStream,
    bytes: &[u8],
) -> Result<(), PumpError> {
    let limit = connection.stream_idle_timeout();
    let written = connection.deadline.within(limit, pin!(stream.write_all(bytes))).await;
    written.map_err(|Elapsed| PumpError::Idle)?.map_err(|_| PumpError::Write)
}
