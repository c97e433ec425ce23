//! The admin interface (15000, loopback), in Envoy's paths.

use std::time::SystemTime;

use http::{Method, Request, StatusCode};
use hyper::body::Bytes;
use serde_json::json;
use snapshot::{Binding, DumpVersion};

use crate::{
    explain::{self, Asked},
    interface::{Answer, Known, exposition, json, text},
    status::{State, Status},
};

/// Answers a request to the admin interface.
pub(crate) async fn answer(request: &Request<Bytes>, known: &Known) -> Answer {
    let status = &*known.status;
    let query = request.uri().query().unwrap_or_default();
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/") => text(StatusCode::OK, INDEX),
        (&Method::GET, "/config_dump") => config_dump(query, known).await,
        (&Method::GET, "/clusters") => clusters(query, known).await,
        (&Method::GET, "/findings") => findings(status),
        (&Method::GET, "/listeners") => listeners(query, status),
        (&Method::GET, "/ready") => ready(status),
        (&Method::GET, "/server_info") => server_info(status),
        (&Method::GET, "/stats" | "/stats/prometheus") => exposition(known.metrics.text(status).await),
        (&Method::POST, "/explain") => explain(request, known).await,
        (&Method::POST, "/logging") => logging(query),
        (&Method::POST, "/quitquitquit") => {
            status.quit();
            text(StatusCode::OK, "OK\n")
        }
        (_, path) if PATHS.contains(&path) => {
            text(StatusCode::METHOD_NOT_ALLOWED, "wrong method; GET / lists the paths\n")
        }
        _ => text(StatusCode::NOT_FOUND, "no such path; GET / lists them\n"),
    }
}

/// Paths that exist, for whoever asks with another method.
const PATHS: [&str; 12] = [
    "/",
    "/clusters",
    "/config_dump",
    "/explain",
    "/findings",
    "/listeners",
    "/logging",
    "/quitquitquit",
    "/ready",
    "/server_info",
    "/stats",
    "/stats/prometheus",
];

const INDEX: &str = "\
GET  /config_dump    listeners, routes and clusters in force, in Envoy's form; ?include_eds adds endpoints
GET  /clusters       endpoints with their health and what was sent to them; ?format=json
POST /explain        where a request goes and why; `postern-agent explain request` asks it
GET  /findings       everything wrong or surprising in the resources, one per line
GET  /listeners      addresses listened on; ?format=json
POST /logging        ?level=debug, or a list such as ?level=info,dataplane=debug
GET  /ready          LIVE when the proxy serves
GET  /server_info    version and state
GET  /stats/prometheus  metrics
POST /quitquitquit   drain and exit
";

/// Endpoints are dumped only when asked for, as in Envoy: there may be many.
async fn config_dump(query: &str, known: &Known) -> Answer {
    let Some(published) = known.status.published() else { return json(&serde_json::json!({"configs": []})) };
    let version = DumpVersion { number: published.version, last_updated: timestamp(published.at) };
    let mut dump =
        snapshot::config_dump(&published.snapshot, &version, &known.metrics.reader.clusters().await);
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
async fn explain(request: &Request<Bytes>, known: &Known) -> Answer {
    let Some(published) = known.status.published() else {
        return text(StatusCode::SERVICE_UNAVAILABLE, "nothing is served yet\n");
    };
    let asked: Asked = match serde_json::from_slice(request.body()) {
        Ok(asked) => asked,
        Err(error) => {
            return text(StatusCode::BAD_REQUEST, format!("the question is not understood: {error}\n"));
        }
    };
    let in_json = wants_json(request.uri().query().unwrap_or_default());
    let live = known.metrics.reader.clusters().await;
    text(StatusCode::OK, explain::print(&asked.answer(&published.snapshot, &live), in_json))
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

/// Whether the proxy serves, and if not why: Envoy's word, and a line with the reason.
pub(crate) fn ready(status: &Status) -> Answer {
    let state = status.state();
    match (state, status.waiting()) {
        (State::Live, _) => text(StatusCode::OK, format!("{}\n", state.name())),
        (State::PreInitializing, Some(reason)) => {
            text(StatusCode::SERVICE_UNAVAILABLE, format!("{}\n{reason}\n", state.name()))
        }
        _ => text(StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", state.name())),
    }
}

fn wants_json(query: &str) -> bool {
    query.split('&').any(|pair| pair == "format=json")
}

async fn clusters(query: &str, known: &Known) -> Answer {
    let Some(published) = known.status.published() else { return text(StatusCode::OK, "") };
    let live = known.metrics.reader.clusters().await;
    match wants_json(query) {
        true => json(&snapshot::cluster_statuses(&published.snapshot, &live)),
        false => text(StatusCode::OK, snapshot::cluster_lines(&published.snapshot, &live)),
    }
}

fn listeners(query: &str, status: &Status) -> Answer {
    let Some(published) = status.published() else { return text(StatusCode::OK, "") };
    let bound = published.snapshot.listeners().iter().filter_map(|listener| match listener.binding {
        Binding::Socket(at) | Binding::Dialled(at) => Some((&listener.name, at)),
        Binding::Captured(_) => None,
    });
    if wants_json(query) {
        let statuses: Vec<_> = bound
            .map(|(name, at)| {
                let address = json!({"socket_address": {"address": at.ip(), "port_value": at.port()}});
                json!({"name": name, "local_address": address})
            })
            .collect();
        return json(&json!({"listener_statuses": statuses}));
    }
    text(StatusCode::OK, bound.map(|(name, at)| format!("{name}::{at}\n")).collect::<String>())
}

/// Changes what is logged while the proxy runs.
fn logging(query: &str) -> Answer {
    let Some(levels) = query.split('&').find_map(|pair| pair.strip_prefix("level=")) else {
        return text(StatusCode::BAD_REQUEST, "expected ?level=LEVELS, such as ?level=debug\n");
    };
    match crate::logging::set_levels(levels) {
        Ok(()) => text(StatusCode::OK, format!("logging {levels}\n")),
        Err(wrong) => text(StatusCode::BAD_REQUEST, format!("{wrong}\n")),
    }
}
