//! Serves HTTP/1 clients with our own codec: parse in place, one write per message, nothing allocated for a plain
//! request.

mod forward;
mod reply;
mod request;
mod upward;
mod workspace;

use std::rc::Rc;

use super::{downstream::Downstream, stream_limits::StreamLimits};
use crate::{
    access_log::Recorded, buffer::PooledBuffer, connection::Connection, transport::DownstreamStream,
};

pub(crate) use workspace::Workspaces;

/// Serves requests until the connection ends.
pub(super) async fn serve(mut downstream: Box<Downstream>) {
    let worker = Rc::clone(downstream.connection.worker());
    let mut next = Next::Request;
    while next == Next::Request && downstream.await_request().await.is_some() {
        (downstream, next) = worker.workspaces.serve(downstream).await;
    }
}

/// What follows a request on its connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Next {
    Request,
    Close,
}

/// A connection with a request on it.
struct Session<'d> {
    connection: &'d Connection,
    stream: &'d mut DownstreamStream,
    /// What has arrived and was not looked at.
    received: &'d mut Option<PooledBuffer>,
    /// Fields of the request for the access log.
    line: &'d mut Recorded,
    limits: StreamLimits,
}

impl<'d> Session<'d> {
    fn new(downstream: &'d mut Downstream) -> Self {
        let Downstream { connection, stream, received, line } = downstream;
        let limits = StreamLimits::begin(connection);
        Self { connection, stream, received, line, limits }
    }
}
