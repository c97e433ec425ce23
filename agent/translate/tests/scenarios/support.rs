//! The scenarios, proxies from one line, and a compact text for snapshots.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use resources::{
    CertificateFiles, DefaultTrafficPolicy, InboundTrafficPolicy, Labels, OutboundTrafficPolicy, ResourceSet,
};
use snapshot::{
    Binding, Certificate, ClientCertificates, FilterChain, NetworkFilter, PeerRules, Snapshot, TlsContext,
    TlsParameters,
};
use translate::{Credentials, MeshOptions, Proxy, ProxyKind, WorkloadIdentity};

use crate::{
    cluster_text::cluster,
    route_text::{route, targets},
};

/// The inputs of all scenarios, by name.
pub(crate) fn inputs() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut inputs: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|ending| ending == "yaml")).collect();
    inputs.sort();
    inputs
}

/// The texts of all scenarios.
pub(crate) fn scenarios() -> Vec<String> {
    inputs().iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}

/// Reads `# sidecar prod labels=app=web,v=1 ips=10.0.0.1 registry-only`.
pub(crate) fn proxy(line: &str) -> Proxy {
    let mut words = line.trim_start_matches('#').split_whitespace();
    let kind = match words.next() {
        Some("sidecar") => ProxyKind::Sidecar,
        Some("router") => ProxyKind::Router,
        other => panic!("the first line must say `# sidecar …` or `# router …`, not {other:?}"),
    };
    let mut proxy = Proxy::new(kind, words.next().unwrap());
    for word in words {
        match word.split_once('=') {
            Some(("labels", labels)) => proxy.labels = labels.split(',').map(label).collect::<Labels>(),
            Some(("ips", ips)) => proxy.ips = ips.split(',').map(|ip| ip.parse().unwrap()).collect(),
            Some(("node", node)) => proxy.node = Some(node.to_owned()),
            Some(("tcp-idle", seconds)) => {
                proxy.mesh.tcp_idle_timeout = Some(Duration::from_secs(seconds.parse().unwrap()));
            }
            None if word == "not-captured" => proxy.ports = None,
            None if word == "own-ports" => {
                let own = [("127.0.0.1:15000", "--admin-port"), ("0.0.0.0:15020", "--agent-port")];
                proxy.own_ports = own.map(|(at, flag)| (at.parse().unwrap(), flag)).to_vec();
            }
            None if word == "identity" => {
                proxy.identity = Some(WorkloadIdentity::in_directory("/identity"));
            }
            None if word == "registry-only" => {
                proxy.mesh.outbound_traffic_policy = OutboundTrafficPolicy::RegistryOnly;
            }
            None if word == "default-traffic-policy" => {
                proxy.mesh.default_traffic_policy = default_traffic_policy();
            }
            None if word == "mesh-defaults" => proxy.mesh = mesh_defaults(proxy.mesh),
            None if word == "any-dynamic-dns" => {
                proxy.mesh.outbound_traffic_policy = OutboundTrafficPolicy::AllowAnyDynamicDns;
            }
            None if word == "any-dynamic-dns-tls" => proxy.mesh = tls_to_any_name(proxy.mesh),
            None if word == "inbound-localhost" => {
                proxy.mesh.inbound_traffic_policy = InboundTrafficPolicy::Localhost;
            }
            _ => panic!("unknown word `{word}`"),
        }
    }
    proxy
}

/// What a mesh may say for resources that say nothing.
fn mesh_defaults(mesh: MeshOptions) -> MeshOptions {
    let text = "localityLbSetting: {distribute: [{from: eu/*, to: {eu/a: 70, us/a: 30}}]}\nh2UpgradePolicy: UPGRADE\n\
                tcpKeepalive: {time: 300s, probes: 3}\ndefaultServiceExportTo: ['.']\n\
                defaultVirtualServiceExportTo: ['.']\ndefaultDestinationRuleExportTo: ['.', other]\n";
    let reading = resources::MeshConfig::read("mesh.yaml", text);
    assert!(reading.findings.is_empty(), "{:?}", reading.findings);
    let written = reading.whole().unwrap();
    MeshOptions {
        defaults: written.defaults.clone(),
        default_traffic_policy: written.default_traffic_policy.clone(),
        ..mesh
    }
}

/// A mesh that speaks TLS to hosts that nobody knows, with a certificate that is there and one that is not.
fn tls_to_any_name(mesh: MeshOptions) -> MeshOptions {
    let text = "outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS, tls: {mode: MUTUAL, sni: out.com, \
                clientCertificate: /cert.pem, privateKey: /key.pem, caCertificates: /missing.pem}}";
    let written = resources::MeshConfig::read("mesh.yaml", text).whole().unwrap().clone();
    MeshOptions {
        outbound_traffic_policy: written.outbound_traffic_policy,
        outbound_tls: written.outbound_tls,
        ..mesh
    }
}

/// One of everything that can be told apart in a cluster.
fn default_traffic_policy() -> DefaultTrafficPolicy {
    let text = "defaultTrafficPolicy: {connectionPool: {tcp: {connectTimeout: 3s, maxConnections: 100}, \
                http: {http2MaxRequests: 50}}, outlierDetection: {consecutive5xxErrors: 7, interval: 2s}}";
    resources::MeshConfig::read("mesh.yaml", text).whole().unwrap().default_traffic_policy.clone()
}

fn label(text: &str) -> (String, String) {
    let (key, value) = text.split_once('=').unwrap();
    (key.to_owned(), value.to_owned())
}

