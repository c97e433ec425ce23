//! Opaque connections: how they end, and what is said of it.

mod cases;
mod endpoints;

use std::{
    collections::HashMap,
    io::{ErrorKind, Read},
    net::Shutdown,
    thread,
};

use nix::sys::socket::{setsockopt, sockopt};

use self::{
    cases::{CASES, Case, PLACES, Place, Step},
    endpoints::Endpoints,
};
use super::{
    Envoy, Proxy, compare,
    config::{access_log, address, cluster, cluster_name, typed},
};
use crate::support::{Client, Setup, free_port, gateway, service_at, virtual_service};

/// Lines of both access logs; the connection's ports tell whose it is.
const LOGGED: &str = "%DOWNSTREAM_REMOTE_PORT%-%DOWNSTREAM_LOCAL_PORT% code=%RESPONSE_CODE% flags=%RESPONSE_FLAGS% \
    long=%RESPONSE_FLAGS_LONG% details=%RESPONSE_CODE_DETAILS% termination=%CONNECTION_TERMINATION_DETAILS% \
    failure=\"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" received=%BYTES_RECEIVED% sent=%BYTES_SENT% \
    host=%UPSTREAM_HOST% cluster=%UPSTREAM_CLUSTER_RAW% name=%REQUESTED_SERVER_NAME% protocol=%PROTOCOL% \
    upstream=%UPSTREAM_PROTOCOL% attempts=%UPSTREAM_REQUEST_ATTEMPT_COUNT% type=%ACCESS_LOG_TYPE% \
    request=%REQ(:METHOD)% route=%ROUTE_NAME%\n";

