//! What the proxy is told, once flags, environment and the machine have been asked. Nothing after this sees a raw
//! value.

mod labels;

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use dataplane::{DrainTime, HeadLimits, Upgrades};
use resources::Labels;
use rules::ports::Port;
use snapshot::Locality;
use translate::{Proxy, ProxyKind, WorkloadIdentity};

use crate::{
    agent_port::{ApplicationMetrics, PROMETHEUS_ANNOTATIONS},
    cli::{self, InterceptionMode, ProxyArgs, Role},
    name_server::{DNS_SERVERS, Servers},
    overload,
    probes::{APP_PROBERS, Probes},
};

pub(crate) use self::labels::{downward_api, flag_label};

/// Settings of a proxy.
#[derive(Debug)]
pub(crate) struct ProxyOptions {
    pub(crate) kind: ProxyKind,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) ips: Vec<IpAddr>,
    /// Whether the addresses were given, not found on interfaces.
    pub(crate) were_ips_told: bool,
    pub(crate) labels: Labels,
    pub(crate) locality: Option<Locality>,
    /// Node that the workload runs on.
    pub(crate) node: Option<String>,
    /// The cluster of Kubernetes it runs in, for metrics.
    pub(crate) cluster_id: String,
    /// What follows `.svc.` in full service names.
    pub(crate) cluster_domain: String,
    pub(crate) workers: usize,
    pub(crate) outbound_port: Port,
    pub(crate) inbound_port: Port,
    pub(crate) dns_port: Port,
    pub(crate) interception_mode: InterceptionMode,
    pub(crate) admin: SocketAddr,
    pub(crate) status_port: Port,
    pub(crate) stats_port: Port,
    pub(crate) agent_port: Port,
    /// Where the application's own metrics are.
    pub(crate) application_metrics: Option<ApplicationMetrics>,
    /// The application's probes, which the kubelet sends to the agent's port.
    pub(crate) probes: Probes,
    pub(crate) config_dirs: Vec<PathBuf>,
    pub(crate) mesh_config: Option<PathBuf>,
    /// Where the workload's own certificate is, if it has one.
    pub(crate) identity: Option<WorkloadIdentity>,
    pub(crate) drain: DrainTime,
    /// How long connections may have nothing to do; `None` leaves it to the defaults, zero means for ever.
    pub(crate) idle_timeout: Option<Duration>,
    /// Bytes of memory that the process may have, if there is a limit.
    pub(crate) memory_limit: Option<u64>,
    /// Connections from clients that all workers may have together, if there is a limit.
    pub(crate) max_connections: Option<u64>,
    /// What heads of requests and answers may cost.
    pub(crate) heads: HeadLimits,
    /// What requests may switch their connections to.
    pub(crate) upgrades: Upgrades,
    /// Whether only Gateways of this workload's own namespace are served.
    pub(crate) scope_gateways_to_namespace: bool,
    /// Whether ServiceEntries without addresses get some, where the workload asks the proxy for names.
    pub(crate) allocates_addresses: bool,
    /// Whether a gateway's routes are tried by how narrow their paths are.
    pub(crate) narrowest_route_first: bool,
    /// Whether mirrored requests are told by their host.
    pub(crate) mirrors_mark_host: bool,
    /// Whether retries that no rule asks for leave out requests that may not be made twice.
    pub(crate) default_retries_spare_others: bool,
    /// Whom to ask about other names, where the workload's questions about names come here.
    pub(crate) name_servers: Option<Servers>,
    /// Flags given that nothing here acts on.
    pub(crate) without_effect: Vec<&'static str>,
}

/// Why the settings cannot be used: a whole sentence for the user.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct WrongUsage(pub(crate) String);

