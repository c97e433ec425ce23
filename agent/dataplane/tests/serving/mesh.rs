//! Inbound connections of a workload that is known in the mesh, told apart by what their hellos offer.

use std::{
    net::{SocketAddr, TcpStream},
    sync::{Arc, OnceLock},
    time::Duration,
};

use dataplane::{PeerMetadata, Settings};
use rcgen::SanType;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto::aws_lc_rs, pki_types::ServerName,
};
use snapshot::{
    Application, Certificate, ClientCertificates, Credential, Discovery, Draft, FilterChain,
    FilterChainMatch, KnownWorkload, NameMatch, PeerRules, TlsContext, TlsContextId, Transport, Workload,
};

use crate::{
    issuer::{Issued, Issuer},
    support::{Client, Proxy, Upstream, gateway_draft, http_chain, sidecar_draft, tcp_chain},
    tls::{Made, tls_draft},
};

fn workload(issuer: &Issuer, id: &str) -> Issued {
    issuer.issue(&[SanType::URI(id.try_into().unwrap())], |_| {})
}

/// The inbound listener of a workload: HTTP of the mesh and clear HTTP to the first upstream, everything else as it is.
fn inbound(address: SocketAddr, app: SocketAddr, issuer: &Issuer, strict: bool) -> Draft {
    let own = workload(issuer, "spiffe://td/ns/a/sa/server");
    let certificate = Some(Certificate::new(vec![own.der.clone()], own.private_key()));
    let mut draft = sidecar_draft(address, &[app]);
    let listener = &mut draft.listeners[0];
    listener.direction = snapshot::Direction::Inbound;
    listener.default_filter_chain = None;
    let tls = Some(Transport::Tls);
    let of = |chain: FilterChain, transport, application, tls| FilterChain {
        matches: FilterChainMatch { transport, application, ..FilterChainMatch::default() },
        tls,
        ..chain
    };
    let http = || http_chain(FilterChainMatch::default());
    listener.filter_chains = match strict {
        true => vec![of(http(), tls, None, Some(TlsContextId(0)))],
        false => vec![
            of(http(), tls, Some(Application::MeshHttp), Some(TlsContextId(0))),
            of(tcp_chain(1), tls, None, None),
            of(http(), None, Some(Application::Http), None),
            tcp_chain(1),
        ],
    };
    let names = vec![NameMatch::Prefix("spiffe://td/".to_owned())];
    let rules = PeerRules { authority: issuer.authority(), names, ..PeerRules::default() };
    draft.tls_contexts = vec![TlsContext {
        name: "default".to_owned(),
        credentials: vec![Credential { name: "default".to_owned(), certificate }],
        clients: ClientCertificates::Required(rules),
        alpn: vec!["h2".to_owned(), "http/1.1".to_owned()],
        ..TlsContext::default()
    }];
    draft
}

/// Asks over TLS; the server's certificate is not looked at by name, as between proxies.
fn ask(proxy: &Proxy, issuer: &Issuer, shown: Option<&Issued>, protocols: &[&str]) -> Result<String, String> {
    ask_with("", proxy, issuer, (shown, protocols))
}

fn ask_with(
    fields: &str,
    proxy: &Proxy,
    issuer: &Issuer,
    asking: (Option<&Issued>, &[&str]),
) -> Result<String, String> {
    ask_on(Client::connect(proxy.address).0, fields, issuer, asking)
}

fn ask_on(
    tcp: TcpStream,
    fields: &str,
    issuer: &Issuer,
    (shown, protocols): (Option<&Issued>, &[&str]),
) -> Result<String, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(issuer.der()).unwrap();
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let mut config = match shown {
        Some(shown) => builder.with_client_auth_cert(vec![shown.der.clone()], shown.private_key()).unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    config.dangerous().set_certificate_verifier(crate::mutual::trusting());
    let session = ClientConnection::new(Arc::new(config), ServerName::try_from("a.com").unwrap()).unwrap();
    let mut stream = StreamOwned::new(session, tcp);
    let request = format!("GET / HTTP/1.1\r\nhost: a.com\r\n{fields}\r\n");
    std::io::Write::write_all(&mut stream, request.as_bytes()).map_err(|e| e.to_string())?;
    let mut first = [0; 12];
    std::io::Read::read_exact(&mut stream, &mut first).map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&first).into_owned())
}

