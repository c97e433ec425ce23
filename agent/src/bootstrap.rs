//! Wires sources → translation → publication → data plane → admin, and ends it all on a signal.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use dataplane::{
    AccessLog, BindError, DataPlane, InboundCapture, LoopbackAnswers, NameFamilies, NameSettings, Overload,
    PeerMetadata, Settings,
};
use nix::{
    sys::resource::{Resource, getrlimit, setrlimit},
    unistd::{Gid, Uid},
};
use resources::{InboundTrafficPolicy, MeshConfig, ReadDefaults};
use rules::ports::{PROXY_ID, Port, TPROXY_MARK};
use snapshot::Workload;
use sources::{Directories, Source};
use translate::{CapturePorts, Credentials, MeshOptions, Proxy, ProxyKind, certificate_paths};

use crate::{
    bounds,
    cli::InterceptionMode,
    control::{Control, FollowedMesh},
    interface::{self, Interface, Purpose},
    log_format, mesh,
    metrics::{self, Metrics, Places},
    name_server::NameServer,
    options::ProxyOptions,
    overload, proxy_config,
    status::Status,
};

/// Runs the proxy until it is told to end and its connections have ended.
///
/// # Errors
/// What cannot be done without: a configuration directory, a port of the sidecar's own, a thread.
pub(crate) fn run(options: ProxyOptions) -> anyhow::Result<()> {
    warn_of_surprises(&options);
    let own = proxy_config::own()?;
    let mesh = mesh::at_start(options.mesh_config.as_deref(), &options.config_dirs)?.with_proxy_config(&own);
    let defaults = ReadDefaults { namespace: options.namespace.as_str().into() };
    let directories = Directories::open(options.config_dirs.clone(), defaults)?;
    let known = proxy(&options, &mesh);
    let follows_mesh = options.mesh_config.is_none();
    let directories = directories.with_certificates(move |resources| {
        let mut paths = certificate_paths(resources, &known);
        if follows_mesh {
            paths.extend(mesh::certificate_paths(resources));
        }
        paths
    });
    let interfaces = interfaces(&options)?;
    let settings = data_plane_settings(&options, &mesh)?;
    let plane = DataPlane::start(&settings).context("cannot start the workers")?;
    overload::watch(settings.overload.clone(), options.memory_limit)
        .context("cannot watch the use of memory")?;
    // Control work has a thread of its own: the workers serve while it translates.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("control")
        .enable_all()
        .build()
        .context("cannot start the control runtime")?;
    let status = Arc::new(Status::default());
    if let Some(servers) = &options.name_servers {
        let server = NameServer::open(options.dns_port.number(), servers.clone(), Arc::clone(&status))?;
        server.start().context("cannot start the thread that answers DNS")?;
    }
    let (publisher, updates) = sources::channel();
    runtime.spawn(directories.run(publisher));
    let metrics = metrics(&options, &plane, settings.access_log);
    let known = Arc::new(interface::Known {
        status: Arc::clone(&status),
        metrics,
        probes: options.probes.clone(),
        upgrades: options.upgrades.clone(),
        long_texts: Places::default(),
        dumping: tokio::sync::Mutex::default(),
    });
    for interface in interfaces {
        runtime.spawn(interface.serve(Arc::clone(&known)));
    }
    let proxy = proxy(&options, &mesh);
    let followed = options.mesh_config.is_none().then_some(FollowedMesh { at_start: mesh, own });
    let control = Control::new(proxy, followed, plane, status);
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
    Metrics::new(plane.telemetry(), workload(options), log, options.application_metrics.clone())
}

fn workload(options: &ProxyOptions) -> Workload {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let place = (options.namespace.as_str(), options.cluster_id.as_str());
    metrics::own_workload(&options.name, place, &options.labels, variable)
}

/// What proxies of the mesh are told of this one, under the name that Istio gives a proxy.
fn peer_metadata(options: &ProxyOptions) -> PeerMetadata {
    let kind = match options.kind {
        ProxyKind::Sidecar => "sidecar",
        ProxyKind::Router => "router",
    };
    let ProxyOptions { name, namespace, cluster_domain, .. } = options;
    let ip = options.ips.first().map_or_else(|| "0.0.0.0".to_owned(), ToString::to_string);
    let id = format!("{kind}~{ip}~{name}.{namespace}~{namespace}.svc.{cluster_domain}");
    PeerMetadata::new(&workload(options), id)
}