impl std::fmt::Display for WrongUsage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl ProxyOptions {
    /// Fills in what the flags leave open from environment and machine.
    ///
    /// # Errors
    /// The first value that cannot be understood, with its flag or variable.
    pub(crate) fn resolve(role: Role) -> Result<Self, WrongUsage> {
        let (kind, args) = match role {
            Role::Sidecar(args) => (ProxyKind::Sidecar, args),
            Role::Router(args) => (ProxyKind::Router, args),
        };
        require_distinct_ports(kind, &args)?;
        let ips = addresses(&args)?;
        let probes = std::env::var(APP_PROBERS).unwrap_or_default();
        Ok(Self {
            kind,
            name: args.name.clone().unwrap_or_else(host_name),
            probes: Probes::read(&probes, &ips, args.agent_port.number()).map_err(WrongUsage)?,
            ips,
            were_ips_told: !args.ip.is_empty()
                || std::env::var(INSTANCE_IPS).is_ok_and(|ips| !ips.is_empty()),
            labels: labels::of_workload(&args)?,
            locality: args.locality.as_deref().filter(|path| !path.is_empty()).map(Locality::of_path),
            node: args.node_name.clone().filter(|name| !name.is_empty()),
            cluster_id: cluster_id(),
            cluster_domain: Proxy::cluster_domain_of(args.domain.as_deref().unwrap_or("cluster.local"))
                .to_owned(),
            workers: args.concurrency.filter(|workers| *workers > 0).map_or_else(usable_cores, usize::from),
            outbound_port: args.outbound_port,
            inbound_port: args.inbound_port,
            dns_port: args.dns_port,
            interception_mode: args.interception_mode,
            admin: SocketAddr::new(args.admin_address, args.admin_port.number()),
            status_port: args.status_port,
            stats_port: args.stats_port,
            agent_port: args.agent_port,
            application_metrics: application_metrics()?,
            config_dirs: args.config_dir,
            mesh_config: args.mesh_config,
            identity: identity(args.identity_dir.as_deref()),
            drain: DrainTime { minimum: args.minimum_drain_duration, limit: args.drain_duration },
            idle_timeout: idle_timeout(std::env::var(IDLE_TIMEOUT).ok())?,
            memory_limit: overload::memory_limit()?,
            max_connections: overload::max_connections()?,
            heads: overload::heads()?,
            upgrades: upgrades()?,
            allocates_addresses: switch(DNS_AUTO_ALLOCATE, std::env::var(DNS_AUTO_ALLOCATE).ok(), false)?,
            scope_gateways_to_namespace: switch(SCOPE_GATEWAYS, std::env::var(SCOPE_GATEWAYS).ok(), false)?,
            narrowest_route_first: switch(NARROWEST_FIRST, std::env::var(NARROWEST_FIRST).ok(), false)?,
            mirrors_mark_host: !switch(PLAIN_MIRRORS, std::env::var(PLAIN_MIRRORS).ok(), true)?,
            default_retries_spare_others: switch(
                ONLY_IDEMPOTENT,
                std::env::var(ONLY_IDEMPOTENT).ok(),
                false,
            )?,
            name_servers: name_servers(kind)?,
            without_effect: args.without_effect.given(),
            namespace: args.namespace,
        })
    }
}

/// Two interfaces cannot share a port; said here, because the kernel's error would blame some other program.
fn require_distinct_ports(kind: ProxyKind, args: &ProxyArgs) -> Result<(), WrongUsage> {
    let mut ports = vec![
        ("--admin-port", args.admin_port),
        ("--status-port", args.status_port),
        ("--stats-port", args.stats_port),
        ("--agent-port", args.agent_port),
    ];
    if kind == ProxyKind::Sidecar {
        ports.extend([
            ("--outbound-port", args.outbound_port),
            ("--inbound-port", args.inbound_port),
            ("--dns-port", args.dns_port),
        ]);
    }
    for (index, (flag, port)) in ports.iter().enumerate() {
        if let Some((other, _)) = ports[..index].iter().find(|(_, earlier)| earlier == port) {
            let problem = format!("{other} and {flag} are both {port}: expected a port of its own for each");
            return Err(WrongUsage(problem));
        }
    }
    Ok(())
}

fn application_metrics() -> Result<Option<ApplicationMetrics>, WrongUsage> {
    match std::env::var(PROMETHEUS_ANNOTATIONS) {
        Ok(json) if !json.is_empty() => ApplicationMetrics::read(&json).map_err(WrongUsage),
        _ => Ok(None),
    }
}

/// Variable by which Istio's injection passes a pod's own limit.
const IDLE_TIMEOUT: &str = "ISTIO_META_IDLE_TIMEOUT";

fn idle_timeout(written: Option<String>) -> Result<Option<Duration>, WrongUsage> {
    let Some(text) = written.filter(|text| !text.is_empty()) else { return Ok(None) };
    let wrong = |expected| WrongUsage(format!("invalid {IDLE_TIMEOUT} `{text}`: {expected}"));
    cli::duration(&text).map(Some).map_err(wrong)
}

/// What requests may switch their connections to.
///
/// # Errors
/// The variable is no list of protocols, or names one that cannot be passed on.
pub(crate) fn upgrades() -> Result<Upgrades, WrongUsage> {
    match std::env::var(UPGRADES) {
        Ok(list) if !list.is_empty() => {
            list.parse().map_err(|wrong| WrongUsage(format!("invalid {UPGRADES} `{list}`: {wrong}")))
        }
        _ => Ok(Upgrades::default()),
    }
}

/// Variables by which Istio's control plane is told so.
const SCOPE_GATEWAYS: &str = "PILOT_SCOPE_GATEWAY_TO_NAMESPACE";
const PLAIN_MIRRORS: &str = "DISABLE_SHADOW_HOST_SUFFIX";
/// Ours.
const ONLY_IDEMPOTENT: &str = "RETRY_ONLY_IDEMPOTENT";
const NARROWEST_FIRST: &str = "POSTERN_LONGEST_PREFIX_FIRST";
const UPGRADES: &str = "POSTERN_UPGRADES";

