//! The control side's HTTP ports: admin (15000, loopback), readiness (15021), metrics (15090) and the agent's (15020).

mod body;
mod patience;
mod running;

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use dataplane::{BindError, Upgrades};
use http::{Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Limited};
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};

use self::{
    body::Watched,
    patience::Patient,
    running::{Progress, Running},
};
use crate::{
    admin, agent_port, bounds,
    metrics::{self, AsIs, Metrics, Places},
    probes::Probes,
    status::Status,
};

pub(crate) use body::Body;

/// What is answered.
pub(crate) type Answer = Response<Body>;

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
            Self::Admin => "the admin interface (--admin-port)",
            Self::Readiness => "readiness (--status-port)",
            Self::Metrics => "the proxy's metrics (--stats-port)",
            Self::Agent => "the agent's metrics (--agent-port)",
        }
    }

    /// How long a connection may last.
    fn lifetime(self) -> Duration {
        let [admin, agent, readiness, metrics] = bounds::INTERFACE_TIMES;
        match self {
            Self::Admin => admin,
            Self::Agent => agent,
            Self::Readiness => readiness,
            Self::Metrics => metrics,
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
    /// What requests may switch their connections to, for `explain`.
    pub(crate) upgrades: Upgrades,
    /// Who is told what may be long, such as a dump of the configuration.
    pub(crate) long_texts: Places,
    /// Held while the configuration is dumped, which takes memory and time.
    pub(crate) dumping: tokio::sync::Mutex<()>,
}

impl Interface {
    /// Binds the port.
    ///
    /// # Errors
    /// The address is taken or not ours.
    pub(crate) fn open(purpose: Purpose, address: SocketAddr) -> Result<Self, BindError> {
        Ok(Self { socket: dataplane::listen(purpose.name(), address)?, purpose })
    }

    /// Answers until the process ends. When there are too many connections one gives way, first of those that wait for no
    /// answer: whoever holds connections open, or asks what takes long, must not keep a probe from being answered.
    pub(crate) async fn serve(self, known: Arc<Known>) {
        let Ok(listener) = TcpListener::from_std(self.socket) else { return };
        let mut running = Running::default();
        loop {
            let Ok((stream, peer)) = listener.accept().await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            running.make_room(peer.ip());
            let progress = Arc::<Progress>::default();
            let serving = serve_connection(
                (stream, Caller(peer.ip())),
                self.purpose,
                Arc::clone(&progress),
                Arc::clone(&known),
            );
            running.add(tokio::spawn(serving).abort_handle(), progress, peer.ip());
        }
    }
}

/// Who asks; every request carries it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller(pub(crate) IpAddr);

async fn serve_connection(
    (stream, caller): (TcpStream, Caller),
    purpose: Purpose,
    progress: Arc<Progress>,
    known: Arc<Known>,
) {
    let stream = TokioIo::new(Patient::new(stream, bounds::INTERFACE_READING, Arc::clone(&progress)));
    let service = service_fn(move |mut request: Request<Incoming>| {
        let (known, progress) = (Arc::clone(&known), Arc::clone(&progress));
        request.extensions_mut().insert(caller);
        async move {
            let answer = answer_to(request, purpose, &progress, &known).await;
            progress.answered();
            Ok::<_, Infallible>(answer.map(|body| Watched::new(body, progress)))
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds::INTERFACE_HEAD)
        .max_buf_size(bounds::INTERFACE_BUFFER)
        .serve_connection(stream, service);
    // A client that hangs up, or is cut off, is no news.
    _ = tokio::time::timeout(purpose.lifetime(), serving).await;
}

async fn answer_to(
    request: Request<Incoming>,
    purpose: Purpose,
    progress: &Progress,
    known: &Arc<Known>,
) -> Answer {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, bounds::INTERFACE_BODY).collect().await else {
        return text(StatusCode::PAYLOAD_TOO_LARGE, "the request did not arrive whole, or is too large\n");
    };
    let request = Request::from_parts(head, body.to_bytes());
    progress.asked();
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

async fn metrics(request: &Request<Bytes>, known: &Arc<Known>) -> Answer {
    match request.uri().path() {
        "/stats/prometheus" => exposition(metrics::body(known, AsIs, Bytes::new()).await),
        _ => text(StatusCode::NOT_FOUND, "no such path; /stats/prometheus is the only one\n"),
    }
}

const PAUSE: Duration = Duration::from_millis(100);

/// Metrics in the text format of Prometheus.
pub(crate) fn exposition(metrics: Body) -> Answer {
    answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", metrics)
}

/// A plain text.
pub(crate) fn text(code: StatusCode, body: impl Into<Bytes>) -> Answer {
    text_of(code, Body::Whole(body.into()))
}

/// The same, however it is made.
pub(crate) fn text_of(code: StatusCode, body: Body) -> Answer {
    answer(code, "text/plain; charset=UTF-8", body)
}

/// A JSON document.
pub(crate) fn json(value: &serde_json::Value) -> Answer {
    json_of(Body::Whole(format!("{value:#}\n").into()))
}

/// The same, however it is made.
pub(crate) fn json_of(body: Body) -> Answer {
    answer(StatusCode::OK, "application/json", body)
}

fn answer(code: StatusCode, content_type: &'static str, body: Body) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = code;
    answer.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    answer
}
