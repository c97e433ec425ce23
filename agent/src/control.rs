//! The control loop: changes of the resources are translated and published, listeners that could not be opened are
//! tried again, and a signal ends it all.

mod ending;
#[cfg(test)]
mod tests;

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::anyhow;
use dataplane::{BindError, DataPlane, DrainTime};
use resources::{Finding, MeshConfig, ProxyConfig, ResourceSet, Severity};
use snapshot::Snapshot;
use sources::{Update, Updates};
use tokio::time::Instant;
use translate::{Credentials, MeshOptions, Proxy, ProxyKind, Translation, Translator};

use self::ending::Ending;
use crate::{
    bootstrap::{self, resources_alone},
    log_format, mesh, readiness,
    status::{Published, RefusedListener, Status},
};

/// The control loop's own state.
pub(crate) struct Control {
    proxy: Proxy,
    translator: Translator,
    plane: DataPlane,
    status: Arc<Status>,
    known: Known,
    /// Why the configuration is not fit to serve, until it once was.
    unfit: Option<String>,
    /// Whether it was known once which mutual TLS is asked of clients.
    has_known_clients: bool,
    /// When the mesh-wide settings among the resources are followed.
    followed: Option<FollowedMesh>,
    /// When the memory is given back that the last translation has used.
    release_at: Option<Instant>,
    /// When the resources come to another snapshot by the time alone, in seconds since 1970.
    changes_at: Option<i64>,
}

/// Mesh-wide settings among the resources, of which some are taken in at the start only.
pub(crate) struct FollowedMesh {
    /// As they were at the start.
    pub(crate) at_start: MeshConfig,
    /// What the pod says of its own proxy.
    pub(crate) own: ProxyConfig,
}

/// Complaints already made, so that one is made once and not with every change of something else.
#[derive(Default)]
struct Known {
    findings: HashSet<String>,
    refused: HashSet<String>,
}

/// How long a listener whose port was taken waits for it.
const BIND_AGAIN: Duration = Duration::from_secs(5);
/// How often resources that do not change are looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);
/// How long nothing has to change before memory is given back, which another change would want again.
const SETTLED: Duration = Duration::from_millis(200);

impl Control {
    /// `followed` is `None` when what holds in the mesh is not for the resources to say.
    pub(crate) fn new(
        proxy: Proxy,
        followed: Option<FollowedMesh>,
        plane: DataPlane,
        status: Arc<Status>,
    ) -> Self {
        Self {
            proxy,
            translator: Translator::default(),
            plane,
            status,
            known: Known::default(),
            unfit: None,
            has_known_clients: false,
            followed,
            release_at: None,
            changes_at: None,
        }
    }

    /// Runs until it is told to end and the connections have ended.
    ///
    /// # Errors
    /// The source of the resources has ended, or a sidecar cannot open its capture ports.
    pub(crate) async fn run(mut self, mut updates: Updates, drain: DrainTime) -> anyhow::Result<()> {
        let mut ending = Ending::listen()?;
        self.serve(&mut updates, &mut ending).await?;
        tracing::info!(minimum = ?drain.minimum, limit = ?drain.limit, "draining");
        self.status.start_draining();
        let drained = self.plane.drain(drain);
        tokio::select! {
            ended = drained => tracing::info!(all_connections_ended = ended, "stopped"),
            // Endpoints go on coming and going while the last requests are served. Nobody misses what is cut off here.
            () = self.follow_while_draining(&mut updates) => {}
            () = ending.signalled() => tracing::info!("stopped at once, asked a second time"),
        }
        self.plane.stop();
        Ok(())
    }

