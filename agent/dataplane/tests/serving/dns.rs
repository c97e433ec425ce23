//! Clusters whose endpoints are names, with a name server that answers what it is told.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use snapshot::{Cluster, Discovery, Dns, DnsName, DnsResolution, Draft, Locality, OutlierDetection};

use crate::support::{Client, Proxy, Upstream, eventually, gateway_draft};
use dataplane::{NameSettings, Settings};

/// Addresses of the one name there is; none answers that there is no such name.
type Zone = Arc<Mutex<Vec<Ipv4Addr>>>;

/// Answers every question for A records with the addresses of its name, good for a second, and others with nothing.
pub(crate) fn name_server(zone: impl Fn(&str) -> Vec<Ipv4Addr> + Send + 'static) -> SocketAddr {
    name_server_for(1, zone)
}

/// The same with answers that are good for so many seconds.
pub(crate) fn name_server_for(
    seconds: u16,
    zone: impl Fn(&str) -> Vec<Ipv4Addr> + Send + 'static,
) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut bytes = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut bytes) {
            let question = &bytes[..length];
            _ = socket.send_to(&answer(question, &zone(&name_in(question)), seconds), from);
        }
    });
    address
}

/// The name that is asked for, with a dot after each label.
fn name_in(question: &[u8]) -> String {
    let (mut name, mut rest) = (String::new(), &question[12..]);
    while let Some((length @ 1.., labels)) = rest.split_first() {
        let (label, after) = labels.split_at(usize::from(*length));
        name += std::str::from_utf8(label).unwrap();
        name.push('.');
        rest = after;
    }
    name
}

fn answer(question: &[u8], addresses: &[Ipv4Addr], seconds: u16) -> Vec<u8> {
    let name_end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap() + 1;
    let asks_for_a = question[name_end..].starts_with(&[0, 1]);
    let records: &[Ipv4Addr] = if asks_for_a { addresses } else { &[] };
    let refusal = if addresses.is_empty() { 3 } else { 0 };
    let count = u8::try_from(records.len()).unwrap();
    let mut out = vec![question[0], question[1], 0x81, 0x80 | refusal, 0, 1, 0, count, 0, 0, 0, 0];
    out.extend(&question[12..name_end + 4]);
    for address in records {
        // The name of the question, A, IN, how long it is good, four bytes.
        let [high, low] = seconds.to_be_bytes();
        out.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, high, low, 0, 4]);
        out.extend(address.octets());
    }
    out
}

fn draft(address: SocketAddr, port: u16, resolution: DnsResolution) -> Draft {
    let mut draft = gateway_draft(address, &[]);
    let host = "service.example.".to_owned();
    let locality = Locality::default();
    let name = DnsName { host, port, weight: 1, locality, priority: 0, locality_weight: None };
    draft.clusters[0].discovery = Discovery::Dns(Dns { resolution, names: vec![name] });
    draft.clusters[0].outlier_detection = Some(OutlierDetection::default());
    draft
}

/// Settings by which this server resolves names.
pub(crate) fn asking(server: SocketAddr) -> Settings {
    let names = NameSettings { server: Some(server), ..NameSettings::default() };
    Settings { names, ..Settings::default() }
}

fn gateway(zone: &Zone, port: u16, resolution: DnsResolution) -> Proxy {
    let zone = Arc::clone(zone);
    let server = name_server(move |_| zone.lock().unwrap().clone());
    Proxy::start(asking(server), |address| draft(address, port, resolution))
}

#[test]
fn names_are_resolved_before_the_first_request_and_again_when_their_time_is_over() {
    let web = Upstream::echoing_heads();
    let zone = Zone::new(Mutex::new(vec![Ipv4Addr::LOCALHOST]));
    let proxy = gateway(&zone, web.address.port(), DnsResolution::Strict);
    assert_eq!(proxy.connect().get("/").status(), "200");
    // Nobody listens there.
    *zone.lock().unwrap() = vec![Ipv4Addr::new(127, 0, 0, 99)];
    eventually("the new address", || proxy.connect().get("/").status() == "503");
    *zone.lock().unwrap() = vec![Ipv4Addr::new(127, 0, 0, 99), Ipv4Addr::LOCALHOST];
    eventually("both addresses", || proxy.connect().get("/").status() == "200");
}

#[test]
fn the_last_good_addresses_stay_when_the_name_is_gone() {
    let web = Upstream::echoing_heads();
    let zone = Zone::new(Mutex::new(vec![Ipv4Addr::LOCALHOST]));
    let mut proxy = gateway(&zone, web.address.port(), DnsResolution::Logical);
    assert_eq!(proxy.connect().get("/").status(), "200");
    zone.lock().unwrap().clear();
    thread::sleep(Duration::from_millis(2500));
    assert_eq!(proxy.connect().get("/").status(), "200");
    let draft = draft(proxy.address, web.address.port(), DnsResolution::Strict);
    proxy.publish(draft);
    assert_eq!(proxy.connect().get("/").status(), "200");
}

#[test]
fn a_name_that_appears_later_is_served_then() {
    let web = Upstream::echoing_heads();
    let zone = Zone::default();
    let proxy = gateway(&zone, web.address.port(), DnsResolution::Strict);
    assert_eq!(proxy.connect().get("/").text(), "no healthy upstream");
    *zone.lock().unwrap() = vec![Ipv4Addr::LOCALHOST];
    eventually("the name", || proxy.connect().get("/").status() == "200");
}

/// The addresses that the proxy knows of its only cluster.
fn known(proxy: &Proxy) -> Vec<String> {
    let live = proxy.runtime.block_on(proxy.plane.telemetry().clusters());
    let localities = live.localities(&Cluster::new("test", Discovery::Endpoints(Vec::new()))).to_vec();
    let endpoints = localities.iter().flat_map(|locality| &locality.endpoints);
    endpoints.map(|endpoint| endpoint.address.ip().unwrap().to_string()).collect()
}

#[test]
fn one_address_at_a_time_serves_new_connections_and_those_there_are_go_on() {
    let (first, second) = (Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2));
    let slow = |mut client: Client| {
        while client.request_head().is_some() {
            thread::sleep(Duration::from_millis(300));
            client.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
    };
    let a = Upstream::start(slow);
    let b = Upstream::start_at((second, a.address.port()).into(), slow);
    let zone = Zone::new(Mutex::new(vec![first, second]));
    let proxy = gateway(&zone, a.address.port(), DnsResolution::Logical);
    let mut clients = [proxy.connect(), proxy.connect()];
    assert_eq!(clients[0].get("/").status(), "200");
    *zone.lock().unwrap() = vec![second, first];
    eventually("the other address is first", || known(&proxy) == [second.to_string()]);
    assert_eq!(clients[0].get("/").status(), "200");
    assert_eq!((a.connections(), b.connections()), (1, 0), "the connection there is serves");
    clients.iter_mut().for_each(|client| _ = client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n"));
    clients.iter_mut().for_each(|client| assert_eq!(client.answer().status(), "200"));
    assert_eq!((a.connections(), b.connections()), (1, 1), "a new one goes to the new address");
}
