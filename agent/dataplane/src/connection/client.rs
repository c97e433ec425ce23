//! Who the client of a connection is, by its address, its certificate and what it says of itself.

use std::sync::Arc;

use snapshot::{Direction, RequestHead, Workload};

use super::Connection;
use crate::{
    http::{PEER_METADATA, PEER_METADATA_ID, PeerMetadata},
    telemetry::{Peer, PeerId},
};

/// What a client says of itself and asks, as proxies of the mesh do.
#[derive(Default)]
pub(super) struct MetadataExchange {
    /// Whether it wants to know who answers.
    asks: bool,
    workload: Option<Arc<Workload>>,
}

impl Connection {
    /// Takes in how the client of an inbound connection introduces itself with its first request.
    pub(crate) fn introduce(&self, request: &impl RequestHead) {
        if self.direction != Direction::Inbound || self.introduction.get().is_some() {
            return;
        }
        let said = request.header(PEER_METADATA);
        let asks = said.is_some() || request.header(PEER_METADATA_ID).is_some();
        // What it says counts only beside what it proves.
        let proved = said.filter(|_| self.session().is_some_and(|session| session.client.is_some()));
        let workload = proved.and_then(PeerMetadata::read).map(Arc::new);
        _ = self.introduction.set(MetadataExchange { asks, workload });
        self.client.set(None);
    }

    /// What the client of an inbound connection is told of the workload, if it asks.
    pub(crate) fn introduction(&self) -> Option<&PeerMetadata> {
        self.introduction.get().filter(|said| said.asks)?;
        self.worker().metadata.as_deref()
    }

    /// Who the client of an inbound connection is, for the metrics: the workload at its address, else what its
    /// certificate says and what it says itself.
    pub(crate) fn client(&self) -> PeerId {
        let worker = self.worker();
        let view = worker.view();
        if let Some((version, known)) = self.client.get()
            && version == view.version
        {
            return known;
        }
        let shown = self.session().and_then(|session| session.client.as_ref());
        let principal = shown.map(|shown| Arc::from(shown.principal()));
        let peers = &worker.recorder.peers;
        let id = match (view.snapshot.workloads().at(self.peer.ip()), principal) {
            (Some(known), principal) => peers.id(Peer { principal, ..Peer::of(known, false) }),
            (None, Some(principal)) => {
                let introduced = self.introduction.get().and_then(|said| said.workload.as_ref());
                peers.id_of_principal(principal, introduced)
            }
            (None, None) => PeerId::default(),
        };
        self.client.set(Some((view.version, id)));
        id
    }

    /// The other side of a call, for the metrics: the client's of inbound ones, else the endpoint's.
    pub(crate) fn other_side(&self, endpoint: Option<PeerId>) -> PeerId {
        match self.direction {
            Direction::Inbound => self.client(),
            Direction::Outbound | Direction::Gateway => endpoint.unwrap_or_default(),
        }
    }
}
