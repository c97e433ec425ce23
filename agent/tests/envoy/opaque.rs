//! Opaque connections: how they end, and what is said of it.

mod cases;
mod client;
mod endpoints;

use std::{
    collections::HashMap,
    fs,
    io::{ErrorKind, Read},
    path::Path,
    thread,
};

use tempfile::TempDir;

use self::{
    cases::{CASES, Case, PLACES, Place, Step},
    client::Opaque,
    endpoints::Endpoints,
};
use super::{
    Envoy, Proxy, compare,
    config::{access_log, address, cluster, cluster_name, typed},
};
use crate::support::{Client, Setup, authority::Authority, free_port, gateway, service_at, virtual_service};

/// Lines of both access logs; the connection's ports tell whose it is.
const LOGGED: &str = "%DOWNSTREAM_REMOTE_PORT%-%DOWNSTREAM_LOCAL_PORT% code=%RESPONSE_CODE% flags=%RESPONSE_FLAGS% \
    long=%RESPONSE_FLAGS_LONG% details=%RESPONSE_CODE_DETAILS% termination=%CONNECTION_TERMINATION_DETAILS% \
    failure=\"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" tls=%DOWNSTREAM_TLS_VERSION% received=%BYTES_RECEIVED% sent=%BYTES_SENT% \
    host=%UPSTREAM_HOST% cluster=%UPSTREAM_CLUSTER_RAW% name=%REQUESTED_SERVER_NAME% protocol=%PROTOCOL% \
    upstream=%UPSTREAM_PROTOCOL% attempts=%UPSTREAM_REQUEST_ATTEMPT_COUNT% type=%ACCESS_LOG_TYPE% \
    request=%REQ(:METHOD)% route=%ROUTE_NAME%\n";

#[test]
fn opaque_connections_end_and_are_logged_as_by_envoy() {
    let endpoints = Endpoints::start();
    let certificates = Certificates::new();
    compare(
        "opaque.txt",
        |envoy| envoy_with(envoy, &endpoints, &certificates),
        || program(&endpoints, &certificates),
        |proxy| {
            let met: Vec<_> =
                CASES.iter().map(|case| meet(proxy, &endpoints, &certificates.authority, case)).collect();
            let ports: Vec<_> = met.iter().map(|(ports, _)| ports.clone()).collect();
            let lines = proxy.lines(&ports);
            met.iter()
                .zip(lines)
                .map(|((_, told), line)| format!("{told}\n\n{}", comparable(&line)))
                .collect()
        },
    );
}

/// The name that places with TLS have a certificate for.
const NAME: &str = "known.test";

/// What the places with TLS show, in files, and who issued it.
struct Certificates {
    directory: TempDir,
    authority: Authority,
}

