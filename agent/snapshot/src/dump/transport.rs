//! TLS to clients and to endpoints in Envoy's form. Certificates appear by name only, and keys not at all.

use serde_json::{Value, json};

use crate::{
    NameMatch, ServerCheck, ServerNameSource, Speaks, TlsParameters, TlsVersion, UpstreamTls, UpstreamTlsUse,
    cluster::{Cluster, ProxyProtocol, UpstreamProtocol},
    tls::{CipherSuite, ClientCertificates, Credential, KeyExchange, REDACTED, TlsContext},
};

const TLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3";

/// How TLS is terminated.
pub(super) fn downstream(context: &TlsContext) -> Value {
    let mut common = common(&context.parameters, context.alpn.iter().map(String::as_str).collect());
    common["tls_certificate_sds_secret_configs"] = names(&context.credentials);
    if context.credentials.iter().any(|credential| credential.certificate.is_some()) {
        common["tls_certificates"] = json!([{"private_key": {"inline_string": REDACTED}}]);
    }
    if let Some(authority) = context.clients.authority() {
        common["combined_validation_context"] =
            json!({"validation_context_sds_secret_config": {"name": authority.name}});
    }
    let mut config = json!({"@type": format!("{TLS}.DownstreamTlsContext"), "common_tls_context": common});
    if matches!(
        context.clients,
        ClientCertificates::Required(_) | ClientCertificates::Unverified { required: true }
    ) {
        config["require_client_certificate"] = true.into();
    }
    tls_socket(config)
}

/// How a cluster's endpoints are connected to, where that is not in clear text alone.
pub(super) fn put_upstream(cluster: &Cluster, dump: &mut Value) {
    let wrapped = |socket| match cluster.proxy_protocol {
        Some(version) => announcing(version, socket),
        None => socket,
    };
    match &cluster.tls {
        None if cluster.proxy_protocol.is_none() => {}
        None => dump["transport_socket"] = wrapped(raw_buffer()),
        Some(tls) => {
            let socket = wrapped(upstream(cluster.protocol, tls));
            match tls.endpoints {
                UpstreamTlsUse::All => dump["transport_socket"] = socket,
                // As Istio tells Envoy to choose by the labels of each endpoint.
                UpstreamTlsUse::Ready => {
                    dump["transport_socket_matches"] = json!([
                        {"name": "tlsMode-istio", "match": {"tlsMode": "istio"}, "transport_socket": socket},
                        {"name": "tlsMode-disabled", "match": {}, "transport_socket": wrapped(raw_buffer())},
                    ]);
                }
            }
        }
    }
}

/// What the host of a request has to do with TLS to the endpoint.
pub(super) fn names_by_host(tls: &UpstreamTls) -> Option<Value> {
    (tls.server_name == ServerNameSource::Authority).then(|| {
        let is_checked = match &tls.check {
            ServerCheck::Unverified | ServerCheck::Nobody(_) => false,
            ServerCheck::System(names) | ServerCheck::Authority(_, names) => names.is_empty(),
        };
        json!({"auto_sni": true, "auto_san_validation": is_checked})
    })
}

fn upstream(protocol: UpstreamProtocol, tls: &UpstreamTls) -> Value {
    let mut common = common(&tls.parameters, offered(protocol, tls));
    if let Some(credential) = &tls.credential {
        common["tls_certificate_sds_secret_configs"] = names(std::slice::from_ref(credential));
    }
    // What Istio calls the authorities that the system trusts.
    const SYSTEM: &str = "file-root:system";
    let check = match &tls.check {
        ServerCheck::Unverified => None,
        ServerCheck::System(names) => Some((SYSTEM, names)),
        ServerCheck::Authority(authority, names) => Some((authority.name.as_str(), names)),
        ServerCheck::Nobody(_) => Some(("", &Vec::new())),
    };
    if let Some((authority, names)) = check {
        let names: Vec<_> = names.iter().map(matcher).collect();
        common["combined_validation_context"] = json!({
            "default_validation_context": if names.is_empty() { json!({}) } else { json!({"match_subject_alt_names": names}) },
            "validation_context_sds_secret_config": {"name": authority},
        });
    }
    let mut config = json!({"@type": format!("{TLS}.UpstreamTlsContext"), "common_tls_context": common});
    if let ServerNameSource::Fixed(name) = &tls.server_name {
        config["sni"] = name.as_str().into();
    }
    tls_socket(config)
}

/// What is offered for requests, in every version that may be spoken.
fn offered(protocol: UpstreamProtocol, tls: &UpstreamTls) -> Vec<&'static str> {
    let spoken: &[Speaks] = match protocol {
        UpstreamProtocol::Http1 => &[Speaks::Http1],
        UpstreamProtocol::Http2 => &[Speaks::Http2],
        UpstreamProtocol::AsDownstream => &[Speaks::Http2, Speaks::Http1],
    };
    let mut offered = Vec::new();
    for name in spoken.iter().flat_map(|speaks| tls.protocols(*speaks)) {
        if !offered.contains(name) {
            offered.push(*name);
        }
    }
    offered
}

fn common(parameters: &TlsParameters, offered: Vec<&str>) -> Value {
    let mut common = json!({});
    if !offered.is_empty() {
        common["alpn_protocols"] = offered.into();
    }
    if *parameters != TlsParameters::default() {
        common["tls_params"] = tls_params(parameters);
    }
    common
}

fn tls_params(parameters: &TlsParameters) -> Value {
    let TlsParameters { min_version, max_version, cipher_suites, key_exchanges } = parameters;
    let version = |version: TlsVersion| match version {
        TlsVersion::V1_2 => "TLSv1_2",
        TlsVersion::V1_3 => "TLSv1_3",
    };
    let mut dump = json!({"tls_minimum_protocol_version": version(*min_version)});
    if let Some(max) = max_version {
        dump["tls_maximum_protocol_version"] = version(*max).into();
    }
    if !cipher_suites.is_empty() {
        dump["cipher_suites"] = named(&CipherSuite::NAMES, cipher_suites);
    }
    if !key_exchanges.is_empty() {
        dump["ecdh_curves"] = named(&KeyExchange::NAMES, key_exchanges);
    }
    dump
}

fn named<T: PartialEq>(names: &[(&'static str, T)], chosen: &[T]) -> Value {
    let name = |one: &T| names.iter().find(|(_, known)| known == one).map(|(name, _)| *name);
    chosen.iter().filter_map(name).collect()
}

fn names(credentials: &[Credential]) -> Value {
    credentials.iter().map(|credential| json!({"name": credential.name})).collect()
}

fn matcher(name: &NameMatch) -> Value {
    match name {
        NameMatch::Exact(name) => json!({"exact": name}),
        NameMatch::Prefix(prefix) => json!({"prefix": prefix}),
    }
}

fn tls_socket(config: Value) -> Value {
    json!({"name": "envoy.transport_sockets.tls", "typed_config": config})
}

fn raw_buffer() -> Value {
    let kind = "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer";
    json!({"name": "envoy.transport_sockets.raw_buffer", "typed_config": {"@type": kind}})
}

fn announcing(version: ProxyProtocol, socket: Value) -> Value {
    let kind = "type.googleapis.com/envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport";
    let version = match version {
        ProxyProtocol::V1 => "V1",
        ProxyProtocol::V2 => "V2",
    };
    json!({"name": "envoy.transport_sockets.upstream_proxy_protocol",
        "typed_config": {"@type": kind, "config": {"version": version}, "transport_socket": socket}})
}
