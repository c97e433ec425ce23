//! From the head of a request to what is to be done with it.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
    time::Instant,
};

use ::http::request::Parts;
use bytes::Bytes;
use h2::server::SendResponse;
use http1::BodyLength;
use snapshot::Normalized;

use crate::{
    access_log::Recorded,
    connection::Connection,
    failure::LocalReply,
    http::{
        exchange::UpstreamVersion,
        grpc_web::GrpcWeb,
        h2::head::{Http2Head, offered},
        head::{Added, http2_request_head, write_request_head},
        record_request,
        routing::{Action, Asked, Before, Routed, route},
        websocket::{Key, Offer, is_websocket},
    },
    view::View,
};

/// A request whose head is there.
pub(super) struct Arrived<'r> {
    pub(super) connection: &'r Connection,
    pub(super) parts: &'r Parts,
    pub(super) length: BodyLength,
    pub(super) start: Instant,
}

/// What is to be done with a request.
pub(super) struct Prepared<'v> {
    pub(super) routed: Routed<'v>,
    /// The head as it goes up, for an endpoint that speaks HTTP/2.
    pub(super) http2_head: Option<::http::Request<()>>,
    /// Whether a fault has delayed it.
    pub(super) delayed: bool,
}

impl Arrived<'_> {
    /// Routes the request, as soon as what has to happen first has, unless the client takes it back meanwhile.
    pub(super) async fn prepare<'v>(
        &self,
        view: &'v View,
        (line, out): (&mut Recorded, &mut Vec<u8>),
        respond: &mut SendResponse<Bytes>,
    ) -> Prepared<'v> {
        let (mut delayed, mut gone) = (false, false);
        let (routed, http2_head) = loop {
            match self.route(view, delayed, (line, out)) {
                Ok((routed, _)) if gone => {
                    break (Routed { action: Action::Reply(LocalReply::CLIENT_GONE), ..routed }, None);
                }
                Err(Unprepared::Before(_)) if gone => break (Routed::reply(LocalReply::CLIENT_GONE), None),
                Err(Unprepared::Before(before)) => {
                    // Boxed: other requests should not hold room for it.
                    let happening = Box::pin(before.happen(self.connection, &mut delayed));
                    gone |= is_reset_while(respond, happening).await;
                }
                Err(Unprepared::Refused(reply)) => break (Routed::reply(reply), None),
                Ok(routed) => break routed,
            }
        };
        Prepared { routed, http2_head, delayed }
    }

    /// Routes the request, notes it for the log and writes its head for the endpoint: into `out` for one that speaks
    /// HTTP/1.1, else returned.
    fn route<'v>(
        &self,
        view: &'v View,
        delayed: bool,
        (line, out): (&mut Recorded, &mut Vec<u8>),
    ) -> Result<(Routed<'v>, Option<::http::Request<()>>), Unprepared> {
        let Self { connection, parts, length, start } = *self;
        let head = Http2Head::new(parts, connection.worker().settings.heads)?;
        let http = connection.http(view).ok_or_else(|| LocalReply::unserved(connection.is_over_tls()))?;
        let Ok(head) = Normalized::new(&head, (http.path_normalization, http.escaped_slashes)) else {
            return Ok((Routed::bad_path(&head), None));
        };
        let mut added = Added::new(connection, &http, &head);
        let grpc_web = http.grpc_web.then(|| GrpcWeb::of(&head)).flatten();
        let protocol = "HTTP/2";
        let asked = Asked { connection, head: &head, added: &added, protocol, grpc_web, start, delayed };
        let mut routed = route(&asked, view, http.route_config, fastrand::u64(..))?;
        let offer = offered(parts).map(|protocol| Offer {
            protocol,
            key: is_websocket(protocol).then(|| Key::new(fastrand::u128(..))),
        });
        if offer.is_some_and(|offer| !connection.worker().settings.upgrades.allow(offer.protocol)) {
            routed.answer_here(LocalReply::UPGRADE_FAILED);
        }
        record_request(connection, line, &head, ("HTTP/2", &added, &routed));
        let Action::Forward(forwarding) = &routed.action else { return Ok((routed, None)) };
        added.introduce(connection, &forwarding.lease);
        let changes = forwarding.changes.as_deref();
        let protocol = view.snapshot.cluster(forwarding.cluster).protocol;
        match UpstreamVersion::of(protocol, UpstreamVersion::Http2) {
            UpstreamVersion::Http1 => {
                write_request_head(out, &head, &added, length, (changes, offer));
                Ok((routed, None))
            }
            UpstreamVersion::Http2 => {
                let length = routed.grpc_web.map_or(length, |web| web.request_body(length));
                let head = http2_request_head(&head, &added, length, (changes, offer));
                Ok((routed, Some(head.ok_or(LocalReply::BAD_REQUEST)?)))
            }
        }
    }
}

/// Why a request has no route yet, or none at all.
enum Unprepared {
    /// Something has to happen first.
    Before(Before),
    /// What the client is answered.
    Refused(LocalReply<'static>),
}

impl From<LocalReply<'static>> for Unprepared {
    fn from(reply: LocalReply<'static>) -> Self {
        Self::Refused(reply)
    }
}

impl From<Before> for Unprepared {
    fn from(before: Before) -> Self {
        Self::Before(before)
    }
}

/// Awaits `future`; whether the client has taken the request back before it was ready.
async fn is_reset_while(
    respond: &mut SendResponse<Bytes>,
    mut future: Pin<Box<impl Future<Output = ()>>>,
) -> bool {
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(()) => Poll::Ready(false),
        Poll::Pending => respond.poll_reset(cx).map(|_| true),
    })
    .await
}
