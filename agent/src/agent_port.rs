//! The agent's port (15020): metrics of proxy and application together, probes, readiness, draining, quitting.

use std::{sync::Arc, time::Duration};

use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use snapshot::SourceAddresses;
use tokio::net::TcpStream;

use crate::{
    admin, bounds,
    interface::{Answer, Body, Caller, Known, exposition, text},
    metrics::{self, AsIs},
    probes::Probes,
};

/// Where the application's own metrics are, as injection says it in `ISTIO_PROMETHEUS_ANNOTATIONS`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ApplicationMetrics {
    pub(crate) port: u16,
    pub(crate) path: String,
}

impl ApplicationMetrics {
    /// Reads `{"scrape":"true","path":"/metrics","port":"8080"}`; `None` when nothing is to be scraped.
    ///
    /// # Errors
    /// The text is no such object: a whole sentence for the user.
    pub(crate) fn read(json: &str) -> Result<Option<Self>, String> {
        let wrong = |what: &str| {
            format!(
                "invalid {PROMETHEUS_ANNOTATIONS}: {what}; expected an object such as \
                 {{\"scrape\":\"true\",\"path\":\"/metrics\",\"port\":\"8080\"}}"
            )
        };
        let value: serde_json::Value =
            serde_json::from_str(json).map_err(|error| wrong(&error.to_string()))?;
        let text = |field: &str| value[field].as_str().unwrap_or_default();
        if text("scrape") == "false" {
            return Ok(None);
        }
        let port = match text("port") {
            "" => 80,
            port => port.parse().map_err(|_| wrong(&format!("`{port}` is no port")))?,
        };
        let path = match text("path") {
            "" => "/metrics".to_owned(),
            path => path.to_owned(),
        };
        Ok(Some(Self { port, path }))
    }
}

/// Variable that injection sets from the pod's `prometheus.io/` annotations.
pub(crate) const PROMETHEUS_ANNOTATIONS: &str = "ISTIO_PROMETHEUS_ANNOTATIONS";

/// Answers a request to the agent's port.
pub(crate) async fn answer(request: &Request<Bytes>, known: &Arc<Known>) -> Answer {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/stats/prometheus") => exposition(merged(known).await),
        (&Method::GET, "/healthz/ready") => admin::ready(&known.status),
        (_, path) if Probes::serve(path) => known.probes.answer(request).await,
        (&Method::POST, "/quitquitquit" | "/drain") if !is_from_pod(request) => {
            text(StatusCode::FORBIDDEN, "only requests from localhost may end the proxy\n")
        }
        (&Method::POST, "/drain") => {
            known.status.drain();
            text(StatusCode::OK, "OK\n")
        }
        (&Method::POST, "/quitquitquit") => {
            known.status.quit();
            text(StatusCode::OK, "OK\n")
        }
        (_, "/stats/prometheus" | "/healthz/ready" | "/quitquitquit" | "/drain") => {
            text(StatusCode::METHOD_NOT_ALLOWED, "wrong method\n")
        }
        _ => text(
            StatusCode::NOT_FOUND,
            "no such path; GET /stats/prometheus, GET /healthz/ready, POST /drain, POST /quitquitquit and the probes of \
             the application are the ones\n",
        ),
    }
}

/// Whether the caller is a process of the pod. Other pods reach this port, too: past the rules from their own addresses,
/// captured and passed through from loopback ones.
fn is_from_pod(request: &Request<Bytes>) -> bool {
    request.extensions().get::<Caller>().is_some_and(|caller| {
        let ip = caller.0.to_canonical();
        ip.is_loopback() && ip != SourceAddresses::INBOUND.towards(ip)
    })
}

/// The proxy's metrics and the application's. One that fails must not hide the other.
async fn merged(known: &Arc<Known>) -> Body {
    let applications = match &known.metrics.application {
        Some(application) => known.metrics.applications.get(applications(application, known)).await,
        None => Bytes::new(),
    };
    metrics::body(known, AsIs, applications).await
}

/// The application's metrics; nothing when they cannot be had.
async fn applications(application: &ApplicationMetrics, known: &Known) -> String {
    let scraped = tokio::time::timeout(PATIENCE, scrape(application)).await;
    scraped.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}"))).unwrap_or_else(|error| {
        known.metrics.count_failed_scrape();
        let ApplicationMetrics { port, path } = application;
        tracing::debug!(port, path, error, "cannot scrape the application");
        String::new()
    })
}

const PATIENCE: Duration = Duration::from_secs(5);

async fn scrape(application: &ApplicationMetrics) -> Result<String, String> {
    let said = |error: &dyn std::fmt::Display| error.to_string();
    let stream = TcpStream::connect(("127.0.0.1", application.port)).await.map_err(|error| said(&error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| said(&error))?;
    tokio::spawn(connection);
    let request = Request::get(&application.path)
        .header("host", format!("localhost:{}", application.port))
        .body(Empty::<Bytes>::new())
        .map_err(|error| said(&error))?;
    let answer = sender.send_request(request).await.map_err(|error| said(&error))?;
    if answer.status() != StatusCode::OK {
        return Err(format!("it answered {}", answer.status()));
    }
    let body = Limited::new(answer.into_body(), bounds::APPLICATION_METRICS)
        .collect()
        .await
        .map_err(|error| said(&*error))?;
    let mut text = String::from_utf8(body.to_bytes().into()).map_err(|error| said(&error))?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_pod_itself_may_end_the_proxy() {
        let from = |ip: &str| {
            let mut request = Request::new(Bytes::new());
            request.extensions_mut().insert(Caller(ip.parse().unwrap()));
            is_from_pod(&request)
        };
        assert!(from("127.0.0.1") && from("::1") && from("::ffff:127.0.0.1"));
        assert!(!from("127.0.0.6") && !from("::ffff:127.0.0.6") && !from("::6"), "captured from another pod");
        assert!(!from("10.0.0.1") && !from("::ffff:10.0.0.1") && !is_from_pod(&Request::new(Bytes::new())));
    }

    #[test]
    fn annotations_say_where_the_applications_metrics_are() {
        let read = ApplicationMetrics::read;
        let some = |port, path: &str| Ok(Some(ApplicationMetrics { port, path: path.to_owned() }));
        assert_eq!(read(r#"{"scrape":"true","path":"/m","port":"8080"}"#), some(8080, "/m"));
        assert_eq!(read(r#"{"scrape":"true"}"#), some(80, "/metrics"));
        assert_eq!(read(r#"{"scrape":"false","port":"8080"}"#), Ok(None));
        assert!(read(r#"{"port":"many"}"#).unwrap_err().contains("`many` is no port"));
        assert!(read("{").unwrap_err().starts_with("invalid ISTIO_PROMETHEUS_ANNOTATIONS"));
    }
}
