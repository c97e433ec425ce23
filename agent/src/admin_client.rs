//! Calls the admin interface of a running agent.

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

/// Sends a request and returns status and body.
///
/// `at` is `HOST:PORT`.
///
/// # Errors
/// Nothing listens there, or what answers does not speak HTTP.
pub(crate) fn call(
    at: &str,
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
        .header("host", at)
        .body(Full::new(Bytes::from(body)))
        .with_context(|| format!("`{path}` is no path; expected something like `/config_dump`"))?;
    let answer = async { tokio::time::timeout(PATIENCE, exchange(at, request)).await };
    match runtime.block_on(answer) {
        Ok(answer) => answer,
        Err(_) => bail!("{at} did not answer within {PATIENCE:?}"),
    }
}

async fn exchange(at: &str, request: Request<Full<Bytes>>) -> anyhow::Result<(StatusCode, Bytes)> {
    let stream = TcpStream::connect(at).await.with_context(|| {
        format!("cannot reach the admin interface at {at}; is the agent running there (--admin HOST:PORT)?")
    })?;
    let not_http = || format!("what listens at {at} does not answer like an admin interface");
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
pub(crate) fn get(at: &str, path: &str) -> anyhow::Result<Bytes> {
    match call(at, Method::GET, path, String::new())? {
        (StatusCode::OK, body) => Ok(body),
        (status, body) => {
            bail!("{at} answered {path} with {status}: {}", String::from_utf8_lossy(&body).trim_end())
        }
    }
}