impl Certificates {
    fn new() -> Self {
        let (directory, authority) = (TempDir::new().unwrap(), Authority::new());
        let issued = authority.issue(NAME);
        for (file, pem) in [("crt", &issued.certificate), ("key", &issued.key)] {
            fs::write(directory.path().join(file), pem).unwrap();
        }
        Self { directory, authority }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// A line without what differs for good reason.
fn comparable(line: &str) -> String {
    // The program names the cluster that does not exist, which tells what is missing.
    let unknown = line.contains(" flags=NC ");
    let word = |word: &'_ str| !(unknown && word.starts_with("cluster="));
    line.split(' ').filter(|told| word(told)).collect::<Vec<_>>().join(" ")
}

fn ports() -> HashMap<&'static str, u16> {
    PLACES.iter().map(|place| (place.name, free_port())).collect()
}

/// The program with a server, a route, a service and a rule for each place.
fn program(endpoints: &Endpoints, certificates: &Certificates) -> Proxy {
    let ports = ports();
    let mut setup =
        Setup::router().mesh(&format!("accessLogFile: /dev/stdout\naccessLogFormat: {LOGGED:?}\n"));
    for place in PLACES {
        let mut yaml = server(place, ports[place.name], certificates);
        if place.is_known() {
            yaml += "---\n";
            yaml += &service(place, endpoints);
        }
        setup = setup.resources(&format!("{}.yaml", place.name), &yaml);
    }
    let agent = setup.flags(&["--namespace", "default", "--concurrency", "1"]).start();
    agent.await_ready();
    Proxy { endpoints: endpoints.named(), ..Proxy::programs(vec![agent], ports) }
}

/// The server of a place and its route.
fn server(
    Place { name, names, is_terminated, .. }: &Place,
    port: u16,
    certificates: &Certificates,
) -> String {
    let (protocol, more) = match (is_terminated, *names) {
        (true, _) => {
            let path = certificates.path().display();
            ("TLS", format!(", tls: {{mode: SIMPLE, serverCertificate: {path}/crt, privateKey: {path}/key}}"))
        }
        (false, "") => ("TCP", String::new()),
        (false, _) => ("TLS", ", tls: {mode: PASSTHROUGH}".to_owned()),
    };
    let route = format!("route: [{{destination: {{host: {name}, port: {{number: 80}}}}}}]");
    let (hosts, route) = match *names {
        "" => ("'*'", format!("tcp: [{{match: [{{port: {port}}}], {route}}}]")),
        names => (names, format!("tls: [{{match: [{{sniHosts: [{names}], port: {port}}}], {route}}}]")),
    };
    let rule = virtual_service(name, &format!("hosts: [{hosts}], gateways: [{name}], {route}"));
    gateway(name, port, protocol, &more) + "---\n" + &rule
}

/// What the route of a place leads to, and the rule for it.
fn service(Place { name, policy, .. }: &Place, endpoints: &Endpoints) -> String {
    let service = match endpoints.port(name) {
        Some(port) => service_at(name, ("tcp", 80), port),
        None => format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n\
            spec: {{ports: [{{name: tcp, port: 80}}]}}\n"
        ),
    };
    if policy.is_empty() {
        return service;
    }
    format!(
        "{service}---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}}}\n\
        spec: {{host: {name}, trafficPolicy: {{connectionPool: {{tcp: {{{policy}}}}}}}}}\n"
    )
}

/// Envoy with a listener and a cluster for each place.
fn envoy_with(envoy: Envoy, endpoints: &Endpoints, certificates: &Certificates) -> Proxy {
    let ports = ports();
    let (mut listeners, mut clusters) = ("  listeners:\n".to_owned(), "  clusters:\n".to_owned());
    for place in PLACES {
        listeners += &listener(place, ports[place.name], certificates);
        if place.is_known() {
            let to: Vec<_> = endpoints.port(place.name).into_iter().collect();
            clusters += &cluster(&cluster_name(place.name, 80), &to, place.cluster);
        }
    }
    envoy.start(&(listeners + &clusters), ports, endpoints.named())
}

fn listener(place: &Place, port: u16, certificates: &Certificates) -> String {
    let Place { name, names, proxy, is_terminated, .. } = place;
    let cluster = cluster_name(name, 80);
    let tcp = typed(
        "envoy.filters.network.tcp_proxy",
        "extensions.filters.network.tcp_proxy.v3.TcpProxy",
        &format!("stat_prefix: {name}, cluster: \"{cluster}\", {proxy}{}", access_log(LOGGED, "")),
    );
    let matched = match *names {
        "" => String::new(),
        names => format!("filter_chain_match: {{server_names: [{names}]}}, "),
    };
    let secured = if *is_terminated { socket(certificates) } else { String::new() };
    let inspected = if *is_terminated || !names.is_empty() {
        let inspector = typed(
            "envoy.filters.listener.tls_inspector",
            "extensions.filters.listener.tls_inspector.v3.TlsInspector",
            "",
        );
        format!("listener_filters: [{inspector}], ")
    } else {
        String::new()
    };
    // Istio's listeners log what no filter chain takes.
    let unserved = access_log(LOGGED, ", filter: {response_flag_filter: {flags: [NR]}}");
    format!(
        "  - {{address: {}, {inspected}{unserved}, filter_chains: [{{{matched}{secured}filters: [{tcp}]}}]}}\n",
        address(port)
    )
}

