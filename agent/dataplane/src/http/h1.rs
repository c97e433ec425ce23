//! Serves HTTP/1 clients with our own codec: parse in place, one write per message, nothing allocated for a plain
//! request.

mod forward;
mod reply;
mod request;
mod upstream_request;

use std::rc::Rc;

use super::{downstream::Downstream, stream_limits::StreamLimits, workspace::Work};
use crate::{
    access_log::Recorded, buffer::PooledBuffer, connection::Connection, linger::linger,
    transport::DownstreamStream,
};

/// Serves requests until the connection ends.
pub(super) async fn serve(mut downstream: Box<Downstream>) {
    let worker = Rc::clone(downstream.connection.worker());
    let mut next = Next::Request;
    while next == Next::Request && downstream.await_request().await.is_some() {
        (downstream, next) = worker.workspaces.work(worker.workspaces.lend(downstream)).await;
    }
    if next == Next::Linger {
        // Nobody looks at it any more, and the wait takes a buffer of its own.
        downstream.received = None;
        // Boxed: connections that go on should not hold room for it.
        Box::pin(linger(&downstream.connection, &mut downstream.stream)).await;
    }
}

/// Serves a request whose first bytes have arrived; tells what is to follow it.
pub(crate) struct Http1Requests;

impl Work for Http1Requests {
    type Job = Box<Downstream>;
    type Done = (Box<Downstream>, Next);

    async fn work(mut downstream: Self::Job) -> Self::Done {
        let next = Session::new(&mut downstream).serve_request().await;
        (downstream, next)
    }
}

/// What follows a request on its connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Next {
    Request,
    /// The client is waited for, so that what was said last arrives. The request has ended before: its log line, and its
    /// share of the limits of the cluster, wait for nobody.
    Linger,
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
