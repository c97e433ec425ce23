//! The admin interface (15000, loopback) and the readiness port (15021), in Envoy's and Istio's paths.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use dataplane::BindError;
use http::{Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::Full;
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore};

use crate::status::{State, Status};

type Answer = Response<Full<Bytes>>;
type Paths = fn(&Request<Incoming>, &Status) -> Answer;

/// A bound interface, not yet served.
#[derive(Debug)]
pub(crate) struct Interface {
    socket: std::net::TcpListener,
    paths: Paths,
}

impl Interface {
    /// Configuration dump, findings, state and quitting. Whoever reaches it can end the proxy.
    pub(crate) fn admin(address: SocketAddr) -> Result<Self, BindError> {
        Ok(Self { socket: dataplane::listen("admin", address)?, paths: admin })
    }

    /// `/healthz/ready` for probes from outside the pod.
    pub(crate) fn readiness(address: SocketAddr) -> Result<Self, BindError> {
        Ok(Self { socket: dataplane::listen("readiness", address)?, paths: readiness })
    }

    /// Answers until the process ends.
    pub(crate) async fn serve(self, status: Arc<Status>) {
        let Self { socket, paths } = self;
        let Ok(listener) = TcpListener::from_std(socket) else { return };
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let status = Arc::clone(&status);
            let service = service_fn(move |request| {
                let answer = paths(&request, &status);
                async move { Ok::<_, Infallible>(answer) }
            });
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
            let serving = builder.serve_connection(TokioIo::new(stream), service);
            tokio::spawn(async move {
                // A client that hangs up is no news.
                _ = serving.await;
                drop(permit);
            });
        }
    }
}

/// Connections served at a time; further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 128;
const PAUSE: Duration = Duration::from_millis(100);
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

fn admin(request: &Request<Incoming>, status: &Status) -> Answer {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/") => text(StatusCode::OK, INDEX),
        (&Method::GET, "/config_dump") => config_dump(status),
        (&Method::GET, "/findings") => findings(status),
        (&Method::GET, "/ready") => ready(status),
        (&Method::GET, "/server_info") => server_info(status),
        (&Method::POST, "/quitquitquit") => {
            status.quit();
            text(StatusCode::OK, "OK\n")
        }
        (_, "/" | "/config_dump" | "/findings" | "/ready" | "/server_info" | "/quitquitquit") => {
            text(StatusCode::METHOD_NOT_ALLOWED, "wrong method; GET / lists the paths\n")
        }
        _ => text(StatusCode::NOT_FOUND, "no such path; GET / lists them\n"),
    }
}

const INDEX: &str = "\
GET  /config_dump    listeners, routes and clusters in force, in Envoy's form
GET  /findings       everything wrong or surprising in the resources, one per line
GET  /ready          LIVE when the proxy serves
GET  /server_info    version and state
POST /quitquitquit   drain and exit
";

fn config_dump(status: &Status) -> Answer {
    let dump = match status.published() {
        Some(published) => snapshot::config_dump(&published.snapshot, published.version),
        None => serde_json::json!({"configs": []}),
    };
    json(&dump)
}

fn findings(status: &Status) -> Answer {
    let mut lines = status.published().map(|published| published.findings).unwrap_or_default().join("\n");
    if !lines.is_empty() {
        lines.push('\n');
    }
    text(StatusCode::OK, lines)
}

fn server_info(status: &Status) -> Answer {
    let version = status.published().map_or(0, |published| published.version);
    json(&serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "state": status.state().name(),
        "snapshot": version,
    }))
}

fn ready(status: &Status) -> Answer {
    let state = status.state();
    let code = if state == State::Live { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    text(code, format!("{}\n", state.name()))
}

fn readiness(request: &Request<Incoming>, status: &Status) -> Answer {
    match request.uri().path() {
        "/healthz/ready" => ready(status),
        _ => text(StatusCode::NOT_FOUND, "no such path; /healthz/ready is the only one\n"),
    }
}

fn text(code: StatusCode, body: impl Into<Bytes>) -> Answer {
    answer(code, "text/plain", body.into())
}

fn json(value: &serde_json::Value) -> Answer {
    answer(StatusCode::OK, "application/json", format!("{value:#}\n").into())
}

fn answer(code: StatusCode, content_type: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = code;
    answer.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    answer
}
