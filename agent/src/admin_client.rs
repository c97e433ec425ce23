//! Calls the interfaces of a running agent.

use std::time::Duration;

use anyhow::{Context, bail};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// How long an answer may take; a dump of many thousand clusters is ready in a fraction of it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Larger answers are not read: no dump comes near it.
const LARGEST_ANSWER: usize = 1 << 30;

/// An interface of the agent.
#[derive(Clone, Copy)]
pub(crate) struct Interface<'i> {
    name: &'static str,
    flag: &'static str,
    /// `HOST:PORT`.
    at: &'i str,
}

impl<'i> Interface<'i> {
    pub(crate) fn admin(at: &'i str) -> Self {
        Self { name: "admin", flag: "--admin", at }
    }

    pub(crate) fn readiness(at: &'i str) -> Self {
        Self { name: "readiness", flag: "--status", at }
    }
}

/// Sends a request and returns status and body.
///
/// # Errors
/// Nothing listens there, or what answers does not speak HTTP.
pub(crate) fn call(
    interface: Interface<'_>,
    method: Method,
    path: &str,
    body: String,
) -> anyhow::Result<(StatusCode, Bytes)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", interface.at)
        .body(Full::new(Bytes::from(body)))
        .with_context(|| format!("`{path}` is no path; expected something like `/config_dump`"))?;
    let answer = async { tokio::time::timeout(PATIENCE, exchange(interface, request)).await };
    match runtime.block_on(answer) {
        Ok(answer) => answer,
        Err(_) => bail!("{} did not answer within {PATIENCE:?}", interface.at),
    }
}

async fn exchange(
    interface: Interface<'_>,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<(StatusCode, Bytes)> {
    let Interface { name, flag, at } = interface;
    let stream = TcpStream::connect(at).await.with_context(|| {
        format!("cannot reach the {name} interface at {at}; is the agent running there ({flag} HOST:PORT)?")
    })?;
    let not_http = || format!("what listens at {at} does not answer like the {name} interface");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.with_context(not_http)?;
    tokio::spawn(connection);
    let answer = sender.send_request(request).await.with_context(not_http)?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), LARGEST_ANSWER).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("the answer of {at} broke off: {error}"))?;
    Ok((status, body.to_bytes()))
}

/// The body of a successful `GET`.
///
/// # Errors
/// As [`call`], and for every status but 200.
pub(crate) fn get(interface: Interface<'_>, path: &str) -> anyhow::Result<Bytes> {
    match call(interface, Method::GET, path, String::new())? {
        (StatusCode::OK, body) => Ok(body),
        (status, body) => {
            let said = String::from_utf8_lossy(&body);
            bail!("{} answered {path} with {status}: {}", interface.at, said.trim_end())
        }
    }
}
