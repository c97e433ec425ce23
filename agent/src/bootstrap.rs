//! Wires sources → translation → publication → data plane → admin, and ends it all on a signal.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context, bail};
use dataplane::{AccessLog, BindError, DataPlane, InboundCapture, LoopbackAnswers, Settings};
use nix::{
    sys::resource::{Resource, getrlimit, setrlimit},
    unistd::{Gid, Uid},
};
use resources::{Finding, InboundTrafficPolicy, MeshConfig, ReadDefaults, Severity};
use rules::ports::{PROXY_ID, Port, TPROXY_MARK};
use snapshot::Snapshot;
use sources::{Directories, Source, Update, Updates};
use tokio::signal::unix::{SignalKind, signal};
use translate::{
    CapturePorts, Credentials, MeshOptions, Proxy, ProxyKind, Translation, Translator, certificate_paths,
};

use crate::{
    cli::InterceptionMode,
    interface::{self, Interface, Purpose},
    log_format,
    metrics::{Metrics, Workload},
    options::ProxyOptions,
    status::{Published, Status},
};

/// Runs the proxy until it is told to end and its connections have ended.
///
/// # Errors
/// What cannot be done without: a configuration directory, a port of the sidecar's own, a thread.
pub(crate) fn run(options: ProxyOptions) -> anyhow::Result<()> {
    warn_of_surprises(&options);
    let mesh = mesh_config(options.mesh_config.as_deref())?;
    let defaults = ReadDefaults { namespace: options.namespace.as_str().into() };
    let directories = Directories::open(options.config_dirs.clone(), defaults)?;
    let known = proxy(&options, &mesh);
    let directories = directories.with_certificates(move |resources| certificate_paths(resources, &known));
    let interfaces = interfaces(&options)?;
    let settings = data_plane_settings(&options, &mesh)?;
    let plane = DataPlane::start(&settings).context("cannot start the workers")?;
    // Control work has a thread of its own: the workers serve while it translates.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("control")
        .enable_all()
        .build()
        .context("cannot start the control runtime")?;
    let (publisher, updates) = sources::channel();
    let status = Arc::new(Status::default());
    runtime.spawn(directories.run(publisher));
    let metrics = metrics(&options, &plane, settings.access_log);
    let known = Arc::new(interface::Known { status: Arc::clone(&status), metrics });
    for interface in interfaces {
        runtime.spawn(interface.serve(Arc::clone(&known)));
    }
    let (proxy, translator) = (proxy(&options, &mesh), Translator::default());
    let control = Control { proxy, translator, plane, status, known: Known::default() };
    runtime.block_on(control.run(updates, options.drain))
}

fn warn_of_surprises(options: &ProxyOptions) {
    if !options.without_effect.is_empty() {
        tracing::warn!("these flags are accepted and have no effect: {}", options.without_effect.join(" "));
    }
    let (uid, gid) = (Uid::effective().as_raw(), Gid::effective().as_raw());
    if options.interception_mode == InterceptionMode::Tproxy && uid == PROXY_ID {
        tracing::warn!(
            uid,
            gid,
            "in TPROXY mode the interception rules send what uid {PROXY_ID} says to its own pod back to the proxy: run \
             the container as uid 0 and gid {PROXY_ID} with CAP_NET_ADMIN, as Istio's injector does"
        );
    }
    let is_captured =
        options.kind == ProxyKind::Sidecar && options.interception_mode != InterceptionMode::None;
    if is_captured && uid != PROXY_ID && gid != PROXY_ID {
        tracing::warn!(
            uid,
            gid,
            "the interception rules let only uid or gid {PROXY_ID} through: as another user the proxy's own calls may \
             be captured again"
        );
    }
}

/// The mesh configuration in a file, or the defaults.
///
/// # Errors
/// The file cannot be read or is refused.
pub(crate) fn mesh_config(path: Option<&Path>) -> anyhow::Result<MeshConfig> {
    let Some(path) = path else { return Ok(MeshConfig::default()) };
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read `{}` given by --mesh-config", path.display()))?;
    let (config, findings) = MeshConfig::read(&path.display().to_string(), &text);
    findings.iter().for_each(report);
    config.with_context(|| format!("`{}` given by --mesh-config is refused, see above", path.display()))
}