#[test]
fn a_permissive_port_takes_the_mesh_clear_text_and_tls_that_is_the_applications_own() {
    static APPLICATION: OnceLock<SocketAddr> = OnceLock::new();
    let issuer = Issuer::new();
    let web = Upstream::echoing_heads();
    // What the connection was going to is TLS of the application's own.
    let own = issuer.client("a.com");
    let made = Made { certificate: Certificate::new(vec![own.der.clone()], own.private_key()), der: own.der };
    let application =
        Proxy::start(Settings::default(), |address| tls_draft(address, web.address, &[("*", Some(&made))]));
    APPLICATION.set(application.address).unwrap();
    let settings =
        Settings { original_destination: |_| Ok(APPLICATION.get().copied()), ..Settings::default() };
    let proxy = Proxy::start(settings, |address| inbound(address, web.address, &issuer, false));
    let peer = workload(&issuer, "spiffe://td/ns/b/sa/client");
    let mesh = ["istio-http/1.1", "istio", "http/1.1"];
    assert_eq!(ask(&proxy, &issuer, Some(&peer), &mesh).unwrap(), "HTTP/1.1 200");
    assert_eq!(ask(&proxy, &issuer, None, &["http/1.1"]).unwrap(), "HTTP/1.1 200");
    assert_eq!(proxy.connect().get("/").status(), "200");
    let stranger = workload(&issuer, "spiffe://elsewhere/ns/b/sa/client");
    assert!(ask(&proxy, &issuer, Some(&stranger), &mesh).is_err());
    assert!(ask(&proxy, &issuer, None, &mesh).is_err());
}

/// Longer than a silent client is listened to where a server could not be dialled: here nobody is dialled.
#[test]
fn a_client_that_is_slow_to_speak_tls_is_not_taken_for_one_of_clear_text() {
    static APPLICATION: OnceLock<SocketAddr> = OnceLock::new();
    let issuer = Issuer::new();
    let web = Upstream::echoing_heads();
    APPLICATION.set(web.address).unwrap();
    let settings =
        Settings { original_destination: |_| Ok(APPLICATION.get().copied()), ..Settings::default() };
    let proxy = Proxy::start(settings, |address| {
        let mut draft = inbound(address, web.address, &issuer, false);
        // A port that is declared as HTTP.
        let chains = &mut draft.listeners[0].filter_chains;
        chains.truncate(1);
        let transport = Some(Transport::RawBuffer);
        chains.push(http_chain(FilterChainMatch { transport, ..FilterChainMatch::default() }));
        draft
    });
    let silent = Client::connect(proxy.address).0;
    std::thread::sleep(Duration::from_millis(5500));
    let peer = workload(&issuer, "spiffe://td/ns/b/sa/client");
    let answer = ask_on(silent, "", &issuer, (Some(&peer), &["istio-http/1.1", "istio"]));
    assert_eq!(answer.unwrap(), "HTTP/1.1 200");
}

#[test]
fn a_strict_port_takes_nothing_but_the_mesh() {
    static APPLICATION: OnceLock<SocketAddr> = OnceLock::new();
    let issuer = Issuer::new();
    let web = Upstream::echoing_heads();
    APPLICATION.set(web.address).unwrap();
    let settings =
        Settings { original_destination: |_| Ok(APPLICATION.get().copied()), ..Settings::default() };
    let proxy = Proxy::start(settings, |address| inbound(address, web.address, &issuer, true));
    let peer = workload(&issuer, "spiffe://td/ns/b/sa/client");
    assert_eq!(ask(&proxy, &issuer, Some(&peer), &["istio-http/1.1", "istio"]).unwrap(), "HTTP/1.1 200");
    assert!(ask(&proxy, &issuer, None, &["istio-http/1.1"]).is_err());
    assert_eq!(proxy.connect().send("GET / HTTP/1.1\r\nhost: a.com\r\n\r\n").rest(), b"");
    assert_eq!(web.connections(), 1);
}

#[test]
fn metrics_name_the_client_by_its_certificate_and_its_address() {
    static APPLICATION: OnceLock<SocketAddr> = OnceLock::new();
    let issuer = Issuer::new();
    let web = Upstream::echoing_heads();
    APPLICATION.set(web.address).unwrap();
    let settings =
        Settings { original_destination: |_| Ok(APPLICATION.get().copied()), ..Settings::default() };
    let mut own = None;
    let mut proxy = Proxy::start(settings, |address| {
        own = Some(address);
        inbound(address, web.address, &issuer, false)
    });
    let peer = workload(&issuer, "spiffe://td/ns/b/sa/client");
    ask(&proxy, &issuer, Some(&peer), &["istio-http/1.1", "istio"]).unwrap();
    assert_eq!(proxy.connect().get("/").status(), "200");
    let mut draft = inbound(own.unwrap(), web.address, &issuer, false);
    draft.workloads = [(own.unwrap().ip(), named("shop"))].into_iter().collect();
    proxy.publish(draft);
    ask(&proxy, &issuer, Some(&peer), &["istio-http/1.1", "istio"]).unwrap();
    assert_eq!(proxy.connect().get("/").status(), "200");
    let telemetry = proxy.telemetry();
    let mut met: Vec<_> = telemetry
        .requests
        .keys()
        .map(|key| {
            let workload = key.peer.workload.as_deref();
            let name = workload.map(|workload| (workload.name.as_str(), workload.namespace.as_str()));
            (name, key.peer.principal.as_deref())
        })
        .collect();
    met.sort_unstable();
    let proved = Some("spiffe://td/ns/b/sa/client");
    let shop = Some(("shop", ""));
    assert_eq!(met, [(None, None), (Some(("", "b")), proved), (shop, None), (shop, proved)]);
}

