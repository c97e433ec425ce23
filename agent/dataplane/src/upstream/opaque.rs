//! The endpoint's side of an opaque connection.

use std::{
    rc::Rc,
    task::{Context, Poll},
};

use snapshot::Speaks;

use super::{ConnectError, Lease, OwnEnd, UpstreamConnection, streamed::TunnelStream};
use crate::transport::Transport;

/// What an opaque connection is relayed to.
pub(crate) enum OpaqueUpstream {
    Connection(UpstreamConnection),
    /// A stream of a connection that others share; in a box of its own, for hardly any goes through such a tunnel.
    Stream(Box<TunnelStream>),
}

impl OpaqueUpstream {
    /// Our end of the connection to the endpoint.
    pub(crate) fn end(&self) -> &Rc<OwnEnd> {
        match self {
            Self::Connection(connection) => &connection.end,
            Self::Stream(stream) => stream.end(),
        }
    }

    /// Ready when the far side has said something or closed; nothing is taken from who reads.
    pub(crate) fn poll_spoken(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Connection(connection) => connection.stream.poll_spoken(cx),
            Self::Stream(stream) => stream.bytes.poll_readable(cx).map(|_| ()),
        }
    }
}

impl Lease {
    /// Opens what an opaque connection is relayed to, unless the cluster has as many as it may.
    pub(crate) async fn connect_opaque(&self) -> Result<OpaqueUpstream, ConnectError> {
        let policy = self.policy();
        match policy.tunnel.as_deref().filter(|_| policy.speaks_http2) {
            Some(tunnel) => {
                let open = Box::pin(TunnelStream::open(self, tunnel)).await?;
                Ok(OpaqueUpstream::Stream(Box::new(open)))
            }
            None => self.connect(Speaks::Opaque).await.map(OpaqueUpstream::Connection),
        }
    }
}
