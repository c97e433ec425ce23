//! The admin interface (15000, loopback), in Envoy's paths.

mod certs;
mod commands;
mod config_dump;
mod logging;
mod memory;
mod query;
mod stats;

use std::{sync::Arc, time::SystemTime};

use http::{Method, Request, StatusCode};
use hyper::body::Bytes;
use regex::Regex;
use serde_json::json;
use snapshot::{DumpVersion, address_json};

use self::{commands::Command, query::Query};
use crate::{
    explain::{self, Asked},
    findings,
    interface::{Answer, Known, json, text},
    status::{State, Status},
};

/// Answers a request to the admin interface.
pub(crate) async fn answer(request: &Request<Bytes>, known: &Arc<Known>) -> Answer {
    let status = &*known.status;
    let query = &Query::parse(request.uri().query());
    let path = request.uri().path();
    let Some(command) = Command::at(path) else {
        return text(StatusCode::NOT_FOUND, format!("invalid path. {}", commands::list()));
    };
    // As in Envoy: what only reads may be asked by any method.
    if command.changes && request.method() != Method::POST {
        let problem = format!("Method {} not allowed, POST required.", request.method());
        return text(StatusCode::METHOD_NOT_ALLOWED, problem);
    }
    match path {
        "/certs" | "/clusters" | "/config_dump" | "/explain" | "/findings" | "/listeners" => {
            let place = known.long_texts.take().await;
            long(request, query, known).await.map(|body| body.holding(place))
        }
        "/drain_listeners" => done(|| status.drain()),
        "/healthcheck/fail" => done(|| status.fail_health_check(true)),
        "/healthcheck/ok" => done(|| status.fail_health_check(false)),
        "/logging" => logging::answer(query),
        "/memory" => json(&memory::sizes()),
        "/hot_restart_version" => text(StatusCode::OK, NO_HOT_RESTART),
        "/quitquitquit" => done(|| status.quit()),
        "/ready" => ready(status),
        "/server_info" => server_info(status),
        "/stats" => stats::answer(known, query, "text").await,
        "/stats/prometheus" => stats::answer(known, query, "prometheus").await,
        _ => text(StatusCode::OK, commands::list()),
    }
}

/// What may be long, as there may be many of what it tells of.
async fn long(request: &Request<Bytes>, query: &Query, known: &Known) -> Answer {
    match request.uri().path() {
        "/certs" => certificates(&known.status),
        "/clusters" => clusters(query, known).await,
        "/config_dump" => config_dump(query, known).await,
        "/explain" => explain(request, query, known).await,
        "/findings" => findings(known).await,
        _ => listeners(query, &known.status),
    }
}

fn done(change: impl FnOnce()) -> Answer {
    change();
    text(StatusCode::OK, "OK\n")
}

async fn config_dump(query: &Query, known: &Known) -> Answer {
    let Some(published) = known.status.published() else { return json(&json!({"configs": []})) };
    let version = DumpVersion { number: published.version, last_updated: timestamp(published.at) };
    let live = known.metrics.reader.clusters().await;
    let _one_at_a_time = known.dumping.lock().await;
    // Elsewhere than where probes are answered: it may take long.
    tokio::task::block_in_place(|| {
        let mut dump = snapshot::config_dump(&published.snapshot, &version, &live, &known.upgrades.names());
        config_dump::tell_refused(&mut dump, &known.status.refused());
        match config_dump::selected(dump, query) {
            Ok(dump) => json(&dump),
            Err((status, problem)) => text(status, problem),
        }
    })
}

fn certificates(status: &Status) -> Answer {
    let Some(published) = status.published() else { return json(&json!({"certificates": []})) };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    json(&certs::certificates(&published.snapshot, i64::try_from(now).unwrap_or(i64::MAX)))
}

/// `2026-01-02T03:04:05.678Z`.
fn timestamp(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}

