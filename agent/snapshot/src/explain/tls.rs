//! TLS to clients and to endpoints, in words.

use std::net::IpAddr;

use super::Step;
use crate::{
    ClientCertificates, Cluster, LiveClusters, NameMatch, PeerRules, ServerCheck, ServerNameSource,
    TlsContext, UpstreamTls, UpstreamTlsUse, split_port,
};

/// How TLS is terminated.
pub(super) fn terminated(context: &TlsContext) -> Step {
    let mut because = Vec::new();
    if context.missing.is_none() && context.credentials.iter().all(|one| one.certificate.is_none()) {
        because.push("its certificate is not among what is looked at here".to_owned());
    }
    let issued = |rules: &PeerRules| {
        format!("a certificate issued by {}{}", authority(&rules.authority.name), one_of(&rules.names))
    };
    because.extend(match &context.clients {
        ClientCertificates::NotAsked => None,
        ClientCertificates::Required(rules) => Some(format!("clients must show {}", issued(rules))),
        ClientCertificates::Optional(rules) => Some(format!("clients may show {}", issued(rules))),
        ClientCertificates::Unverified { required: true } => {
            Some("clients must show a certificate, of any authority".to_owned())
        }
        ClientCertificates::Unverified { required: false } => {
            Some("clients may show a certificate, of any authority".to_owned())
        }
    });
    Step { because, ..Step::chosen("TLS", &context.name, "") }
}

/// What is spoken to the endpoints of a cluster for a request to `host`, or for a connection that carries none, and who says so.
pub(super) fn to_endpoints(cluster: &Cluster, live: &LiveClusters, host: Option<&str>) -> Vec<String> {
    let source = cluster.policy_sources.tls.as_ref().map(|source| format!(" ({source})"));
    let source = source.unwrap_or_default();
    let Some(tls) = &cluster.tls else {
        return in_clear_text(cluster, live, &source).into_iter().collect();
    };
    let (ready, all) = ready(tls, cluster, live);
    if ready == 0 && all > 0 {
        return vec![format!("spoken to in clear text: no endpoint has label {READY}{source}")];
    }
    if let ServerCheck::Nobody(reason) = tls.check {
        return vec![format!("no endpoint is spoken to: {reason}{source}")];
    }
    let to_whom = match tls.endpoints {
        UpstreamTlsUse::All => String::new(),
        UpstreamTlsUse::Ready => format!(" to {ready} of {all} endpoints, those with label {READY}"),
    };
    let mut lines = vec![format!("tls: {}{to_whom}{source}", mode(tls))];
    let name = tls.name_for(host.map(|host| split_port(host).0));
    lines.push(match name {
        Some(name) if name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() => {
            format!("no server name: `{name}` is an address")
        }
        Some(name) if tls.server_name == ServerNameSource::Authority => {
            format!("server name `{name}`, the host asked for")
        }
        Some(name) => format!("server name `{name}`"),
        None => "no server name: what is relayed asks for no host, and no `sni` is written".to_owned(),
    });
    lines.push(check(&tls.check, name));
    if let Some(own) = &tls.credential {
        let missing =
            if own.certificate.is_none() { ", which is not among what is looked at here" } else { "" };
        let own = match own.name.as_str() {
            TlsContext::WORKLOAD => "the workload's own certificate (`default`)".to_owned(),
            name => format!("the certificate of {name}"),
        };
        lines.push(format!("endpoints are shown {own}{missing}"));
    }
    lines
}

/// That no TLS is spoken to the endpoints, where somebody says so or might expect otherwise.
fn in_clear_text(cluster: &Cluster, live: &LiveClusters, source: &str) -> Option<String> {
    if !source.is_empty() {
        return Some(format!("spoken to in clear text{source}"));
    }
    let mut endpoints = live.localities(cluster).iter().flat_map(|locality| &locality.endpoints);
    endpoints.any(|endpoint| endpoint.speaks_mesh_tls).then(|| {
        format!(
            "spoken to in clear text though endpoints have label {READY}: the workload has no certificate of its own \
             (--identity-dir), or the mesh wants no mutual TLS of itself (enableAutoMtls)"
        )
    })
}