    /// Serves until somebody asks to end. What is dropped when another thing comes first only waits: a change half
    /// published would be lost.
    async fn serve(&mut self, updates: &mut Updates, ending: &mut Ending) -> anyhow::Result<()> {
        let status = Arc::clone(&self.status);
        let mut looked = Instant::now();
        loop {
            let retry = !self.known.refused.is_empty();
            let release_at = self.release_at.unwrap_or_else(Instant::now);
            tokio::select! {
                changed = updates.changed() => {
                    changed.map_err(|_| source_ended())?;
                    self.take_newest(updates).await?;
                }
                () = tokio::time::sleep(BIND_AGAIN), if retry => self.bind_again(),
                () = tokio::time::sleep_until(release_at), if self.release_at.is_some() => {
                    self.release_at = None;
                    dataplane::release_memory();
                }
                () = tokio::time::sleep_until(looked + LOOK_AGAIN) => {
                    looked = Instant::now();
                    self.look_again(updates).await?;
                }
                () = sleep_until_time(self.changes_at) => self.look_again(updates).await?,
                () = status.drain_asked() => {
                    tracing::info!("draining, until told to end");
                    self.status.start_draining();
                    self.plane.start_draining();
                }
                () = ending.signalled() => return Ok(()),
                () = status.quit_asked() => return Ok(()),
            }
        }
    }

    /// Publishes changes, and never ends: that they are no longer followed is no reason to cut requests off.
    async fn follow_while_draining(&mut self, updates: &mut Updates) {
        let error = loop {
            if updates.changed().await.is_err() {
                break source_ended();
            }
            if let Err(error) = self.take_newest(updates).await {
                break error;
            }
        };
        tracing::error!("the configuration is no longer followed: {error:#}");
        std::future::pending::<()>().await;
    }

    /// Publishes the newest resources, if there are any yet.
    ///
    /// # Errors
    /// A sidecar cannot open its capture ports.
    async fn take_newest(&mut self, updates: &mut Updates) -> anyhow::Result<()> {
        let update = updates.borrow_and_update().clone();
        match update {
            Some(update) => self.take(&update).await,
            None => Ok(()),
        }
    }

    /// Translates a change and publishes what came of it.
    async fn take(&mut self, update: &Update) -> anyhow::Result<()> {
        let (snapshot, findings) = self.translate(update);
        self.publish(Arc::new(snapshot), findings).await
    }

    /// Finds out what has changed by the time alone: certificates begin and end.
    async fn look_again(&mut self, updates: &Updates) -> anyhow::Result<()> {
        let Some(update) = updates.borrow().clone() else { return Ok(()) };
        let expected = self.changes_at;
        let (snapshot, findings) = self.translate(&update);
        if self.changes_at != expected {
            return self.publish(Arc::new(snapshot), findings).await;
        }
        self.status.set_findings(findings);
        Ok(())
    }

    /// What the resources come to now; says what is new about them.
    fn translate(&mut self, update: &Update) -> (Snapshot, Vec<String>) {
        let of_mesh = self.follow_mesh(&update.set);
        let before = self.status.published();
        let credentials = Credentials {
            files: Some(&update.certificates),
            last_good: before.as_ref().map(|before| &*before.snapshot),
            ..resources_alone()
        };
        self.doubt_clients(update);
        let Translation { snapshot, findings, changes_at } =
            self.translator.translate(&update.set, &credentials, &self.proxy);
        self.changes_at = changes_at;
        self.release_at = Some(Instant::now() + SETTLED);
        let findings: Vec<&Finding> = update.findings.iter().chain(&of_mesh).chain(&findings).collect();
        self.report_new(&findings);
        self.unfit = readiness::unfit(&update.set, &findings, (&snapshot, &self.proxy));
        let findings = findings.iter().map(|finding| format!("{}: {finding}", finding.severity)).collect();
        (snapshot, findings)
    }

    /// Has clients in clear text refused until it is known for the first time what is asked of them. From then on what
    /// cannot be read changes nothing.
    fn doubt_clients(&mut self, update: &Update) {
        let hides = |finding| readiness::hides_clients(finding, &update.set, &self.proxy);
        let is_unknown = !self.has_known_clients && update.findings.iter().any(hides);
        if is_unknown && !self.proxy.is_protection_unknown {
            tracing::error!("clear text is refused until it is known which mutual TLS is asked of clients");
        }
        self.proxy.is_protection_unknown = is_unknown;
        self.has_known_clients |= !is_unknown;
    }

