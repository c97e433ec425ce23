//! New connections: dialled in tasks of their own, for all who wait for one.

use std::{
    cell::{Cell, RefCell},
    future::{Future, pending, poll_fn},
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
    time::Instant,
};

use bytes::Bytes;
use h2::{
    Ping, PingPong,
    client::{self, SendRequest},
};
use snapshot::{Address, Http2KeepAlive, Speaks};
use tokio::{sync::Notify, task::spawn_local};

use super::{
    Shared,
    sharing::{Sharing, Windowed, Windows},
};
use crate::{
    alarm, bounds,
    cluster::Policy,
    proxy_protocol::ProxyHeader,
    upstream::{ConnectError, Open, Upstream, UpstreamStream},
    worker::HeadLimits,
};

/// A connection on its way, and what became of it, for all who wait for it.
#[derive(Default)]
pub(super) struct Dialling {
    result: RefCell<Option<Result<(), ConnectError>>>,
    done: Notify,
}

impl Upstream {
    /// Dials in a task of its own: the request that asked for it may be taken back while others wait.
    pub(super) fn dial_http2(self: &Rc<Self>) -> Rc<Dialling> {
        let dialling = Rc::new(Dialling::default());
        *self.http2.dialling.borrow_mut() = Some(Rc::clone(&dialling));
        let task = DialTask { upstream: Rc::clone(self), waited_for: Rc::clone(&dialling) };
        spawn_local(async move {
            let result = task.upstream.connect_http2().await;
            let result = result.map(|shared| task.upstream.offer(shared));
            task.waited_for.result.replace(Some(result));
        });
        dialling
    }

    /// Lets requests use a connection, unless the rules have changed on its way: who waits for it dials anew.
    fn offer(&self, connection: Shared) {
        if self.policy().keeps_connections_of(connection.generation) {
            self.http2.open.borrow_mut().push(Rc::new(connection));
            self.policy().offer(self.number);
        }
    }

    async fn connect_http2(&self) -> Result<Shared, ConnectError> {
        // Shared by clients, it stands for none of them.
        let version = self.policy().proxy_protocol;
        let proxy_header = version.map(|version| ProxyHeader { version, addresses: None });
        let connected = self.connect_as(Speaks::Http2, proxy_header).await?;
        let policy = self.policy();
        let asked = policy.connections.max_concurrent_streams;
        let (sharing, streams) = (Sharing::of(asked), Rc::default());
        let shaking = pin!(handshake(connected.stream, sharing, policy.heads));
        match alarm::within(policy.connect_timeout, shaking).await {
            Ok(Ok((sender, connection))) => Ok(Shared {
                sender,
                end: connected.end,
                streams: Rc::clone(&streams),
                used: Cell::new(false),
                ended: drive(
                    (connection, Windows::new(sharing, streams)),
                    (self.address.clone(), connected.open),
                    Rc::clone(&policy),
                ),
                since: connected.since,
                generation: connected.generation,
                idle_since: Cell::new(Instant::now()),
                left: Cell::new(policy.connections.max_requests.unwrap_or(u32::MAX)),
                usual_streams: sharing.streams as usize,
                max_streams: asked.map_or(usize::MAX, |_| sharing.streams as usize),
                policy,
                _slot: connected.slot,
            }),
            Ok(Err(error)) => Err(ConnectError::NotHttp2(error.to_string())),
            Err(_) => Err(ConnectError::Timeout),
        }
    }
}

type Connection = client::Connection<UpstreamStream, Bytes>;

/// Exchanges settings. A peer that sends none does not speak HTTP/2.
async fn handshake(
    stream: UpstreamStream,
    sharing: Sharing,
    heads: HeadLimits,
) -> Result<(SendRequest<Bytes>, Connection), h2::Error> {
    let (sender, mut connection) = client::Builder::new()
        .initial_window_size(sharing.stream_window)
        .initial_connection_window_size(sharing.connection_window())
        .max_header_list_size(heads.bytes())
        .max_send_buffer_size(bounds::FRAME)
        .enable_push(false)
        .initial_max_send_streams(0)
        .handshake(stream)
        .await?;
    poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
        Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        Poll::Ready(Ok(())) => Poll::Ready(Err(h2::Reason::PROTOCOL_ERROR.into())),
        // The settings say how many requests at a time the peer takes; without a word, any number.
        Poll::Pending if sender.current_max_send_streams() > 0 => Poll::Ready(Ok(())),
        Poll::Pending => Poll::Pending,
    })
    .await?;
    Ok((sender, connection))
}

