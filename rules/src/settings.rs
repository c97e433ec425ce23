//! Interception settings: the text of flags and variables as types, every problem collected at once.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};

use crate::flags::{self, Flag, RawSettings};
use crate::invalid::{Invalid, Origin, Problem};
use crate::ports::{self, Port, PortRange};

pub use go::{duration, switch};
pub use interface::Interface;
pub use owner::{Owner, OwnerGroups};
pub use value::*;

mod go;
mod interface;
mod owner;
mod value;

/// What to capture. Everything the rules depend on, but for what is learned from the machine ([`crate::build::Facts`]).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// Captured outbound connections go to this port of the proxy (`-p`).
    pub outbound_port: Port,
    /// Captured inbound connections go to this port of the proxy (`-z`).
    pub inbound_port: Port,
    /// Inbound connections to this port are never redirected (`-e`).
    pub tunnel_port: Port,
    /// Users whose traffic is the proxy's own (`-u`); never empty once [`Settings::fill_owners`] ran.
    pub proxy_uids: Vec<Owner>,
    /// Groups whose traffic is the proxy's own (`-g`); never empty once [`Settings::fill_owners`] ran.
    pub proxy_gids: Vec<Owner>,
    /// How inbound connections are captured (`-m`).
    pub mode: InterceptionMode,
    /// Inbound ports to capture (`-b`).
    pub inbound_ports: InboundPorts,
    /// Inbound ports left alone (`-d`); only used while all ports are captured.
    pub inbound_exclude_ports: Vec<PortRange>,
    /// Interfaces without capture (`-c`).
    pub exclude_interfaces: Vec<Interface>,
    /// Outbound destinations to capture (`-i`).
    pub outbound_ranges: OutboundRanges,
    /// Outbound destinations left alone (`-x`).
    pub outbound_exclude_ranges: Vec<IpNet>,
    /// Outbound ports captured whatever the address (`-q`).
    pub outbound_ports: Vec<PortRange>,
    /// Outbound ports left alone, TCP and UDP (`-o`).
    pub outbound_exclude_ports: Vec<PortRange>,
    /// Interfaces whose incoming traffic is a virtual machine's outbound traffic (`-k`).
    pub kube_virt_interfaces: Vec<Interface>,
    /// The mark of packets captured by TPROXY (`-t`).
    pub tproxy_mark: u32,
    /// The routing table of packets captured by TPROXY (`-r`).
    pub tproxy_route_table: u32,
    /// Which DNS queries to capture (`--redirect-dns`, `--capture-all-dns`).
    pub dns: DnsCapture,
    /// Drop packets that belong to no connection (`--drop-invalid`).
    pub drop_invalid: bool,
    /// IPv4 destinations that count as loopback (`ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR`).
    pub loopback: Ipv4Net,
    /// Groups whose outbound traffic is captured (`ISTIO_OUTBOUND_OWNER_GROUPS`).
    pub owner_groups: OwnerGroups,
    /// Whether IPv6 rules are wanted (`--ipv6`, `--dual-stack`).
    pub ipv6: Ipv6Choice,
}

/// Which DNS queries are captured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DnsCapture {
    /// None.
    Off,
    /// Those to the servers of resolv.conf.
    Listed,
    /// Those to any server.
    All,
}

/// How to go about it: everything on the command line that the rules themselves do not depend on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Options {
    /// Print the rules, change nothing.
    pub dry_run: bool,
    /// A file that receives the text of the dry run as well.
    pub dry_run_file: Option<PathBuf>,
    /// Remove what was installed.
    pub cleanup: bool,
    /// Write even when nothing differs.
    pub force_apply: bool,
    /// Replace rules of ours that differ, rather than fail.
    pub reconcile: bool,
    /// Change no rules and no routes.
    pub skip_rule_apply: bool,
    /// Prove afterwards that interception works.
    pub run_validation: bool,
    /// The port the validator dials.
    pub probe_port: Port,
    /// How long the validator tries.
    pub probe_timeout: Duration,
    /// The network namespace to work in.
    pub network_namespace: Option<PathBuf>,
    /// Called by a CNI plugin.
    pub cni_mode: bool,
    /// How long to wait for the lock of iptables.
    pub lock_wait: Duration,
    /// The backend of iptables, when the user chose one.
    pub forced_backend: Option<ForcedBackend>,
    /// Use nftables directly.
    pub native_nftables: bool,
    /// The DNS servers, when given; resolv.conf is not read then.
    pub dns_servers: Option<Vec<IpAddr>>,
    /// Where the DNS servers are listed.
    pub resolv_conf: PathBuf,
    /// The user whose id is the default of `-u`.
    pub envoy_user: String,
}

impl Settings {
    /// Reads the settings and options out of what was given.
    ///
    /// # Errors
    /// Every value that does not read, in the order of the flags; never just the first one.
    pub fn read(raw: &RawSettings) -> Result<(Self, Options), Vec<Problem>> {
        let mut reader = Reader { raw, problems: Vec::new() };
        let settings = reader.settings();
        let options = reader.options();
        if reader.problems.is_empty() { Ok((settings, options)) } else { Err(reader.problems) }
    }

