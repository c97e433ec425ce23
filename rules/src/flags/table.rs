//! The table itself: names, letters, variables and defaults are those of istio-iptables.

use super::{Flag, FlagKind};
use FlagKind::{Ignored, List, Switch, Value};

const fn flag(long: &'static str, kind: FlagKind, help: &'static str) -> Flag {
    Flag { long, short: None, variables: &[], kind, default: "", help }
}

const fn variable(
    names: &'static [&'static str],
    kind: FlagKind,
    default: &'static str,
    help: &'static str,
) -> Flag {
    Flag { variables: names, default, ..flag("", kind, help) }
}

/// `-p`: where captured outbound connections go.
pub const OUTBOUND_PORT: Flag = Flag {
    short: Some('p'),
    default: "15001",
    ..flag("envoy-port", Value("PORT"), "port of the proxy for captured outbound connections")
};
/// `-z`: where captured inbound connections go.
pub const INBOUND_PORT: Flag = Flag {
    short: Some('z'),
    variables: &["INBOUND_CAPTURE_PORT"],
    default: "15006",
    ..flag("inbound-capture-port", Value("PORT"), "port of the proxy for captured inbound connections")
};
/// `-e`: the inbound tunnel.
pub const TUNNEL_PORT: Flag = Flag {
    short: Some('e'),
    variables: &["INBOUND_TUNNEL_PORT"],
    default: "15008",
    ..flag("inbound-tunnel-port", Value("PORT"), "port of the inbound tunnel, never redirected")
};
/// `-u`: users whose traffic is the proxy's own.
pub const PROXY_UID: Flag = Flag {
    short: Some('u'),
    variables: &["PROXY_UID"],
    default: "the user $ENVOY_USER, else 1337",
    ..flag("proxy-uid", List("USERS"), "users whose traffic is the proxy's own")
};
/// `-g`: groups whose traffic is the proxy's own.
pub const PROXY_GID: Flag = Flag {
    short: Some('g'),
    variables: &["PROXY_GID"],
    default: "the value of -u",
    ..flag("proxy-gid", List("GROUPS"), "groups whose traffic is the proxy's own")
};
/// `-m`: how inbound connections are captured.
pub const INBOUND_MODE: Flag = Flag {
    short: Some('m'),
    variables: &["ISTIO_INBOUND_INTERCEPTION_MODE"],
    default: "REDIRECT",
    ..flag("istio-inbound-interception-mode", Value("MODE"), "how inbound is captured: REDIRECT or TPROXY")
};
/// `-b`: inbound ports to capture.
pub const INBOUND_PORTS: Flag = Flag {
    short: Some('b'),
    variables: &["ISTIO_INBOUND_PORTS"],
    ..flag("istio-inbound-ports", List("PORTS"), "inbound ports to capture, or `*`; empty captures none")
};
/// `-d`: inbound ports left alone.
pub const INBOUND_EXCLUDE_PORTS: Flag = Flag {
    short: Some('d'),
    variables: &["ISTIO_LOCAL_EXCLUDE_PORTS"],
    ..flag("istio-local-exclude-ports", List("PORTS"), "inbound ports left alone; only used with -b '*'")
};
/// `-c`: interfaces without capture.
pub const EXCLUDE_INTERFACES: Flag = Flag {
    short: Some('c'),
    variables: &["ISTIO_EXCLUDE_INTERFACES"],
    ..flag("istio-exclude-interfaces", List("INTERFACES"), "interfaces without capture, both directions")
};
/// `-i`: outbound destinations to capture.
pub const OUTBOUND_CIDRS: Flag = Flag {
    short: Some('i'),
    variables: &["ISTIO_SERVICE_CIDR"],
    ..flag(
        "istio-service-cidr",
        List("CIDRS"),
        "outbound destinations to capture, or `*`; empty captures none",
    )
};
/// `-x`: outbound destinations left alone.
pub const OUTBOUND_EXCLUDE_CIDRS: Flag = Flag {
    short: Some('x'),
    variables: &["ISTIO_SERVICE_EXCLUDE_CIDR"],
    ..flag("istio-service-exclude-cidr", List("CIDRS"), "outbound destinations left alone")
};
/// `-q`: outbound ports captured whatever the address.
pub const OUTBOUND_PORTS: Flag = Flag {
    short: Some('q'),
    variables: &["ISTIO_OUTBOUND_PORTS"],
    ..flag("istio-outbound-ports", List("PORTS"), "outbound ports captured whatever the address")
};
/// `-o`: outbound ports left alone.
pub const OUTBOUND_EXCLUDE_PORTS: Flag = Flag {
    short: Some('o'),
    variables: &["ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE"],
    ..flag("istio-local-outbound-ports-exclude", List("PORTS"), "outbound ports left alone, TCP and UDP")
};
/// `-k`: interfaces whose incoming traffic is outbound traffic of a virtual machine.
pub const KUBE_VIRT_INTERFACES: Flag = Flag {
    short: Some('k'),
    variables: &["KUBE_VIRT_INTERFACES"],
    ..flag(
        "kube-virt-interfaces",
        List("INTERFACES"),
        "what comes in here is outbound traffic of a virtual machine or nested container",
    )
};
/// `-t`: the mark of packets captured by TPROXY.
pub const TPROXY_MARK: Flag = Flag {
    short: Some('t'),
    variables: &["ISTIO_INBOUND_TPROXY_MARK"],
    default: "1337",
    ..flag("istio-inbound-tproxy-mark", Value("MARK"), "mark of packets captured by TPROXY")
};
/// `-r`: the routing table of packets captured by TPROXY.
pub const TPROXY_ROUTE_TABLE: Flag = Flag {
    short: Some('r'),
    variables: &["ISTIO_INBOUND_TPROXY_ROUTE_TABLE"],
    default: "133",
    ..flag("istio-inbound-tproxy-route-table", Value("TABLE"), "routing table of packets captured by TPROXY")
};
/// `-n`: print, change nothing.
pub const DRY_RUN: Flag = Flag {
    short: Some('n'),
    variables: &["DRY_RUN"],
    ..flag("dry-run", Switch, "print the rules, change nothing; needs no root")
};
/// The destination port of the validator's probes.
pub const PROBE_PORT: Flag = Flag {
    variables: &["IPTABLES_PROBE_PORT"],
    default: "15002",
    ..flag("iptables-probe-port", Value("PORT"), "port the validator dials")
};
/// How long the validator tries.
pub const PROBE_TIMEOUT: Flag = Flag {
    variables: &["PROBE_TIMEOUT"],
    default: "5s",
    ..flag("probe-timeout", Value("DURATION"), "how long the validator tries")
};
/// No rules, no routes.
pub const SKIP_RULE_APPLY: Flag = Flag {
    variables: &["SKIP_RULE_APPLY"],
    ..flag("skip-rule-apply", Switch, "change no rules and no routes")
};
/// Validate after applying.
pub const RUN_VALIDATION: Flag = Flag {
    variables: &["RUN_VALIDATION"],
    ..flag("run-validation", Switch, "prove with real connections that interception works; exit 126 if not")
};
/// Capture DNS.
pub const REDIRECT_DNS: Flag = Flag {
    variables: &["REDIRECT_DNS", "ISTIO_META_DNS_CAPTURE"],
    ..flag("redirect-dns", Switch, "capture DNS queries to the servers of resolv.conf")
};
/// Capture DNS to any server.
pub const CAPTURE_ALL_DNS: Flag = Flag {
    variables: &["CAPTURE_ALL_DNS"],
    ..flag("capture-all-dns", Switch, "with --redirect-dns: capture queries to any server")
};
/// Drop packets that belong to no connection.
pub const DROP_INVALID: Flag = Flag {
    variables: &["DROP_INVALID", "INVALID_DROP"],
    ..flag("drop-invalid", Switch, "drop packets that connection tracking calls INVALID")
};
/// Both address families.
pub const DUAL_STACK: Flag = Flag {
    variables: &["DUAL_STACK", "ISTIO_DUAL_STACK"],
    ..flag("dual-stack", Switch, "the pod has both address families: implies --ipv6 auto")
};
/// The network namespace to work in.
pub const NETWORK_NAMESPACE: Flag = Flag {
    variables: &["NETWORK_NAMESPACE"],
    ..flag("network-namespace", Value("PATH"), "work in this network namespace instead of the current one")
};
/// Host file system, pod network.
pub const CNI_MODE: Flag = Flag {
    variables: &["CNI_MODE"],
    ..flag("cni-mode", Switch, "called by a CNI plugin: host file system, pod network")
};
/// What to do about rules that differ.
pub const RECONCILE: Flag = Flag {
    variables: &["RECONCILE"],
    default: "true",
    ..flag("reconcile", Switch, "replace rules of ours that differ; =false prints the difference and fails")
};
/// Remove what was installed.
pub const CLEANUP: Flag = flag("cleanup", Switch, "remove exactly what was installed; rules of others stay");
/// Istio's name of [`CLEANUP`].
pub const CLEANUP_ONLY: Flag =
    Flag { variables: &["CLEANUP_ONLY"], ..flag("cleanup-only", Switch, "the same as --cleanup") };