    /// Takes in what the resources say of the mesh; says what is wrong with it. Refused settings change nothing.
    fn follow_mesh(&mut self, resources: &ResourceSet) -> Vec<Finding> {
        let Some(FollowedMesh { at_start, own }) = &self.followed else { return Vec::new() };
        let reading = mesh::among(resources).unwrap_or_default();
        let mut findings = reading.findings.clone();
        if let Some(now) = reading.whole().map(|now| now.clone().with_proxy_config(own)) {
            // These are the pod's own, or taken in at the start only.
            let MeshOptions {
                tcp_idle_timeout,
                scope_gateways_to_namespace,
                narrowest_route_first,
                mirrors_mark_host,
                default_retries_spare_others,
                trusted_proxies,
                access_log,
                ..
            } = self.proxy.mesh;
            self.proxy.mesh = MeshOptions {
                tcp_idle_timeout,
                scope_gateways_to_namespace,
                narrowest_route_first,
                mirrors_mark_host,
                default_retries_spare_others,
                trusted_proxies,
                access_log,
                ..mesh::options(&now)
            };
            findings.extend(log_format::check(&now));
            findings.extend(mesh::needs_restart(at_start, &now));
        }
        findings
    }

    async fn publish(&mut self, snapshot: Arc<Snapshot>, findings: Vec<String>) -> anyhow::Result<()> {
        let published = self.plane.publish(Arc::clone(&snapshot)).await;
        // A sidecar without its capture ports would lose the pod's traffic; a gateway goes on with its other listeners.
        let mut refused = published.refused;
        if published.version == 1 && self.proxy.kind == ProxyKind::Sidecar && !refused.is_empty() {
            return Err(refused.swap_remove(0).into());
        }
        tracing::info!(
            version = published.version,
            listeners = snapshot.listeners().len(),
            routes = snapshot.route_configs().len(),
            clusters = snapshot.clusters().len(),
            findings = findings.len(),
            "published"
        );
        self.status.publish(Published {
            version: published.version,
            at: SystemTime::now(),
            snapshot: Arc::clone(&snapshot),
            findings,
        });
        self.report_refused(&snapshot, refused);
        published.refused_credentials.iter().for_each(|error| tracing::error!("{error}"));
        Ok(())
    }

    fn bind_again(&mut self) {
        if let Some(Published { snapshot, .. }) = self.status.published() {
            let refused = self.plane.open_sockets(&snapshot);
            self.report_refused(&snapshot, refused);
        }
    }

    fn report_new(&mut self, findings: &[&Finding]) {
        let texts: HashSet<String> = findings.iter().map(ToString::to_string).collect();
        findings
            .iter()
            .filter(|finding| !self.known.findings.contains(&finding.to_string()))
            .copied()
            .for_each(report);
        self.known.findings = texts;
    }

    fn report_refused(&mut self, snapshot: &Snapshot, refused: Vec<BindError>) {
        let texts: HashSet<String> = refused.iter().map(ToString::to_string).collect();
        for text in texts.difference(&self.known.refused) {
            tracing::error!("{text}");
        }
        if texts.is_empty() && !self.known.refused.is_empty() {
            tracing::info!("every listener is open now");
        }
        let obstacle = self.unfit.clone().or_else(|| readiness::deaf(snapshot, &refused));
        let obstacle = obstacle.or_else(|| readiness::anonymous(snapshot));
        let refused = refused
            .iter()
            .map(|error| RefusedListener { name: error.listener.clone(), reason: error.to_string() });
        self.status.set_refused(refused.collect());
        if let Some(waited_for) = self.status.waits_for(obstacle) {
            tracing::error!("not ready: {waited_for}");
        }
        self.known.refused = texts;
    }
}

/// Sleeps until a time, in seconds since 1970; for ever where there is none.
async fn sleep_until_time(at: Option<i64>) {
    match at {
        Some(at) => tokio::time::sleep(seconds_until(at)).await,
        None => std::future::pending().await,
    }
}

/// How long it is until a time, in seconds since 1970; zero when it has come.
fn seconds_until(at: i64) -> Duration {
    let now = bootstrap::seconds_since_1970();
    Duration::from_secs(u64::try_from(at.saturating_sub(now)).unwrap_or_default())
}

fn source_ended() -> anyhow::Error {
    anyhow!("the configuration source has ended")
}

/// Logs a finding.
pub(crate) fn report(finding: &Finding) {
    match finding.severity {
        Severity::Error => tracing::error!("{finding}"),
        Severity::Warning => tracing::warn!("{finding}"),
    }
}