/// The pod's name servers, where the interception rules send the workload's questions here.
fn name_servers(kind: ProxyKind) -> Result<Option<Servers>, WrongUsage> {
    if kind != ProxyKind::Sidecar || !switch(DNS_CAPTURE, std::env::var(DNS_CAPTURE).ok(), false)? {
        return Ok(None);
    }
    let resolv_conf = std::fs::read_to_string(RESOLV_CONF).map_err(|error| {
        WrongUsage(format!(
            "cannot read {RESOLV_CONF}: {error}; {DNS_CAPTURE} needs the pod's name servers: mount it, or unset the \
             variable"
        ))
    })?;
    let instead = std::env::var(DNS_SERVERS).ok();
    Servers::read(&resolv_conf, instead.as_deref()).map(Some).map_err(WrongUsage)
}

/// Variables by which Istio's `proxyMetadata` switches DNS on, for the rules and for the proxy.
const DNS_CAPTURE: &str = "ISTIO_META_DNS_CAPTURE";
const DNS_AUTO_ALLOCATE: &str = "ISTIO_META_DNS_AUTO_ALLOCATE";
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// A switch as Go reads one from the environment.
fn switch(name: &str, written: Option<String>, default: bool) -> Result<bool, WrongUsage> {
    match written.as_deref() {
        None | Some("") => Ok(default),
        Some("0" | "f" | "F" | "false" | "False" | "FALSE") => Ok(false),
        Some("1" | "t" | "T" | "true" | "True" | "TRUE") => Ok(true),
        Some(other) => Err(WrongUsage(format!("invalid {name} `{other}`: expected `true` or `false`"))),
    }
}

/// The workload's certificate in the directory given, else where Istio and SPIRE mount it.
fn identity(given: Option<&Path>) -> Option<WorkloadIdentity> {
    if let Some(given) = given {
        return Some(WorkloadIdentity::in_directory(&given.display().to_string()));
    }
    let mounted = IDENTITY_DIRECTORIES.map(WorkloadIdentity::in_directory);
    mounted.into_iter().find(|identity| Path::new(&identity.certificate).exists())
}

const IDENTITY_DIRECTORIES: [&str; 2] = ["/var/run/secrets/workload-spiffe-credentials", "/etc/certs"];

/// `ISTIO_META_CLUSTER_ID`, else what Istio calls the only cluster of a mesh.
fn cluster_id() -> String {
    let told = std::env::var("ISTIO_META_CLUSTER_ID").ok();
    told.filter(|id| !id.is_empty()).unwrap_or_else(|| "Kubernetes".to_owned())
}

fn host_name() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| "unknown".to_owned())
}

/// Cores this process may use: affinity and cgroup quota are taken into account.
fn usable_cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn addresses(args: &ProxyArgs) -> Result<Vec<IpAddr>, WrongUsage> {
    if !args.ip.is_empty() {
        return Ok(args.ip.clone());
    }
    match std::env::var(INSTANCE_IPS) {
        Ok(list) if !list.is_empty() => parse_addresses(&list),
        _ => Ok(interface_addresses()),
    }
}

const INSTANCE_IPS: &str = "INSTANCE_IPS";

fn parse_addresses(list: &str) -> Result<Vec<IpAddr>, WrongUsage> {
    let parse = |item: &str| {
        let wrong =
            || WrongUsage(format!("invalid address `{item}` in {INSTANCE_IPS}: expected an IP address"));
        item.trim().parse().map_err(|_| wrong())
    };
    list.split(',').map(parse).collect()
}

fn interface_addresses() -> Vec<IpAddr> {
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    interfaces
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip())))
        })
        .filter(|ip| !ip.is_loopback() && !matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_idle_timeout_is_a_duration_or_nothing() {
        let of = |text: &str| idle_timeout(Some(text.to_owned()));
        assert_eq!((idle_timeout(None), of("")), (Ok(None), Ok(None)));
        assert_eq!(of("1h30m"), Ok(Some(Duration::from_secs(5400))));
        assert!(of("soon").unwrap_err().0.starts_with("invalid ISTIO_META_IDLE_TIMEOUT `soon`: expected a"));
    }

    #[test]
    fn switches_are_on_off_or_wrong() {
        let of = |text: &str| switch("S", Some(text.to_owned()), false);
        assert_eq!(
            (switch("S", None, true), of(""), of("false"), of("true")),
            (Ok(true), Ok(false), Ok(false), Ok(true))
        );
        assert_eq!(of("yes").unwrap_err().0, "invalid S `yes`: expected `true` or `false`");
    }

    #[test]
    fn a_bad_address_in_the_environment_is_named() {
        assert_eq!(parse_addresses("10.0.0.1, fd00::1").unwrap().len(), 2);
        assert!(parse_addresses("10.0.0.1,x").unwrap_err().0.contains("`x` in INSTANCE_IPS"));
    }
}