/// A workload as the configuration knows it.
pub(crate) fn named(name: &str) -> KnownWorkload {
    let workload = Workload { name: name.to_owned(), ..Workload::default() };
    KnownWorkload { workload: workload.into(), principal: "spiffe://td/ns/b/sa/known".into() }
}

#[test]
fn metrics_name_the_endpoint_by_its_address() {
    let web = Upstream::echoing_heads();
    let mut proxy = Proxy::gateway(&[web.address]);
    let mut client = proxy.connect();
    assert_eq!(client.get("/").status(), "200");
    let mut draft = gateway_draft(proxy.address, &[web.address]);
    draft.workloads = [(web.address.ip(), named("web"))].into_iter().collect();
    proxy.publish(draft);
    assert_eq!(client.get("/").status(), "200");
    let telemetry = proxy.telemetry();
    let mut met: Vec<_> = telemetry
        .requests
        .keys()
        .map(|key| (key.peer.workload.as_ref().map(|workload| workload.name.as_str()), &key.peer.principal))
        .collect();
    met.sort_unstable();
    // Nothing is proved in clear text.
    assert_eq!(met, [(None, &None), (Some("web"), &None)]);
}

fn introduced(name: &str, namespace: &str) -> PeerMetadata {
    let [name, namespace] = [name, namespace].map(str::to_owned);
    PeerMetadata::new(
        &Workload { name, namespace, ..Workload::default() },
        "sidecar~10.0.0.1~pod.a~a.svc.cluster.local",
    )
}

#[test]
fn clients_of_the_mesh_introduce_themselves_and_are_answered_in_kind() {
    static APPLICATION: OnceLock<SocketAddr> = OnceLock::new();
    let issuer = Issuer::new();
    let web = Upstream::echoing_heads();
    APPLICATION.set(web.address).unwrap();
    let settings = Settings {
        original_destination: |_| Ok(APPLICATION.get().copied()),
        peer_metadata: Some(introduced("web", "a")),
        ..Settings::default()
    };
    let proxy = Proxy::start(settings, |address| inbound(address, web.address, &issuer, false));
    let peer = workload(&issuer, "spiffe://td/ns/b/sa/client");
    for namespace in ["b", "forged"] {
        let said = introduced("client", namespace).to_string();
        let shown = (Some(&peer), &["istio-http/1.1"][..]);
        assert_eq!(ask_with(&said, &proxy, &issuer, shown).unwrap(), "HTTP/1.1 200");
    }
    let telemetry = proxy.telemetry();
    let met = telemetry.requests.keys().filter_map(|key| key.peer.workload.as_ref());
    let mut met: Vec<_> = met.map(|peer| (peer.name.as_str(), peer.namespace.as_str())).collect();
    met.sort_unstable();
    assert_eq!(met, [("", "b"), ("client", "b")]);
    // Who asks in clear text is told, too; the application sees nothing of it.
    let said = introduced("client", "b").to_string();
    let answer = proxy.connect().send(format!("GET / HTTP/1.1\r\nhost: a.com\r\n{said}\r\n")).answer();
    assert!(answer.head.contains(&introduced("web", "a").to_string()), "{}", answer.head);
    assert!(!String::from_utf8_lossy(&answer.body).contains("peer-metadata"), "{answer:?}");
    assert!(!proxy.connect().get("/").head.contains("peer-metadata"));
}

#[test]
fn endpoints_of_the_mesh_are_told_who_calls_and_no_others() {
    let web = Upstream::echoing_heads();
    let settings = || Settings { peer_metadata: Some(introduced("web", "a")), ..Settings::default() };
    let ask = |in_mesh: bool| {
        let proxy = Proxy::start(settings(), |address| {
            let mut draft = gateway_draft(address, &[web.address]);
            if let Discovery::Endpoints(localities) = &mut draft.clusters[0].discovery {
                localities[0].endpoints[0].speaks_mesh_tls = in_mesh;
            }
            draft
        });
        let said = "GET / HTTP/1.1\r\nhost: a.com\r\nx-envoy-peer-metadata: forged\r\n\r\n";
        String::from_utf8(proxy.connect().send(said).answer().body).unwrap()
    };
    let (inside, outside) = (ask(true), ask(false));
    assert!(inside.contains(&introduced("web", "a").to_string()) && !inside.contains("forged"), "{inside}");
    assert!(!outside.contains("peer-metadata"), "{outside}");
}