/// Every file that is wanted, with a certificate and a key in it, but for those with `missing` in their names.
pub(crate) fn certificate_files(set: &ResourceSet, proxy: &Proxy) -> CertificateFiles {
    let pem = |label| format!("-----BEGIN {label}-----\nAQID\n-----END {label}-----\n");
    let mut files = CertificateFiles::default();
    for path in translate::certificate_paths(set, proxy) {
        let missing = path.contains("missing");
        let contents = (pem("CERTIFICATE") + &pem("PRIVATE KEY")).into_bytes();
        files.insert(path, if missing { Err("No such file".to_owned()) } else { Ok(contents) });
    }
    files
}

/// Takes every certificate for good, but for one of the bytes `bad`.
pub(crate) fn credentials(files: &CertificateFiles) -> Credentials<'_> {
    fn check(certificate: &Certificate) -> Result<(), String> {
        let is_bad = certificate.chain()[0].as_ref() == b"bad";
        if is_bad { Err("key does not match certificate".to_owned()) } else { Ok(()) }
    }
    Credentials { files: Some(files), check_certificate: check, ..Credentials::UNSEEN }
}

/// Every listener, route table and cluster, one fact per line.
pub(crate) fn text(snapshot: &Snapshot) -> String {
    let mut out = String::new();
    for listener in snapshot.listeners() {
        let binding = match &listener.binding {
            Binding::Socket(address) => format!("socket {address}"),
            Binding::Dialled(address) => format!("dialled {address}"),
            Binding::Captured(address) => format!("captured {address}"),
            Binding::Unix(path) => format!("unix {path}"),
        };
        writeln!(out, "listener {} {:?} {binding}", listener.name, listener.direction).unwrap();
        for filter_chain in &listener.filter_chains {
            writeln!(out, "  chain {}", chain(snapshot, filter_chain)).unwrap();
        }
        if let Some(filter_chain) = &listener.default_filter_chain {
            writeln!(out, "  default {}", chain(snapshot, filter_chain)).unwrap();
        }
    }
    for table in snapshot.route_configs() {
        writeln!(out, "routes {}", table.name()).unwrap();
        for (host, port) in table.https_ports().servers() {
            writeln!(out, "  https {host} at {port}").unwrap();
        }
        for host in table.virtual_hosts() {
            let domains: Vec<_> = host.domains.iter().map(ToString::to_string).collect();
            let redirected = match (host.require_tls, host.tls_exempt.join(",")) {
                (false, _) => String::new(),
                (true, exempt) if exempt.is_empty() => " https-only".to_owned(),
                (true, exempt) => format!(" https-only-but:{exempt}"),
            };
            writeln!(out, "  host {} [{}]{redirected}", host.name, domains.join(" ")).unwrap();
            host.routes.iter().for_each(|r| writeln!(out, "    {}", route(snapshot, r)).unwrap());
        }
    }
    snapshot.tls_contexts().iter().for_each(|c| writeln!(out, "tls {}", tls_context(c)).unwrap());
    snapshot.clusters().iter().for_each(|c| writeln!(out, "cluster {}", cluster(c)).unwrap());
    out
}

fn chain(snapshot: &Snapshot, chain: &FilterChain) -> String {
    let matches = &chain.matches;
    let mut text = chain.name.clone();
    if let Some(port) = matches.destination_port {
        write!(text, " port={port}").unwrap();
    }
    for network in &matches.destination_subnets {
        write!(text, " to={network}").unwrap();
    }
    for name in &matches.server_names {
        write!(text, " sni={name}").unwrap();
    }
    if let Some(transport) = matches.transport {
        write!(text, " transport={transport:?}").unwrap();
    }
    if let Some(application) = matches.application {
        write!(text, " application={application:?}").unwrap();
    }
    if let Some(tls) = chain.tls {
        write!(text, " tls={}", snapshot.tls_context(tls).name).unwrap();
    }
    let filter = match &chain.filter {
        NetworkFilter::Http(http) => {
            let bridges = if http.grpc_web { ", gRPC-Web bridged" } else { "" };
            format!("routes {}{bridges}", snapshot.route_config(http.route_config).name())
        }
        NetworkFilter::Tcp(tcp) => format!("tcp {}", targets(snapshot, &tcp.clusters)),
        NetworkFilter::Blackhole => "blackhole".to_owned(),
    };
    format!("{text} -> {filter}")
}

fn tls_context(context: &TlsContext) -> String {
    let with = context.credentials.iter().map(|credential| match credential.certificate {
        Some(_) => "a certificate",
        None => "no certificate",
    });
    let mut text = format!("{} with {}", context.name, with.collect::<Vec<_>>().join(" and "));
    let mut rules = |what: &str, rules: &PeerRules| {
        let authority = &rules.authority;
        let usable = if authority.bundle.is_some() { "" } else { "?" };
        write!(text, ", {what} of {}{usable} named {:?}", authority.name, rules.names).unwrap();
        let pins = (rules.public_keys.len(), rules.certificates.len());
        if pins != (0, 0) {
            write!(text, " {pins:?} pins").unwrap();
        }
    };
    match &context.clients {
        ClientCertificates::NotAsked => {}
        ClientCertificates::Optional(peers) => rules("perhaps clients", peers),
        ClientCertificates::Required(peers) => rules("clients", peers),
        ClientCertificates::Unverified { required } => {
            write!(text, ", any clients (required: {required})").unwrap();
        }
    }
    if context.parameters != TlsParameters::default() {
        write!(text, ", {:?}", context.parameters).unwrap();
    }
    format!("{text}, offers {}", context.alpn.join(" "))
}
