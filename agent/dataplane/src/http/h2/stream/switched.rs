//! Streams on which another protocol is spoken (RFC 8441), such as that of websockets.

use bytes::Bytes;
use h2::SendStream;

use super::{Forward, Stream, field_in};
use crate::{
    http::{
        Outcome,
        exchange::{Exchange, body_end, switched_outcome},
        h2::head::Answer,
        pump::PumpError,
        record_answer,
        stream_bytes::StreamBytes,
    },
    relay::{Limits, Relay, Relayed},
    transport::{Prefixed, Transport},
};

impl Stream<'_> {
    /// The endpoint has agreed on the other protocol: relays its bytes.
    pub(super) async fn switch(
        &mut self,
        forward: &mut Forward<'_>,
        exchange: Exchange,
        mut answer: Answer,
        outcome: Outcome<'static>,
    ) -> Outcome<'static> {
        let (status, began, version) = (answer.status, Some(answer.began), forward.version());
        let outcome = Outcome { status, began, ..outcome };
        let head = answer.head();
        record_answer(self.connection, self.line, field_in(head.headers()));
        let Ok(client) = self.respond.send_response(head, false) else {
            let (flags, details) = body_end(Err(PumpError::Write));
            return Outcome { flags, details, ..outcome };
        };
        let switched = match exchange {
            Exchange::Http1(exchange) => {
                let mut upstream = Prefixed::new(exchange.answered, exchange.upstream.stream);
                switched_outcome(self.relay(client, forward, &mut upstream).await, version)
            }
            Exchange::Http2(mut exchange) => match exchange.take_streams() {
                Some((to, from)) => {
                    let mut upstream = StreamBytes::new(to, from);
                    switched_outcome(self.relay(client, forward, &mut upstream).await, version)
                }
                None => Outcome::ended(Err(PumpError::Read)),
            },
        };
        let Outcome { flags, details, received, sent, .. } = switched;
        Outcome { flags, details, received, sent, ..outcome }
    }

    async fn relay(
        &self,
        client: SendStream<Bytes>,
        forward: &mut Forward<'_>,
        upstream: &mut impl Transport,
    ) -> Relayed {
        let worker = self.connection.worker();
        let deadline = worker.timers.register();
        let idle = Some(self.connection.stream_idle_timeout());
        let limits = Limits { idle, duration: self.limits.left() };
        let mut client = StreamBytes::new(client, forward.upload.stream());
        let mut relay = Relay::new(&mut client, upstream, None);
        relay.run(worker, (self.connection.id, &deadline), limits, |_| {}).await
    }

    /// The endpoint has answered well, but to the request and not to the offer. In HTTP/2 the client would take that for
    /// agreement: as from Envoy, what it gets has ended already.
    pub(super) fn refuse_switch(
        &mut self,
        mut answer: Answer,
        outcome: Outcome<'static>,
    ) -> Outcome<'static> {
        let (status, began) = (answer.status, Some(answer.began));
        let mut head = answer.head();
        head.headers_mut().remove(::http::header::CONTENT_LENGTH);
        record_answer(self.connection, self.line, field_in(head.headers()));
        let outcome = Outcome { status, began, ..outcome };
        match self.respond.send_response(head, true) {
            Ok(_) => Outcome { details: "websocket_handshake_unsuccessful", ..outcome },
            Err(_) => {
                let (flags, details) = body_end(Err(PumpError::Write));
                Outcome { flags, details, ..outcome }
            }
        }
    }
}