/// Why every handshake with the endpoints of a cluster fails, where that is known. What is not among the resources alone
/// may well be where the proxy runs.
pub(super) fn impossible(cluster: &Cluster, live: &LiveClusters) -> Option<String> {
    let tls = cluster.tls.as_ref()?;
    let (ready, all) = ready(tls, cluster, live);
    if ready < all {
        return None;
    }
    let is_known = |name: &str| live.is_of_running() || name.is_empty();
    match (&tls.check, &tls.credential) {
        (ServerCheck::Nobody(reason), _) => Some((*reason).to_owned()),
        (ServerCheck::Authority(authority, _), _)
            if authority.bundle.is_none() && is_known(&authority.name) =>
        {
            Some(match authority.name.as_str() {
                "" => "there is no CA certificate to check endpoints by".to_owned(),
                name => format!("there is no usable CA certificate in {name}"),
            })
        }
        (_, Some(own)) if own.certificate.is_none() && live.is_of_running() => {
            Some(format!("there is no usable client certificate in {}", own.name))
        }
        _ => None,
    }
}

/// Who issues certificates, in words: the mesh's authorities go by a name of Istio's.
fn authority(name: &str) -> &str {
    if name == "ROOTCA" { "the mesh's authority (`ROOTCA`)" } else { name }
}

fn mode(tls: &UpstreamTls) -> &'static str {
    match (&tls.credential, tls.of_mesh) {
        (_, true) => "ISTIO_MUTUAL",
        (Some(_), false) => "MUTUAL",
        (None, false) => "SIMPLE",
    }
}

/// By which an endpoint says that a proxy of the mesh stands before it.
const READY: &str = "security.istio.io/tlsMode: istio";

/// How many of the endpoints TLS is spoken to.
fn ready(tls: &UpstreamTls, cluster: &Cluster, live: &LiveClusters) -> (usize, usize) {
    let endpoints = || live.localities(cluster).iter().flat_map(|locality| &locality.endpoints);
    let spoken_to = endpoints().filter(|endpoint| tls.is_spoken_to(endpoint.speaks_mesh_tls));
    (spoken_to.count(), endpoints().count())
}

fn check(check: &ServerCheck, name: Option<&str>) -> String {
    let names_or_sni = |names: &[NameMatch]| match (names, name) {
        ([], Some(name)) => format!(" for {name}"),
        (names, _) => one_of(names),
    };
    match check {
        ServerCheck::Nobody(reason) => format!("no certificate of an endpoint is accepted: {reason}"),
        ServerCheck::Unverified => {
            "certificates of endpoints are not verified (insecureSkipVerify)".to_owned()
        }
        ServerCheck::Authority(authority, _) if authority.name.is_empty() => {
            "no certificate of an endpoint is accepted: there are no CA certificates for it (--identity-dir)"
                .to_owned()
        }
        ServerCheck::System(names) => {
            format!(
                "endpoints must show a certificate issued by an authority of the system{}",
                names_or_sni(names)
            )
        }
        ServerCheck::Authority(authority, names) => {
            format!(
                "endpoints must show a certificate issued by {}{}",
                self::authority(&authority.name),
                names_or_sni(names)
            )
        }
    }
}

/// The names of which a certificate must carry one.
fn one_of(names: &[NameMatch]) -> String {
    let name = |name: &NameMatch| match name {
        NameMatch::Exact(text) => text.clone(),
        NameMatch::Prefix(text) => format!("{text}…"),
    };
    let names: Vec<_> = names.iter().map(name).collect();
    if names.is_empty() { String::new() } else { format!(" for {}", names.join(" or ")) }
}