/// Write even when nothing differs.
pub const FORCE_APPLY: Flag = Flag {
    variables: &["FORCE_APPLY"],
    ..flag("force-apply", Switch, "write the rules even when the kernel already holds them")
};
/// nftables without iptables.
pub const NATIVE_NFTABLES: Flag = Flag {
    variables: &["NATIVE_NFTABLES"],
    ..flag("native-nftables", Switch, "use nftables directly instead of iptables")
};
/// No backend detection.
pub const FORCE_IPTABLES_BINARY: Flag = Flag {
    variables: &["FORCE_IPTABLES_BINARY"],
    ..flag(
        "force-iptables-binary",
        Value("BACKEND"),
        "`legacy` or `nft` instead of choosing by what is there",
    )
};
/// Whether IPv6 rules are wanted.
pub const IPV6: Flag = Flag {
    variables: &["POSTERN_IPV6"],
    default: "auto",
    ..flag("ipv6", Value("CHOICE"), "IPv6 rules: `auto`, `on`, `off`, or `first` (as istio-iptables decides)")
};
/// The DNS servers, instead of those of resolv.conf.
pub const DNS_SERVERS: Flag = Flag {
    variables: &["POSTERN_DNS_SERVERS"],
    ..flag("dns-servers", List("ADDRESSES"), "DNS servers to capture instead of those of resolv.conf")
};
/// Where the DNS servers are listed.
pub const RESOLV_CONF: Flag = Flag {
    default: "/etc/resolv.conf",
    ..flag("resolv-conf", Value("FILE"), "where the DNS servers are listed")
};
/// How long to wait for the lock of iptables.
pub const LOCK_WAIT: Flag = Flag {
    default: "30s",
    ..flag("lock-wait", Value("DURATION"), "how long to wait for the lock of iptables")
};
/// JSON logs, as the injected container asks for them.
pub const LOG_AS_JSON: Flag = flag("log_as_json", Switch, "the same as --log-format json");