/// Answers `postern-agent explain` from the snapshot in force.
async fn explain(request: &Request<Bytes>, query: &Query, known: &Known) -> Answer {
    let Some(published) = known.status.published() else {
        return text(StatusCode::SERVICE_UNAVAILABLE, "nothing is served yet\n");
    };
    let asked: Asked = match serde_json::from_slice(request.body()) {
        Ok(asked) => asked,
        Err(error) => {
            return text(StatusCode::BAD_REQUEST, format!("the question is not understood: {error}\n"));
        }
    };
    let in_json = wants_json(query);
    let live = known.metrics.reader.clusters().await;
    let explanation = asked.answer(&published.snapshot, &live, &known.upgrades);
    let explanation = explain::as_far_as_open(explanation, &known.status.refused());
    text(StatusCode::OK, explain::print(&explanation, in_json))
}

async fn findings(known: &Known) -> Answer {
    let mut findings = findings::all(&known.status, &known.metrics.reader);
    if let Some(snapshot) = known.status.snapshot() {
        findings.extend(findings::ejected(&snapshot, &known.metrics.reader.clusters().await));
    }
    text(StatusCode::OK, findings.into_iter().map(|finding| finding + "\n").collect::<String>())
}

fn server_info(status: &Status) -> Answer {
    let version = status.published().map_or(0, |published| published.version);
    let uptime = format!("{}s", status.uptime().as_secs());
    json(&json!({
        "version": env!("CARGO_PKG_VERSION"),
        "state": status.state().name(),
        "uptime_current_epoch": uptime,
        "uptime_all_epochs": uptime,
        "hot_restart_version": NO_HOT_RESTART,
        "snapshot": version,
    }))
}

/// What Envoy says that cannot be replaced while it runs.
const NO_HOT_RESTART: &str = "disabled";

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

/// Any other format is as good as none, as in Envoy.
fn wants_json(query: &Query) -> bool {
    query.get("format") == Some("json")
}

async fn clusters(query: &Query, known: &Known) -> Answer {
    let Some(published) = known.status.published() else { return text(StatusCode::OK, "") };
    let names = match query.get("filter").map(Regex::new).transpose() {
        Ok(names) => names,
        Err(error) => {
            return text(StatusCode::BAD_REQUEST, format!("Invalid re2 regex: {}\n", last_line(&error)));
        }
    };
    let is_wanted = |name: &str| names.as_ref().is_none_or(|names| names.is_match(name));
    let live = known.metrics.reader.clusters().await;
    if !wants_json(query) {
        let lines = snapshot::cluster_lines(&published.snapshot, &live);
        let wanted =
            lines.split_inclusive('\n').filter(|line| is_wanted(line.split("::").next().unwrap_or_default()));
        return text(StatusCode::OK, wanted.collect::<String>());
    }
    let mut statuses = snapshot::cluster_statuses(&published.snapshot, &live);
    if let Some(list) = statuses["cluster_statuses"].as_array_mut() {
        list.retain(|status| status["name"].as_str().is_some_and(is_wanted));
    }
    json(&statuses)
}

/// The reason of an error about a regular expression, which shows the expression first.
fn last_line(error: &regex::Error) -> String {
    let all = error.to_string();
    all.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

fn listeners(query: &Query, status: &Status) -> Answer {
    let Some(published) = status.published() else { return text(StatusCode::OK, "") };
    let refused = status.refused();
    let is_open =
        |listener: &&snapshot::Listener| refused.iter().all(|refused| refused.name != listener.name);
    let listeners = published.snapshot.listeners().iter().filter(is_open);
    let bound = listeners.filter_map(|listener| Some((&listener.name, listener.binding.bound()?)));
    if wants_json(query) {
        let statuses: Vec<_> =
            bound.map(|(name, at)| json!({"name": name, "local_address": address_json(&at)})).collect();
        return json(&json!({"listener_statuses": statuses}));
    }
    text(StatusCode::OK, bound.map(|(name, at)| format!("{name}::{at}\n")).collect::<String>())
}