#[test]
fn opaque_connections_end_and_are_logged_as_by_envoy() {
    let endpoints = Endpoints::start();
    compare(
        "opaque.txt",
        |envoy| envoy_with(envoy, &endpoints),
        || program(&endpoints),
        |proxy| {
            let met: Vec<_> = CASES.iter().map(|case| meet(proxy, &endpoints, case)).collect();
            let ports: Vec<_> = met.iter().map(|(ports, _)| ports.clone()).collect();
            let lines = proxy.lines(&ports);
            met.iter()
                .zip(lines)
                .map(|((_, told), line)| format!("{told}\n\n{}", comparable(&line)))
                .collect()
        },
    );
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
fn program(endpoints: &Endpoints) -> Proxy {
    let ports = ports();
    let mut setup =
        Setup::router().mesh(&format!("accessLogFile: /dev/stdout\naccessLogFormat: {LOGGED:?}\n"));
    for place in PLACES {
        let Place { name, names, policy, .. } = place;
        let port = ports[name];
        let (protocol, more) =
            if names.is_empty() { ("TCP", "") } else { ("TLS", ", tls: {mode: PASSTHROUGH}") };
        let route = format!("route: [{{destination: {{host: {name}, port: {{number: 80}}}}}}]");
        let route = match *names {
            "" => format!("tcp: [{{match: [{{port: {port}}}], {route}}}]"),
            names => format!("tls: [{{match: [{{sniHosts: [{names}], port: {port}}}], {route}}}]"),
        };
        let hosts = if names.is_empty() { "'*'" } else { names };
        let mut yaml = gateway(name, port, protocol, more);
        yaml += "---\n";
        yaml += &virtual_service(name, &format!("hosts: [{hosts}], gateways: [{name}], {route}"));
        if place.is_known() {
            yaml += "---\n";
            yaml += &match endpoints.port(name) {
                Some(port) => service_at(name, ("tcp", 80), port),
                None => format!(
                    "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n\
                    spec: {{ports: [{{name: tcp, port: 80}}]}}\n"
                ),
            };
        }
        if !policy.is_empty() {
            yaml += &format!(
                "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}}}\n\
                spec: {{host: {name}, trafficPolicy: {{connectionPool: {{tcp: {{{policy}}}}}}}}}\n"
            );
        }
        setup = setup.resources(&format!("{name}.yaml"), &yaml);
    }
    let agent = setup.flags(&["--namespace", "default", "--concurrency", "1"]).start();
    agent.await_ready();
    Proxy { endpoints: endpoints.named(), ..Proxy::programs(vec![agent], ports) }
}

/// Envoy with a listener and a cluster for each place.
fn envoy_with(envoy: Envoy, endpoints: &Endpoints) -> Proxy {
    let ports = ports();
    let (mut listeners, mut clusters) = ("  listeners:\n".to_owned(), "  clusters:\n".to_owned());
    for place in PLACES {
        listeners += &listener(place, ports[place.name]);
        if place.is_known() {
            let to: Vec<_> = endpoints.port(place.name).into_iter().collect();
            clusters += &cluster(&cluster_name(place.name, 80), &to, place.cluster);
        }
    }
    envoy.start(&(listeners + &clusters), ports, endpoints.named())
}

fn listener(place: &Place, port: u16) -> String {
    let Place { name, names, proxy, .. } = place;
    let cluster = cluster_name(name, 80);
    let tcp = typed(
        "envoy.filters.network.tcp_proxy",
        "extensions.filters.network.tcp_proxy.v3.TcpProxy",
        &format!("stat_prefix: {name}, cluster: \"{cluster}\", {proxy}{}", access_log(LOGGED, "")),
    );
    let (inspected, matched) = if names.is_empty() {
        (String::new(), String::new())
    } else {
        let inspector = typed(
            "envoy.filters.listener.tls_inspector",
            "extensions.filters.listener.tls_inspector.v3.TlsInspector",
            "",
        );
        (
            format!("listener_filters: [{inspector}], "),
            format!("filter_chain_match: {{server_names: [{names}]}}, "),
        )
    };
    // Istio's listeners log what no filter chain takes.
    let unserved = access_log(LOGGED, ", filter: {response_flag_filter: {flags: [NR]}}");
    format!(
        "  - {{address: {}, {inspected}{unserved}, filter_chains: [{{{matched}filters: [{tcp}]}}]}}\n",
        address(port)
    )
}

/// What client and endpoint see of a case, and the connection's ports.
fn meet(proxy: &Proxy, endpoints: &Endpoints, case: &Case) -> (String, String) {
    let mut others: Vec<_> = (0..case.others).map(|_| Client::local(proxy.port(case.place))).collect();
    for other in &mut others {
        // It is through to the endpoint.
        other.send("held\n").exactly(5);
    }
    let mut client = Client::local(proxy.port(case.place));
    let ports = client.ports();
    let mut told = format!("{}: {:?}\n\nclient:", case.place, case.steps);
    for step in case.steps {
        match *step {
            Step::Say(text) => _ = client.send(text),
            Step::Hello(name) => _ = client.send(hello(name)),
            Step::Hear(n) => told += &heard(&mut client, n),
            Step::Pour(n) => {
                let mut pouring = Client::of(client.0.try_clone().unwrap());
                thread::spawn(move || {
                    pouring.send(vec![b'a'; n]);
                    _ = pouring.0.shutdown(Shutdown::Write);
                });
            }
            // The other side has gone.
            Step::End => _ = client.0.shutdown(Shutdown::Write),
            Step::HearAll => told += &rest(&mut client),
            Step::Await => _ = client.rest(),
            Step::Reset => {
                let now = nix::libc::linger { l_onoff: 1, l_linger: 0 };
                setsockopt(&client.0, sockopt::Linger, &now).unwrap();
            }
        }
    }
    drop(client);
    drop(others);
    for _ in 0..case.others + usize::from(case.reaches) {
        told += &format!("\nendpoint: {}", endpoints.told(case.place));
    }
    (ports, told)
}

/// So many bytes, or fewer when the connection ends.
fn heard(client: &mut Client, n: usize) -> String {
    let mut bytes = vec![0; n];
    let mut have = 0;
    while have < n {
        match client.0.read(&mut bytes[have..]) {
            Ok(0) => return shown(&bytes[..have]) + " ended",
            Ok(more) => have += more,
            Err(error) => return format!("{} {}", shown(&bytes[..have]), how(&error)),
        }
    }
    shown(&bytes)
}

/// All that comes, and how it ends.
fn rest(client: &mut Client) -> String {
    let mut bytes = Vec::new();
    let ended = client.0.read_to_end(&mut bytes).map_or_else(|error| how(&error), |_| "ended");
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