/// Moves the frames of a connection until it ends, which the value returned then says.
fn drive(
    (mut connection, mut windows): (Connection, Windows),
    (upstream, open): (Address, Open),
    policy: Rc<Policy>,
) -> Rc<Cell<bool>> {
    let ended = Rc::new(Cell::new(false));
    let at_end = AtEnd(Rc::clone(&ended));
    spawn_local(async move {
        let keepalive = policy.connections.http2_keepalive;
        let pings = keepalive.and_then(|keepalive| connection.ping_pong().map(|pings| (pings, keepalive)));
        let answering = async {
            match pings {
                Some((pings, keepalive)) => answers_pings(pings, keepalive).await,
                None => pending().await,
            }
        };
        let moving = poll_fn(|cx| {
            windows.adjust(&mut connection);
            Pin::new(&mut connection).poll(cx)
        });
        tokio::select! {
            result = moving => if let Err(error) = result {
                tracing::debug!(%upstream, %error, "HTTP/2 connection to an endpoint ended");
            },
            () = answering => tracing::debug!(%upstream, "HTTP/2 connection to an endpoint answers no pings"),
        }
        drop((open, at_end));
        // Its place was given back before it had ended: its endpoint may have none now.
        policy.call_waiting();
    });
    ended
}

impl Windowed for Connection {
    fn set_stream_window(&mut self, bytes: u32) -> bool {
        // It cannot be said before the endpoint has taken note of what was said last.
        self.set_initial_window_size(bytes).is_ok()
    }

    fn set_connection_window(&mut self, bytes: u32) {
        self.set_target_window_size(bytes);
    }
}

/// Says that a connection has ended, also when what drives it has panicked.
struct AtEnd(Rc<Cell<bool>>);

impl Drop for AtEnd {
    fn drop(&mut self) {
        self.0.set(true);
    }
}

/// Returns when the peer leaves a ping unanswered for too long.
async fn answers_pings(mut pings: PingPong, Http2KeepAlive { interval, timeout }: Http2KeepAlive) {
    loop {
        alarm::sleep(interval).await;
        let answered = pin!(pings.ping(Ping::opaque()));
        if !matches!(alarm::within(timeout, answered).await, Ok(Ok(_))) {
            return;
        }
    }
}

/// Tells who waits for a connection that it is there, or will never be: also when dialling has panicked.
struct DialTask {
    upstream: Rc<Upstream>,
    waited_for: Rc<Dialling>,
}

impl Drop for DialTask {
    fn drop(&mut self) {
        self.upstream.http2.dialling.take();
        let abandoned = || Err(ConnectError::Failed(io::ErrorKind::Interrupted.into()));
        self.waited_for.result.borrow_mut().get_or_insert_with(abandoned);
        self.waited_for.done.notify_waiters();
    }
}

impl Dialling {
    pub(super) async fn finished(&self) -> Result<(), ConnectError> {
        loop {
            if let Some(result) = &*self.result.borrow() {
                return result.as_ref().copied().map_err(ConnectError::again);
            }
            self.done.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use snapshot::{Cluster, Discovery};

    use super::*;
    use crate::cluster::{ClusterConnections, ClusterInputs};

    #[test]
    fn who_waits_for_a_dial_that_panics_is_told_and_the_next_dials_anew() {
        let address = Address::from(([10, 0, 0, 1], 80));
        let cluster = Cluster::new("a", Discovery::of_addresses([address]));
        let connections = ClusterConnections::new(&cluster, ClusterInputs::default(), None);
        let upstream = connections.upstreams().remove(0);
        let waited_for = Rc::new(Dialling::default());
        *upstream.http2.dialling.borrow_mut() = Some(Rc::clone(&waited_for));
        let task = DialTask { upstream: Rc::clone(&upstream), waited_for: Rc::clone(&waited_for) };
        let dial = move || {
            let _task = task;
            panic!("injected");
        };
        assert!(catch_unwind(AssertUnwindSafe(dial)).is_err());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert!(matches!(runtime.block_on(waited_for.finished()), Err(ConnectError::Failed(_))));
        assert!(upstream.http2.dialling.borrow().is_none());
    }

    #[test]
    fn who_waits_for_a_dial_that_was_refused_beside_a_connection_that_has_ended_since_dials_anew() {
        // Nobody listens there: what comes of it is not the refusal.
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let cluster = Cluster::new("a", Discovery::of_addresses([address]));
        let connections = ClusterConnections::new(&cluster, ClusterInputs::default(), None);
        let upstream = connections.upstreams().remove(0);
        let waited_for = Rc::new(Dialling::default());
        *upstream.http2.dialling.borrow_mut() = Some(Rc::clone(&waited_for));
        let task = DialTask { upstream: Rc::clone(&upstream), waited_for: Rc::clone(&waited_for) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let asked = tokio::task::LocalSet::new().block_on(&runtime, async {
            let asking = spawn_local({
                let upstream = Rc::clone(&upstream);
                async move { upstream.http2_stream().await.map(|_| ()) }
            });
            tokio::task::yield_now().await;
            waited_for.result.replace(Some(Err(ConnectError::Overflow)));
            drop(task);
            asking.await.unwrap()
        });
        assert!(matches!(asked, Err(ConnectError::Failed(_))), "{asked:?}");
    }

    #[test]
    fn a_connection_whose_task_panics_has_ended() {
        let ended = Rc::new(Cell::new(false));
        let at_end = AtEnd(Rc::clone(&ended));
        let drive = move || {
            let _at_end = at_end;
            panic!("injected");
        };
        assert!(catch_unwind(AssertUnwindSafe(drive)).is_err());
        assert!(ended.get());
    }
}