fn data_plane_settings(options: &ProxyOptions, mesh: &MeshConfig) -> anyhow::Result<Settings> {
    let open_log = |file: &str| {
        AccessLog::open(Path::new(file))
            .with_context(|| format!("cannot open the access log `{file}` (accessLogFile)"))
    };
    let format = match options.mesh_config {
        Some(_) => log_format::read(mesh)?,
        None => log_format::read_or_default(mesh),
    };
    // Telemetry may ask for a log that the mesh has not got.
    let file = mesh.access_log_file.as_deref().unwrap_or("/dev/stdout");
    let access_log = Some(open_log(file)?.with_format(format));
    let max_connections = connection_limit(raise_open_files(), options.workers);
    Ok(Settings {
        workers: options.workers,
        max_connections,
        heads: options.heads,
        held_bodies: overload::held_bodies(options.memory_limit, options.workers),
        upgrades: options.upgrades.clone(),
        overload: Overload::new(mesh.connection_limit.beside(options.max_connections)),
        access_log,
        inbound_capture: inbound_capture(options, mesh),
        gateway_proxy_protocol: mesh.gateway_proxy_protocol,
        keep_alive: match options.idle_timeout {
            None => Settings::default().keep_alive,
            Some(Duration::ZERO) => FOR_EVER,
            Some(limit) => limit,
        },
        peer_metadata: Some(peer_metadata(options)),
        gateway_trusted_proxies: mesh.gateway_trusted_proxies,
        names: NameSettings { server: None, families: name_families(options) },
        ..Settings::default()
    })
}

/// Of a pod that was told its addresses those families; an address that an interface happens to have does not mean that
/// there is a way to others of its family.
fn name_families(options: &ProxyOptions) -> NameFamilies {
    match NameFamilies::of(&options.ips) {
        NameFamilies::Both if !options.were_ips_told => NameFamilies::V4First,
        families => families,
    }
}

/// Longer than anything runs, and short enough to be added to a time.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

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
    let clients = usize::try_from(open_files.saturating_sub(bounds::OTHER_FILES) / 2).unwrap_or(usize::MAX);
    (clients / workers).max(bounds::FEWEST_CONNECTIONS)
}

fn proxy(options: &ProxyOptions, mesh: &MeshConfig) -> Proxy {
    Proxy {
        name: options.name.clone(),
        ips: options.ips.clone(),
        labels: options.labels.clone(),
        locality: options.locality.clone(),
        node: options.node.clone(),
        cluster_id: options.cluster_id.clone(),
        cluster_domain: options.cluster_domain.clone(),
        ports: (options.interception_mode != InterceptionMode::None).then(|| CapturePorts {
            outbound: options.outbound_port.number(),
            inbound: options.inbound_port.number(),
        }),
        own_ports: own_ports(options),
        identity: options.identity.clone(),
        answers_dns: options.name_servers.is_some(),
        allocates_addresses: options.allocates_addresses,
        mesh: MeshOptions {
            tcp_idle_timeout: tcp_idle_timeout(options),
            scope_gateways_to_namespace: options.scope_gateways_to_namespace,
            narrowest_route_first: options.narrowest_route_first,
            mirrors_mark_host: options.mirrors_mark_host,
            default_retries_spare_others: options.default_retries_spare_others,
            ..mesh::options(mesh)
        },
        ..Proxy::new(options.kind, options.namespace.as_str())
    }
}

/// Where the interfaces listen.
fn own_ports(options: &ProxyOptions) -> Vec<(SocketAddr, &'static str)> {
    let everywhere = |port: Port| SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port.number());
    vec![
        (options.admin, "--admin-port"),
        (everywhere(options.status_port), "--status-port"),
        (everywhere(options.stats_port), "--stats-port"),
        (everywhere(options.agent_port), "--agent-port"),
    ]
}

fn tcp_idle_timeout(options: &ProxyOptions) -> Option<Duration> {
    match options.idle_timeout {
        None => MeshOptions::default().tcp_idle_timeout,
        limit => limit.filter(|limit| !limit.is_zero()),
    }
}

/// Credentials as far as resources alone tell: what Secrets hold is checked, files are taken to be where they are
/// needed.
pub(crate) fn resources_alone() -> Credentials<'static> {
    Credentials {
        now: Some(seconds_since_1970()),
        check_certificate: |certificate| {
            dataplane::check_certificate(certificate).map_err(|error| error.to_string())
        },
        check_authority: |bundle| dataplane::check_authority(bundle).map_err(|error| error.to_string()),
        ..Credentials::UNSEEN
    }
}

/// The time by which certificates are judged.
pub(crate) fn seconds_since_1970() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}
