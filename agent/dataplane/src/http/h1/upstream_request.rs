//! A request of an HTTP/1 client in the version of its endpoint.

use h2::ext::Protocol;
use http1::BodyLength;
use snapshot::RequestHead;

use crate::{
    http::{
        exchange::UpstreamVersion,
        grpc_web::GrpcWeb,
        head::{Added, http2_request_head, write_request_head},
        routing::Forwarding,
        websocket::{self, Accept, Agreement, Offer, is_websocket},
    },
    view::View,
};

/// How an endpoint is asked, beside what is bytes: the head for HTTP/1.1.
#[derive(Default)]
pub(super) struct UpstreamRequest {
    /// Whether the client's offer to switch protocols was passed on.
    pub(super) upgrade: bool,
    /// For an endpoint that speaks HTTP/2.
    pub(super) http2: Option<Box<Http2>>,
}

/// How an endpoint is asked that speaks HTTP/2.
pub(super) struct Http2 {
    pub(super) head: ::http::Request<()>,
    /// What the client is told when the endpoint agrees to switch protocols.
    pub(super) agreement: Option<Box<Agreement>>,
}

/// A request that has an endpoint.
pub(super) struct ForwardedRequest<'g, 'v> {
    pub(super) view: &'v View,
    pub(super) forwarding: &'g Forwarding<'v>,
    pub(super) body: BodyLength,
    pub(super) grpc_web: Option<GrpcWeb>,
}

impl ForwardedRequest<'_, '_> {
    /// Makes the head that goes up; one for HTTP/1.1 is written into `out`. `offer` is the protocol that the client
    /// offers. `None` when HTTP/2 cannot carry it.
    pub(super) fn upstream_request(
        &self,
        head: &impl RequestHead,
        added: &Added,
        offer: Option<&str>,
        out: &mut Vec<u8>,
    ) -> Option<UpstreamRequest> {
        let changes = self.forwarding.changes.as_deref();
        let protocol = self.view.snapshot.cluster(self.forwarding.cluster).protocol;
        let offered = |protocol| Offer { protocol, key: None };
        match UpstreamVersion::of(protocol, UpstreamVersion::Http1) {
            UpstreamVersion::Http1 => {
                write_request_head(out, head, added, self.body, (changes, offer.map(offered)));
                Some(UpstreamRequest { upgrade: offer.is_some(), http2: None })
            }
            UpstreamVersion::Http2 => {
                // What follows the head of such a request in HTTP/2 is the other protocol's.
                let offer = offer.filter(|_| self.body.is_empty());
                let agreement = offer.map(|protocol| {
                    let key = head.header(websocket::KEY).filter(|_| is_websocket(protocol));
                    Box::new(Agreement { protocol: Protocol::from(protocol), accept: key.map(Accept::of) })
                });
                let body = self.grpc_web.map_or(self.body, |web| web.request_body(self.body));
                let head = http2_request_head(head, added, body, (changes, offer.map(offered)))?;
                Some(UpstreamRequest {
                    upgrade: offer.is_some(),
                    http2: Some(Box::new(Http2 { head, agreement })),
                })
            }
        }
    }
}