    /// Fills an absent `-u` with `default_uid`, and an absent `-g` with the value of `-u`.
    pub fn fill_owners(&mut self, default_uid: u32) {
        if self.proxy_uids.is_empty() {
            self.proxy_uids = vec![Owner::Id(default_uid)];
        }
        if self.proxy_gids.is_empty() {
            self.proxy_gids = self.proxy_uids.clone();
        }
    }

    /// Replaces every user and group name by its number.
    ///
    /// # Errors
    /// Every name that `users` or `groups` does not know.
    pub fn resolve_owners(
        &mut self,
        users: impl Fn(&str) -> Option<u32>,
        groups: impl Fn(&str) -> Option<u32>,
    ) -> Result<(), Vec<Problem>> {
        let mut problems = resolve(&mut self.proxy_uids, users, "user", &flags::PROXY_UID);
        problems.extend(resolve(&mut self.proxy_gids, &groups, "group", &flags::PROXY_GID));
        let (listed, flag) = match &mut self.owner_groups {
            OwnerGroups::AllBut(listed) => (listed, &flags::OWNER_GROUPS_EXCLUDE),
            OwnerGroups::Only(listed) => (listed, &flags::OWNER_GROUPS),
        };
        problems.extend(resolve(listed, &groups, "group", flag));
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    /// Whether a loopback address is among the destinations to capture. Then the rules that let the application's own
    /// loopback traffic pass are left out, in both families.
    pub fn captures_loopback(&self) -> bool {
        matches!(&self.outbound_ranges, OutboundRanges::Listed(ranges)
            if ranges.iter().any(|range| range.addr().is_loopback()))
    }
}

fn resolve(
    owners: &mut [Owner],
    look_up: impl Fn(&str) -> Option<u32>,
    kind: &'static str,
    flag: &Flag,
) -> Vec<Problem> {
    let database = if kind == "user" { "/etc/passwd" } else { "/etc/group" };
    let mut problems = Vec::new();
    for owner in owners {
        let Owner::Name(name) = owner else { continue };
        match look_up(name) {
            Some(id) => *owner = Owner::Id(id),
            None => problems.push(Problem::UnknownOwner {
                kind,
                name: name.clone(),
                origin: origin_of(flag),
                database,
            }),
        }
    }
    problems
}

fn origin_of(flag: &Flag) -> Origin {
    match flag.variables.first() {
        Some(name) if flag.long.is_empty() => Origin::Variable(name),
        _ => Origin::Flag(flag.long),
    }
}

/// At most so many groups fit in the one rule they become.
const MOST_OWNER_GROUPS: usize = 64;

struct Reader<'g> {
    raw: &'g RawSettings,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn settings(&mut self) -> Settings {
        Settings {
            outbound_port: self.one(&flags::OUTBOUND_PORT, Port::OUTBOUND, str::parse),
            inbound_port: self.one(&flags::INBOUND_PORT, Port::INBOUND, str::parse),
            tunnel_port: self.one(&flags::TUNNEL_PORT, Port::TUNNEL, str::parse),
            proxy_uids: self.list(&flags::PROXY_UID, str::parse),
            proxy_gids: self.list(&flags::PROXY_GID, str::parse),
            mode: self.one(&flags::INBOUND_MODE, InterceptionMode::Redirect, str::parse),
            inbound_ports: self.one(&flags::INBOUND_PORTS, InboundPorts::Listed(Vec::new()), str::parse),
            inbound_exclude_ports: self.list(&flags::INBOUND_EXCLUDE_PORTS, str::parse),
            exclude_interfaces: self.list(&flags::EXCLUDE_INTERFACES, str::parse),
            outbound_ranges: self.one(&flags::OUTBOUND_CIDRS, OutboundRanges::Listed(Vec::new()), str::parse),
            outbound_exclude_ranges: self.list(&flags::OUTBOUND_EXCLUDE_CIDRS, cidr),
            outbound_ports: self.list(&flags::OUTBOUND_PORTS, str::parse),
            outbound_exclude_ports: self.list(&flags::OUTBOUND_EXCLUDE_PORTS, str::parse),
            kube_virt_interfaces: self.list(&flags::KUBE_VIRT_INTERFACES, str::parse),
            tproxy_mark: self.one(&flags::TPROXY_MARK, ports::TPROXY_MARK, mark),
            tproxy_route_table: self.one(&flags::TPROXY_ROUTE_TABLE, ports::TPROXY_ROUTE_TABLE, route_table),
            dns: self.dns_capture(),
            drop_invalid: self.switch(&flags::DROP_INVALID, false),
            loopback: self.one(&flags::LOOPBACK_CIDR, default_loopback(), loopback_prefix),
            owner_groups: self.owner_groups(),
            ipv6: self.ipv6(),
        }
    }

    fn options(&mut self) -> Options {
        Options {
            dry_run: self.switch(&flags::DRY_RUN, false),
            dry_run_file: self.path(&flags::DRY_RUN_FILE),
            cleanup: self.switch(&flags::CLEANUP, false) | self.switch(&flags::CLEANUP_ONLY, false),
            force_apply: self.switch(&flags::FORCE_APPLY, false),
            reconcile: self.switch(&flags::RECONCILE, true),
            skip_rule_apply: self.switch(&flags::SKIP_RULE_APPLY, false),
            run_validation: self.switch(&flags::RUN_VALIDATION, false),
            probe_port: self.one(&flags::PROBE_PORT, Port::PROBE, str::parse),
            probe_timeout: self.one(&flags::PROBE_TIMEOUT, Duration::from_secs(5), duration),
            network_namespace: self.path(&flags::NETWORK_NAMESPACE),
            cni_mode: self.switch(&flags::CNI_MODE, false),
            lock_wait: self.one(&flags::LOCK_WAIT, Duration::from_secs(30), duration),
            forced_backend: self.one(&flags::FORCE_IPTABLES_BINARY, None, forced_backend),
            native_nftables: self.switch(&flags::NATIVE_NFTABLES, false),
            dns_servers: self.raw.has(&flags::DNS_SERVERS).then(|| self.list(&flags::DNS_SERVERS, address)),
            resolv_conf: self.path(&flags::RESOLV_CONF).unwrap_or_else(|| flags::RESOLV_CONF.default.into()),
            envoy_user: self.text(&flags::ENVOY_USER).unwrap_or(flags::ENVOY_USER.default).to_owned(),
        }
    }

    fn dns_capture(&mut self) -> DnsCapture {
        let redirect = self.switch(&flags::REDIRECT_DNS, false);
        let all = self.switch(&flags::CAPTURE_ALL_DNS, false);
        match (redirect, all) {
            (false, _) => DnsCapture::Off,
            (true, false) => DnsCapture::Listed,
            (true, true) => DnsCapture::All,
        }
    }

    /// `--dual-stack` asks for what `auto` finds out by itself, and so only lifts `first`.
    fn ipv6(&mut self) -> Ipv6Choice {
        let dual_stack = self.switch(&flags::DUAL_STACK, false);
        let choice = self.one(&flags::IPV6, Ipv6Choice::Auto, str::parse);
        if dual_stack && choice == Ipv6Choice::First { Ipv6Choice::Auto } else { choice }
    }

    fn owner_groups(&mut self) -> OwnerGroups {
        match self.raw.of(&flags::OWNER_GROUPS) {
            Some(given) if given.text.trim() != "*" => {
                let listed = self.list(&flags::OWNER_GROUPS, str::parse);
                self.limit(&flags::OWNER_GROUPS, listed.len(), MOST_OWNER_GROUPS);
                OwnerGroups::Only(listed)
            }
            _ => OwnerGroups::AllBut(self.list(&flags::OWNER_GROUPS_EXCLUDE, str::parse)),
        }
    }

    fn limit(&mut self, flag: &Flag, count: usize, limit: usize) {
        if count > limit {
            self.problems.push(Problem::TooMany { origin: origin_of(flag), count, limit });
        }
    }

    fn switch(&mut self, flag: &Flag, default: bool) -> bool {
        self.one(flag, default, switch)
    }

    fn text(&self, flag: &Flag) -> Option<&str> {
        self.raw.of(flag).map(|given| given.text.as_str()).filter(|text| !text.is_empty())
    }

    fn path(&self, flag: &Flag) -> Option<PathBuf> {
        self.text(flag).map(PathBuf::from)
    }

    fn one<T>(&mut self, flag: &Flag, default: T, read: impl Fn(&str) -> Result<T, Invalid>) -> T {
        let Some(given) = self.raw.of(flag) else { return default };
        read(&given.text).unwrap_or_else(|invalid| {
            self.problems.push(Problem::Invalid { origin: given.origin.clone(), invalid });
            default
        })
    }

    fn list<T>(&mut self, flag: &Flag, read: impl Fn(&str) -> Result<T, Invalid>) -> Vec<T> {
        let Some(given) = self.raw.of(flag) else { return Vec::new() };
        let mut list = Vec::new();
        for item in items(&given.text) {
            match read(item) {
                Ok(value) => list.push(value),
                Err(invalid) => {
                    self.problems.push(Problem::Invalid { origin: given.origin.clone(), invalid });
                }
            }
        }
        list
    }
}

fn address(text: &str) -> Result<IpAddr, Invalid> {
    text.parse().map_err(|_| Invalid::new("address", text, "an IP address, for example 10.96.0.10"))
}

fn default_loopback() -> Ipv4Net {
    Ipv4Net::from(std::net::Ipv4Addr::LOCALHOST)
}

#[cfg(test)]
mod tests;
