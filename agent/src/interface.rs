//! The control side's HTTP ports: admin (15000, loopback), readiness (15021), metrics (15090) and the agent's (15020).

mod patience;

use std::{
    collections::VecDeque,
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use dataplane::BindError;
use http::{Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};

use self::patience::Patient;
use crate::{admin, agent_port, metrics::Metrics, probes::Probes, status::Status};

/// An answer with its whole body.
pub(crate) type Answer = Response<Full<Bytes>>;

/// A bound port, not yet served.
#[derive(Debug)]
pub(crate) struct Interface {
    socket: std::net::TcpListener,
    purpose: Purpose,
}

/// What a port is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Purpose {
    /// Configuration dump, findings, state and quitting. Whoever reaches it can end the proxy.
    Admin,
    /// `/healthz/ready` for probes from outside the pod.
    Readiness,
    /// The proxy's metrics.
    Metrics,
    /// Metrics of proxy and application together, the application's probes, readiness, draining, quitting.
    Agent,
}

impl Purpose {
    fn name(self) -> &'static str {
        match self {
            Self::Admin => "the admin interface",
            Self::Readiness => "readiness",
            Self::Metrics => "the proxy's metrics",
            Self::Agent => "the agent's metrics",
        }
    }

    /// How long a connection may last. Who asks from outside asks once and goes.
    fn lifetime(self) -> Duration {
        match self {
            Self::Admin => Duration::from_secs(600),
            Self::Readiness => Duration::from_secs(10),
            Self::Metrics => Duration::from_secs(60),
            // Hooks of the pod's life may take as long.
            Self::Agent => Duration::from_secs(600),
        }
    }
}

/// What the interfaces speak of.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) status: Arc<Status>,
    pub(crate) metrics: Metrics,
    /// The application's, which the kubelet sends here.
    pub(crate) probes: Probes,
}

impl Interface {
    /// Binds the port.
    ///
    /// # Errors
    /// The address is taken or not ours.
    pub(crate) fn open(purpose: Purpose, address: SocketAddr) -> Result<Self, BindError> {
        Ok(Self { socket: dataplane::listen(purpose.name(), address)?, purpose })
    }

    /// Answers until the process ends. When there are too many connections the oldest gives way: whoever holds
    /// connections open must not keep a probe from being answered.
    pub(crate) async fn serve(self, known: Arc<Known>) {
        let Ok(listener) = TcpListener::from_std(self.socket) else { return };
        let mut running = Running::default();
        loop {
            let Ok((stream, peer)) = listener.accept().await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            running.make_room();
            let task =
                tokio::spawn(serve_connection((stream, Caller(peer.ip())), self.purpose, Arc::clone(&known)));
            running.0.push_back(task.abort_handle());
        }
    }
}

/// Connections being served, the oldest first; some may have ended.
#[derive(Default)]
struct Running(VecDeque<AbortHandle>);

impl Running {
    /// Forgets those that have ended, and ends the oldest if there is still no place for one more.
    fn make_room(&mut self) {
        self.0.retain(|connection| !connection.is_finished());
        if self.0.len() >= MAX_CONNECTIONS
            && let Some(oldest) = self.0.pop_front()
        {
            oldest.abort();
        }
    }
}

/// Who asks; every request carries it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller(pub(crate) IpAddr);

async fn serve_connection((stream, caller): (TcpStream, Caller), purpose: Purpose, known: Arc<Known>) {
    let service = service_fn(move |mut request: Request<Incoming>| {
        let known = Arc::clone(&known);
        request.extensions_mut().insert(caller);
        async move { Ok::<_, Infallible>(answer_to(request, purpose, &known).await) }
    });
    let stream = TokioIo::new(Patient::new(stream, SENDING));
    let serving = http1::Builder::new().timer(TokioTimer::new()).serve_connection(stream, service);
    // A client that hangs up, or is cut off, is no news.
    _ = tokio::time::timeout(purpose.lifetime(), serving).await;
}

async fn answer_to(request: Request<Incoming>, purpose: Purpose, known: &Known) -> Answer {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, LARGEST_REQUEST).collect().await else {
        return text(StatusCode::PAYLOAD_TOO_LARGE, "the request did not arrive whole, or is too large\n");
    };
    let request = Request::from_parts(head, body.to_bytes());
    match purpose {
        Purpose::Admin => admin::answer(&request, known).await,
        Purpose::Readiness => readiness(&request, &known.status),
        Purpose::Metrics => metrics(&request, known).await,
        Purpose::Agent => agent_port::answer(&request, known).await,
    }
}

fn readiness(request: &Request<Bytes>, status: &Status) -> Answer {
    match request.uri().path() {
        "/healthz/ready" => admin::ready(status),
        _ => text(StatusCode::NOT_FOUND, "no such path; /healthz/ready is the only one\n"),
    }
}

async fn metrics(request: &Request<Bytes>, known: &Known) -> Answer {
    match request.uri().path() {
        "/stats/prometheus" => exposition(known.metrics.shared(&known.status).await),
        _ => text(StatusCode::NOT_FOUND, "no such path; /stats/prometheus is the only one\n"),
    }
}

/// Connections served at a time.
const MAX_CONNECTIONS: usize = 128;
/// Bytes of a request's body; a question to `/explain` is the largest.
const LARGEST_REQUEST: usize = 256 << 10;
const PAUSE: Duration = Duration::from_millis(100);
/// How long a client may take to read an answer, which is held for it.
const SENDING: Duration = Duration::from_secs(30);

/// Metrics in the text format of Prometheus.
pub(crate) fn exposition(metrics: impl Into<Bytes>) -> Answer {
    answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", metrics.into())
}

/// A plain text.
pub(crate) fn text(code: StatusCode, body: impl Into<Bytes>) -> Answer {
    answer(code, "text/plain; charset=UTF-8", body.into())
}

/// A JSON document.
pub(crate) fn json(value: &serde_json::Value) -> Answer {
    answer(StatusCode::OK, "application/json", format!("{value:#}\n").into())
}

fn answer(code: StatusCode, content_type: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = code;
    answer.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    answer
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn the_oldest_connection_gives_way_only_to_as_many_that_are_open() {
        let mut running = Running::default();
        let oldest = tokio::spawn(pending::<()>());
        running.0.push_back(oldest.abort_handle());
        for _ in 0..2 * MAX_CONNECTIONS {
            running.make_room();
            let short = tokio::spawn(async {});
            running.0.push_back(short.abort_handle());
            short.await.unwrap();
        }
        assert!(!oldest.is_finished(), "others came and went");
        for _ in 1..MAX_CONNECTIONS {
            running.make_room();
            running.0.push_back(tokio::spawn(pending::<()>()).abort_handle());
        }
        assert!(!oldest.is_finished(), "there was a place for each");
        running.make_room();
        assert!(oldest.await.unwrap_err().is_cancelled());
        assert_eq!(running.0.len(), MAX_CONNECTIONS - 1);
    }
}