/// Destinations that count as loopback.
pub const LOOPBACK_CIDR: Flag = variable(
    &["ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR"],
    Value("CIDR"),
    "127.0.0.1/32",
    "IPv4 destinations that count as loopback",
);
/// Groups whose outbound traffic is captured.
pub const OWNER_GROUPS: Flag = variable(
    &["ISTIO_OUTBOUND_OWNER_GROUPS"],
    List("GROUPS"),
    "*",
    "groups whose outbound traffic is captured, or `*`",
);
/// Groups whose outbound traffic is left alone.
pub const OWNER_GROUPS_EXCLUDE: Flag = variable(
    &["ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE"],
    List("GROUPS"),
    "",
    "groups whose outbound traffic is left alone; only used while the former is `*`",
);
/// The user whose id is the default of `-u`.
pub const ENVOY_USER: Flag =
    variable(&["ENVOY_USER"], Value("NAME"), "istio-proxy", "user whose id is the default of -u");
/// A file that receives the dry-run text as well.
pub const DRY_RUN_FILE: Flag =
    variable(&["DRY_RUN_FILE_PATH"], Value("FILE"), "", "file that receives the text of --dry-run as well");

/// Every setting of istio-iptables, and ours beside them, in the order of `--help`.
pub const FLAGS: &[&Flag] = &[
    &OUTBOUND_PORT,
    &INBOUND_PORT,
    &TUNNEL_PORT,
    &PROXY_UID,
    &PROXY_GID,
    &INBOUND_MODE,
    &INBOUND_PORTS,
    &INBOUND_EXCLUDE_PORTS,
    &OUTBOUND_CIDRS,
    &OUTBOUND_EXCLUDE_CIDRS,
    &OUTBOUND_PORTS,
    &OUTBOUND_EXCLUDE_PORTS,
    &EXCLUDE_INTERFACES,
    &KUBE_VIRT_INTERFACES,
    &TPROXY_MARK,
    &TPROXY_ROUTE_TABLE,
    &REDIRECT_DNS,
    &CAPTURE_ALL_DNS,
    &DNS_SERVERS,
    &RESOLV_CONF,
    &DROP_INVALID,
    &IPV6,
    &DUAL_STACK,
    &DRY_RUN,
    &CLEANUP,
    &CLEANUP_ONLY,
    &FORCE_APPLY,
    &RECONCILE,
    &SKIP_RULE_APPLY,
    &RUN_VALIDATION,
    &PROBE_PORT,
    &PROBE_TIMEOUT,
    &NETWORK_NAMESPACE,
    &CNI_MODE,
    &LOCK_WAIT,
    &FORCE_IPTABLES_BINARY,
    &NATIVE_NFTABLES,
    &LOG_AS_JSON,
    &flag("log_output_level", Ignored, "accepted, without effect"),
    &flag("log_target", Ignored, "accepted, without effect"),
    &flag("log_caller", Ignored, "accepted, without effect"),
    &flag("log_stacktrace_level", Ignored, "accepted, without effect"),
    &flag("vklog", Ignored, "accepted, without effect"),
    &LOOPBACK_CIDR,
    &OWNER_GROUPS,
    &OWNER_GROUPS_EXCLUDE,
    &ENVOY_USER,
    &DRY_RUN_FILE,
];