fn interfaces(options: &ProxyOptions) -> Result<Vec<Interface>, BindError> {
    let (v4, v6) = (IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED));
    let open = |purpose, ip, port: Port| Interface::open(purpose, SocketAddr::new(ip, port.number()));
    let mut interfaces = vec![
        Interface::open(Purpose::Admin, options.admin)?,
        open(Purpose::Readiness, v4, options.status_port)?,
    ];
    // Kernels without IPv6 have no use for the second one.
    interfaces.extend(open(Purpose::Readiness, v6, options.status_port));
    // Traffic matters more than its metrics: a port that is taken costs only them.
    for (purpose, port) in [(Purpose::Metrics, options.stats_port), (Purpose::Agent, options.agent_port)] {
        match open(purpose, v4, port) {
            Ok(interface) => interfaces.push(interface),
            Err(error) => tracing::error!("{error}"),
        }
        interfaces.extend(open(purpose, v6, port));
    }
    Ok(interfaces)
}

fn metrics(options: &ProxyOptions, plane: &DataPlane, log: Option<AccessLog>) -> Metrics {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let workload = Workload::new(&options.name, &options.namespace, &options.labels, variable);
    Metrics::new(plane.telemetry(), workload, log, options.application_metrics.clone())
}

fn data_plane_settings(options: &ProxyOptions, mesh: &MeshConfig) -> anyhow::Result<Settings> {
    let open_log = |file: &String| {
        AccessLog::open(Path::new(file))
            .with_context(|| format!("cannot open the access log `{file}` (accessLogFile)"))
    };
    let format = log_format::read(mesh)?;
    let access_log = mesh.access_log_file.as_ref().map(open_log).transpose()?;
    let access_log = access_log.map(|log| log.with_format(format));
    let max_connections = connection_limit(raise_open_files(), options.workers);
    Ok(Settings {
        workers: options.workers,
        max_connections,
        access_log,
        inbound_capture: inbound_capture(options, mesh),
        gateway_proxy_protocol: mesh.gateway_proxy_protocol,
        ..Settings::default()
    })
}

fn inbound_capture(options: &ProxyOptions, mesh: &MeshConfig) -> InboundCapture {
    if options.interception_mode != InterceptionMode::Tproxy {
        return InboundCapture::Redirect;
    }
    let loopback = LoopbackAnswers::probe(TPROXY_MARK);
    if mesh.inbound_traffic_policy == InboundTrafficPolicy::Localhost && !loopback.v4 {
        tracing::warn!(
            "the application will not see its clients' addresses: what it answers from 127.0.0.1 to them does not come \
             back; use postern-init, or add what it adds: ip rule add from 127.0.0.1 ipproto tcp lookup 133"
        );
    }
    InboundCapture::Transparent { mark: TPROXY_MARK, loopback }
}

/// Lets the process open as many files as its hard limit allows, and returns that number.
fn raise_open_files() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 1024 };
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    }
}

/// Connections from clients that one worker takes: each may need one to an endpoint, and some descriptors are needed
/// for everything else.
fn connection_limit(open_files: u64, workers: usize) -> usize {
    let clients = usize::try_from(open_files.saturating_sub(200) / 2).unwrap_or(usize::MAX);
    (clients / workers).max(16)
}

fn proxy(options: &ProxyOptions, mesh: &MeshConfig) -> Proxy {
    Proxy {
        name: options.name.clone(),
        ips: options.ips.clone(),
        labels: options.labels.clone(),
        cluster_domain: options.cluster_domain.clone(),
        ports: (options.interception_mode != InterceptionMode::None).then(|| CapturePorts {
            outbound: options.outbound_port.number(),
            inbound: options.inbound_port.number(),
        }),
        identity: options.identity.clone(),
        mesh: mesh_options(mesh),
        ..Proxy::new(options.kind, options.namespace.as_str())
    }
}

/// The part of the mesh configuration that translation reads.
pub(crate) fn mesh_options(mesh: &MeshConfig) -> MeshOptions {
    let defaults = MeshOptions::default();
    MeshOptions {
        outbound_traffic_policy: mesh.outbound_traffic_policy,
        inbound_traffic_policy: mesh.inbound_traffic_policy,
        path_normalization: mesh.path_normalization,
        connect_timeout: mesh.connect_timeout.unwrap_or(defaults.connect_timeout),
        root_namespace: mesh.root_namespace.clone().unwrap_or_else(|| defaults.root_namespace.clone()),
        trust_domain: mesh.trust_domain.clone().unwrap_or_else(|| defaults.trust_domain.clone()),
        ..defaults
    }
}

