//! Istio's standard metrics and some of our own, in the text format of Prometheus.

mod certificates;
mod clusters;
mod families;
mod labels;
mod pieces;
mod places;
mod routes;
mod texts;
mod workload;

use std::{
    fmt::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use dataplane::{AccessLog, ClusterState, Counts, TelemetryReader};
use hyper::body::Bytes;
use snapshot::Workload;

use crate::{
    agent_port::ApplicationMetrics,
    findings,
    interface::{Body, Known},
    status::{State, Status},
};

use self::{pieces::Pieces, texts::Texts};

pub(crate) use {
    pieces::{AsIs, Form, made},
    places::{Place, Places},
    workload::own as own_workload,
};

/// Where the numbers come from.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) reader: TelemetryReader,
    pub(crate) workload: Workload,
    pub(crate) log: Option<AccessLog>,
    /// Where the application's own metrics are, if it has any.
    pub(crate) application: Option<ApplicationMetrics>,
    failed_scrapes: AtomicU64,
    /// The application's, being sent.
    pub(crate) applications: Texts,
    /// Who is sent the proxy's.
    readers: Places,
}

impl Metrics {
    pub(crate) fn new(
        reader: TelemetryReader,
        workload: Workload,
        log: Option<AccessLog>,
        application: Option<ApplicationMetrics>,
    ) -> Self {
        Self {
            reader,
            workload,
            log,
            application,
            failed_scrapes: AtomicU64::new(0),
            applications: Texts::default(),
            readers: Places::default(),
        }
    }

    pub(crate) fn count_failed_scrape(&self) {
        self.failed_scrapes.fetch_add(1, Ordering::Relaxed);
    }

    fn write<W: Write>(&self, status: &Status, (counts, clusters): &Told, out: &mut W) -> fmt::Result {
        let telemetry = self.reader.read();
        let published = status.published();
        let snapshot = published.as_ref().map(|published| &*published.snapshot);
        families::istio(&telemetry, &self.workload, snapshot, out)?;
        if let Some(snapshot) = snapshot {
            routes::routes(&telemetry, snapshot, out)?;
        }
        out.write_str(&self.others(status, counts, telemetry.lost))?;
        if let Some(snapshot) = snapshot {
            out.write_str(&certificates::certificates(snapshot, SystemTime::now()))?;
        }
        clusters::clusters(clusters, out)
    }

    /// What there are few series of.
    fn others(&self, status: &Status, counts: &Counts, lost: u64) -> String {
        let mut out = String::new();
        connections(counts, &mut out);
        simple(
            "postern_metrics_lost_total",
            "counter",
            "Requests and connections not in the metrics because there were too many different ones.",
            lost,
            &mut out,
        );
        simple(
            "postern_access_log_lost_lines_total",
            "counter",
            "Access log lines lost because the output did not keep up.",
            self.log.as_ref().map_or(0, AccessLog::lost_lines),
            &mut out,
        );
        simple(
            "postern_application_scrapes_failed_total",
            "counter",
            "Times the application's own metrics could not be had.",
            self.failed_scrapes.load(Ordering::Relaxed),
            &mut out,
        );
        configuration(status, &findings::all(status, &self.reader), &mut out);
        out
    }
}

/// What only workers tell.
type Told = (Counts, Vec<ClusterState>);

/// All metrics as they stand, in a form, and something after them. They are made while they are read, when there is a
/// place for one more reader.
pub(crate) async fn body(known: &Arc<Known>, form: impl Form, after: Bytes) -> Body {
    let place = known.metrics.readers.take().await;
    let reader = &known.metrics.reader;
    // The workers are asked first: who has told its counts is through with what it had begun.
    let told = (reader.counts().await, reader.cluster_states().await);
    let (mut pieces, body) = Pieces::new(form, place);
    let known = Arc::clone(known);
    // Elsewhere than where probes are answered: it takes as long as the reader does.
    tokio::task::spawn_blocking(move || {
        let written = known.metrics.write(&known.status, &told, &mut pieces);
        // A reader that is gone is no news.
        _ = written.and_then(|()| pieces.end(after));
    });
    body
}

fn simple(name: &str, kind: &str, help: &str, value: u64, out: &mut String) {
    _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
}

fn connections(counts: &Counts, out: &mut String) {
    simple(
        "postern_downstream_connections_active",
        "gauge",
        "Connections from clients that are open.",
        counts.active_connections,
        out,
    );
    simple(
        "postern_downstream_connections_total",
        "counter",
        "Connections accepted from clients.",
        counts.connections,
        out,
    );
    let name = "postern_downstream_connections_refused_total";
    _ = write!(out, "# HELP {name} Connections closed unserved, by reason.\n# TYPE {name} counter\n");
    let reasons = [
        ("over_limit", counts.over_limit),
        ("going_to_the_proxy_itself", counts.looped),
        ("no_filter_chain", counts.no_filter_chain),
        ("proxy_protocol", counts.without_proxy_header),
        ("failed_handshake", counts.failed_handshakes),
        ("crowded_out_handshake", counts.crowded_out_handshakes),
    ];
    for (reason, count) in reasons {
        _ = writeln!(out, "{name}{{reason=\"{reason}\"}} {count}");
    }
    simple(
        "postern_local_replies_total",
        "counter",
        "Requests that the proxy answered itself.",
        counts.local_replies,
        out,
    );
    simple(
        "postern_mirrored_requests_dropped_total",
        "counter",
        "Copies for mirrors that were not made: too many were under way, or held too much.",
        counts.dropped_copies,
        out,
    );
}

fn configuration(status: &Status, findings: &[String], out: &mut String) {
    let published = status.published();
    let live = u64::from(status.state() == State::Live);
    simple("postern_live", "gauge", "Whether the proxy serves and is not draining.", live, out);
    let version = published.as_ref().map_or(0, |published| published.version);
    simple("postern_config_version", "gauge", "Number of the snapshot in force.", version, out);
    let name = "postern_config_findings";
    _ = write!(
        out,
        "# HELP {name} Things wrong or surprising in the resources; /findings lists them.\n# TYPE {name} gauge\n"
    );
    let refused = status.refused().len();
    for severity in ["error", "warning"] {
        let count = findings.iter().filter(|finding| finding.starts_with(severity)).count();
        _ = writeln!(out, "{name}{{severity=\"{severity}\"}} {count}");
    }
    simple("postern_listeners_refused", "gauge", "Listeners that could not be opened.", refused as u64, out);
}
