//! The admin interface (15000, loopback) and the readiness port (15021), in Envoy's and Istio's paths.

use std::{
    collections::VecDeque,
    convert::Infallible,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use dataplane::BindError;
use http::{Method, Request, Response, StatusCode, header::CONTENT_TYPE};
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

use snapshot::DumpVersion;

use crate::{
    explain::{self, Asked},
    status::{State, Status},
};

type Answer = Response<Full<Bytes>>;
type Paths = fn(&Request<Bytes>, &Status) -> Answer;

/// A bound interface, not yet served.
#[derive(Debug)]
pub(crate) struct Interface {
    socket: std::net::TcpListener,
    paths: Paths,
    /// How long a connection may last.
    lifetime: Duration,
}

impl Interface {
    /// Configuration dump, findings, state and quitting. Whoever reaches it can end the proxy.
    pub(crate) fn admin(address: SocketAddr) -> Result<Self, BindError> {
        Ok(Self {
            socket: dataplane::listen("the admin interface", address)?,
            paths: admin,
            lifetime: ADMIN_LIFETIME,
        })
    }

    /// `/healthz/ready` for probes from outside the pod.
    pub(crate) fn readiness(address: SocketAddr) -> Result<Self, BindError> {
        let socket = dataplane::listen("readiness", address)?;
        Ok(Self { socket, paths: readiness, lifetime: PROBE_LIFETIME })
    }

    /// Answers until the process ends. When there are too many connections the oldest gives way: whoever holds
    /// connections open must not keep a probe from being answered.
    pub(crate) async fn serve(self, status: Arc<Status>) {
        let Ok(listener) = TcpListener::from_std(self.socket) else { return };
        let mut running: VecDeque<AbortHandle> = VecDeque::new();
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            if running.len() == MAX_CONNECTIONS
                && let Some(oldest) = running.pop_front()
            {
                oldest.abort();
            }
            let task = tokio::spawn(serve_connection(stream, self.paths, self.lifetime, Arc::clone(&status)));
            running.push_back(task.abort_handle());
        }
    }
}

async fn serve_connection(stream: TcpStream, paths: Paths, lifetime: Duration, status: Arc<Status>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let status = Arc::clone(&status);
        async move {
            let (head, body) = request.into_parts();
            Ok::<_, Infallible>(match Limited::new(body, LARGEST_REQUEST).collect().await {
                Ok(body) => paths(&Request::from_parts(head, body.to_bytes()), &status),
                Err(_) => {
                    text(StatusCode::PAYLOAD_TOO_LARGE, "the request did not arrive whole, or is too large\n")
                }
            })
        }
    });
    let serving =
        http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
    // A client that hangs up, or is cut off, is no news.
    _ = tokio::time::timeout(lifetime, serving).await;
}

/// Connections served at a time.
const MAX_CONNECTIONS: usize = 128;
/// Bytes of a request's body; a question to `/explain` is the largest.
const LARGEST_REQUEST: usize = 256 << 10;
const PAUSE: Duration = Duration::from_millis(100);
const ADMIN_LIFETIME: Duration = Duration::from_secs(600);
/// Probes ask once and go; the port is open to the network.
const PROBE_LIFETIME: Duration = Duration::from_secs(10);

fn admin(request: &Request<Bytes>, status: &Status) -> Answer {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/") => text(StatusCode::OK, INDEX),
        (&Method::GET, "/config_dump") => config_dump(request.uri().query().unwrap_or_default(), status),
        (&Method::GET, "/findings") => findings(status),
        (&Method::GET, "/ready") => ready(status),
        (&Method::GET, "/server_info") => server_info(status),
        (&Method::POST, "/explain") => explain(request, status),
        (&Method::POST, "/quitquitquit") => {
            status.quit();
            text(StatusCode::OK, "OK\n")
        }
        (
            _,
            "/" | "/config_dump" | "/explain" | "/findings" | "/ready" | "/server_info" | "/quitquitquit",
        ) => text(StatusCode::METHOD_NOT_ALLOWED, "wrong method; GET / lists the paths\n"),
        _ => text(StatusCode::NOT_FOUND, "no such path; GET / lists them\n"),
    }
}

const INDEX: &str = "\
GET  /config_dump    listeners, routes and clusters in force, in Envoy's form; ?include_eds adds endpoints
POST /explain        where a request goes and why; `postern-agent explain request` asks it
GET  /findings       everything wrong or surprising in the resources, one per line
GET  /ready          LIVE when the proxy serves
GET  /server_info    version and state
POST /quitquitquit   drain and exit
";

/// Endpoints are dumped only when asked for, as in Envoy: there may be many.
fn config_dump(query: &str, status: &Status) -> Answer {
    let Some(published) = status.published() else { return json(&serde_json::json!({"configs": []})) };
    let version = DumpVersion { number: published.version, last_updated: timestamp(published.at) };
    let mut dump = snapshot::config_dump(&published.snapshot, &version);
    let wanted = query.split('&').any(|pair| pair == "include_eds" || pair.starts_with("include_eds="));
    if let Some(configs) = dump["configs"].as_array_mut().filter(|_| !wanted) {
        configs.retain(|config| config.get("dynamic_endpoint_configs").is_none());
    }
    json(&dump)
}

/// `2026-01-02T03:04:05.678Z`.
fn timestamp(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}

/// Answers `postern-agent explain` from the snapshot in force.
fn explain(request: &Request<Bytes>, status: &Status) -> Answer {
    let Some(published) = status.published() else {
        return text(StatusCode::SERVICE_UNAVAILABLE, "nothing is served yet\n");
    };
    let asked: Asked = match serde_json::from_slice(request.body()) {
        Ok(asked) => asked,
        Err(error) => {
            return text(StatusCode::BAD_REQUEST, format!("the question is not understood: {error}\n"));
        }
    };
    let in_json =
        request.uri().query().is_some_and(|query| query.split('&').any(|pair| pair == "format=json"));
    text(StatusCode::OK, explain::print(&asked.answer(&published.snapshot), in_json))
}

fn findings(status: &Status) -> Answer {
    let refused = status.refused().into_iter().map(|refused| format!("error: {refused}\n"));
    let findings = status.published().map(|published| published.findings).unwrap_or_default();
    let findings = findings.into_iter().map(|finding| format!("{finding}\n"));
    text(StatusCode::OK, refused.chain(findings).collect::<String>())
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

fn readiness(request: &Request<Bytes>, status: &Status) -> Answer {
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