/// The control loop's own state.
struct Control {
    proxy: Proxy,
    translator: Translator,
    plane: DataPlane,
    status: Arc<Status>,
    known: Known,
}

/// Complaints already made, so that one is made once and not with every change of something else.
#[derive(Default)]
struct Known {
    findings: HashSet<String>,
    refused: HashSet<String>,
}

/// Credentials as far as resources alone tell: what Secrets hold is checked, files are taken to be where they are
/// needed.
pub(crate) fn resources_alone() -> Credentials<'static> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Credentials {
        now: i64::try_from(now.as_secs()).ok(),
        check_certificate: |certificate| {
            dataplane::check_certificate(certificate).map_err(|error| error.to_string())
        },
        check_authority: |bundle| dataplane::check_authority(bundle).map_err(|error| error.to_string()),
        ..Credentials::UNSEEN
    }
}

/// How long a listener whose port was taken waits for it.
const BIND_AGAIN: Duration = Duration::from_secs(5);

impl Control {
    async fn run(mut self, mut updates: Updates, drain: Duration) -> anyhow::Result<()> {
        let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;
        let status = Arc::clone(&self.status);
        loop {
            let retry = !self.known.refused.is_empty();
            tokio::select! {
                changed = updates.changed() => {
                    if changed.is_err() {
                        bail!("the configuration source has ended");
                    }
                    let update = updates.borrow_and_update().clone();
                    if let Some(update) = update {
                        self.take(&update).await?;
                    }
                }
                () = tokio::time::sleep(BIND_AGAIN), if retry => self.bind_again(),
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                () = status.quit_asked() => break,
            }
        }
        tracing::info!(limit = ?drain, "draining");
        self.status.start_draining();
        tokio::select! {
            ended = self.plane.drain(drain) => tracing::info!(all_connections_ended = ended, "stopped"),
            _ = terminate.recv() => tracing::info!("stopped at once, asked a second time"),
            _ = interrupt.recv() => tracing::info!("stopped at once, asked a second time"),
        }
        self.plane.stop();
        Ok(())
    }

    /// Translates a change and publishes what came of it.
    async fn take(&mut self, update: &Update) -> anyhow::Result<()> {
        let before = self.status.published();
        let credentials = Credentials {
            files: Some(&update.certificates),
            last_good: before.as_ref().map(|before| &*before.snapshot),
            ..resources_alone()
        };
        let Translation { snapshot, findings } =
            self.translator.translate(&update.set, &credentials, &self.proxy);
        let findings: Vec<&Finding> = update.findings.iter().chain(&findings).collect();
        self.report_new(&findings);
        let findings = findings.iter().map(|finding| format!("{}: {finding}", finding.severity)).collect();
        self.publish(Arc::new(snapshot), findings).await
    }

    async fn publish(&mut self, snapshot: Arc<Snapshot>, findings: Vec<String>) -> anyhow::Result<()> {
        let published = self.plane.publish(Arc::clone(&snapshot)).await;
        // A sidecar without its capture ports would lose the pod's traffic; a gateway goes on with its other listeners.
        let mut refused = published.refused;
        if published.version == 1 && self.proxy.kind == ProxyKind::Sidecar && !refused.is_empty() {
            return Err(refused.swap_remove(0).into());
        }
        self.report_refused(refused);
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
            snapshot,
            findings,
        });
        published.refused_credentials.iter().for_each(|error| tracing::error!("{error}"));
        Ok(())
    }

    fn bind_again(&mut self) {
        if let Some(Published { snapshot, .. }) = self.status.published() {
            let refused = self.plane.open_sockets(&snapshot);
            self.report_refused(refused);
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

    fn report_refused(&mut self, refused: Vec<BindError>) {
        let texts: HashSet<String> = refused.iter().map(ToString::to_string).collect();
        for text in texts.difference(&self.known.refused) {
            tracing::error!("{text}");
        }
        if texts.is_empty() && !self.known.refused.is_empty() {
            tracing::info!("every listener is open now");
        }
        self.status.set_refused(texts.iter().cloned().collect());
        self.known.refused = texts;
    }
}

fn report(finding: &Finding) {
    match finding.severity {
        Severity::Error => tracing::error!("{finding}"),
        Severity::Warning => tracing::warn!("{finding}"),
    }
}