/// TLS that ends at the listener.
fn socket(certificates: &Certificates) -> String {
    let file = |name: &str| format!("{{filename: {:?}}}", certificates.path().join(name));
    let shown = format!("[{{certificate_chain: {}, private_key: {}}}]", file("crt"), file("key"));
    let socket = typed(
        "envoy.transport_sockets.tls",
        "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        &format!("common_tls_context: {{alpn_protocols: [h2, http/1.1], tls_certificates: {shown}}}"),
    );
    format!("transport_socket: {socket}, ")
}

/// What client and endpoint see of a case, and the connection's ports.
fn meet(proxy: &Proxy, endpoints: &Endpoints, authority: &Authority, case: &Case) -> (String, String) {
    let port = proxy.port(case.place);
    let mut others: Vec<_> = (0..case.others).map(|_| Client::local(port)).collect();
    for other in &mut others {
        // It is through to the endpoint.
        other.send("held\n").exactly(5);
    }
    let mut client = match PLACES.iter().any(|place| place.name == case.place && place.is_terminated) {
        true => Opaque::within(&authority.client(), port, NAME),
        false => Opaque::clear(port),
    };
    let ports = client.below().ports();
    let mut told = format!("{}: {:?}\n\nclient:", case.place, case.steps);
    case.steps.iter().for_each(|step| told += &take(&mut client, *step));
    drop(client);
    drop(others);
    for _ in 0..case.others + usize::from(case.reaches) {
        told += &format!("\nendpoint: {}", endpoints.told(case.place));
    }
    (ports, told)
}

/// What a client hears in a step.
fn take(client: &mut Opaque, step: Step) -> String {
    match step {
        Step::Say(text) => client.send(text),
        Step::Hello(name) => client.send(hello(name)),
        Step::Hear(n) => return heard(client, n),
        Step::HearAll => return rest(client),
        Step::Pour(n) => {
            let mut pouring = Opaque::Clear(client.below());
            thread::spawn(move || {
                pouring.send(vec![b'a'; n]);
                pouring.end();
            });
        }
        Step::End => client.end(),
        Step::Cut => client.cut(),
        Step::Await => _ = client.below().rest(),
        Step::Reset => client.reset(),
    }
    String::new()
}

/// So many bytes, or fewer when the connection ends.
fn heard(client: &mut impl Read, n: usize) -> String {
    let mut bytes = vec![0; n];
    let mut have = 0;
    while have < n {
        match client.read(&mut bytes[have..]) {
            Ok(0) => return shown(&bytes[..have]) + " ended",
            Ok(more) => have += more,
            Err(error) => return format!("{} {}", shown(&bytes[..have]), how(&error)),
        }
    }
    shown(&bytes)
}

/// All that comes, and how it ends.
fn rest(client: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    let ended = client.read_to_end(&mut bytes).map_or_else(|error| how(&error), |_| "ended");
    format!("{} {ended}", shown(&bytes))
}

/// Bytes as text, or how many they are.
fn shown(bytes: &[u8]) -> String {
    if bytes.len() > 50 {
        format!(" {} bytes", bytes.len())
    } else {
        format!(" {:?}", String::from_utf8_lossy(bytes))
    }
}

fn how(error: &std::io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::ConnectionReset => "reset",
        ErrorKind::WouldBlock | ErrorKind::TimedOut => "open",
        _ => "broken",
    }
}

/// A client hello of TLS 1.2 that asks for a name, or for none.
fn hello(name: &str) -> Vec<u8> {
    let long = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
    let names = match name {
        "" => Vec::new(),
        name => [&[0, 0][..], &long(&long(&[&[0][..], &long(name.as_bytes())].concat()))].concat(),
    };
    // Curves and signatures, which every hello has.
    let others = [&[0, 10][..], &long(&long(&[0, 29])), &[0, 13], &long(&long(&[4, 3]))].concat();
    let body = [&[3, 3][..], &[7; 32], &[0], &long(&[0xc0, 0x2b]), &[1, 0], &long(&[names, others].concat())]
        .concat();
    let message = [&[1, 0][..], &long(&body)].concat();
    [&[22, 3, 1][..], &long(&message)].concat()
}
