//! Packets with a known fate: the walks that the rules are designed for, each checked rule by rule.
#![expect(clippy::unwrap_used, reason = "a test that cannot build its packet should stop")]

use std::collections::BTreeMap;

use rules::build::{Facts, build};
use rules::flags::{FLAGS, RawSettings};
use rules::packet::{Direction, Packet};
use rules::ports::PROXY_ID;
use rules::program::Ipv6;
use rules::purpose::Purpose::{self, *};
use rules::ruleset::{ConnectionState, Family, Protocol, RuleSet};
use rules::settings::{InterceptionMode, Settings};
use rules::simulate::{LocalDelivery, Outcome, Walk, simulate};

const POD: &str = "10.77.0.2";
const OTHER: &str = "10.77.0.9:80";

/// The rules for these flags, and the delivery that goes with them.
struct Setting {
    rules: RuleSet,
    delivery: Option<LocalDelivery>,
}

impl Setting {
    fn new(more: &[&str]) -> Self {
        let usual = [
            "-p",
            "15001",
            "-z",
            "15006",
            "-u",
            "1337",
            "-g",
            "1337",
            "-i",
            "*",
            "-b",
            "*",
            "-d",
            "15090,15021,15020",
        ];
        let arguments: Vec<_> = usual.iter().chain(more).map(|text| (*text).to_owned()).collect();
        let (raw, problems) = RawSettings::scan(&arguments, &BTreeMap::new(), FLAGS);
        assert_eq!(problems, []);
        let (mut settings, options) = Settings::read(&raw).unwrap();
        settings.fill_owners(PROXY_ID);
        let dns_servers = options.dns_servers.unwrap_or_default();
        let delivery = (settings.mode == InterceptionMode::Tproxy)
            .then_some(LocalDelivery { mark: settings.tproxy_mark, table: settings.tproxy_route_table });
        let program = build(&settings, &Facts { ipv6: Ipv6::On, dns_servers });
        Self { rules: program.rule_set(Family::V4), delivery }
    }

    /// Walks the packet, and compares the verdict and the purposes of the rules met.
    #[track_caller]
    fn walks(&self, packet: &Packet, met: &[Purpose], verdict: &str) {
        let walk = simulate(packet, &self.rules, self.delivery.as_slice());
        assert_eq!(walk.to_string(), verdict, "{packet}");
        assert_eq!(purposes_met(&walk), met, "{packet}");
    }
}

fn purposes_met(walk: &Walk<'_>) -> Vec<Purpose> {
    let met = walk.visits.iter().filter(|visit| visit.outcome == Outcome::Met);
    met.map(|visit| visit.rule.purpose.unwrap()).collect()
}

fn redirect() -> Setting {
    Setting::new(&[])
}

fn dns() -> Setting {
    Setting::new(&["--redirect-dns", "--dns-servers", "10.77.0.1"])
}

fn tproxy() -> Setting {
    Setting::new(&["-m", "TPROXY"])
}

fn out(source: &str, destination: &str, by: &str) -> Packet {
    let source = format!("{source}:40000").parse().unwrap();
    let packet = Packet::new(Direction::Out, Protocol::Tcp, source, destination.parse().unwrap());
    Packet { out_interface: Some(by.to_owned()), ..packet }
}

fn app(destination: &str, by: &str) -> Packet {
    Packet { user: Some(1000), group: Some(1000), ..out(POD, destination, by) }
}

fn proxy(destination: &str, by: &str) -> Packet {
    Packet { user: Some(1337), group: Some(1337), ..out(POD, destination, by) }
}

/// In TPROXY mode the proxy runs as user 0.
fn root_proxy(source: &str, destination: &str, by: &str) -> Packet {
    Packet { user: Some(0), group: Some(1337), ..out(source, destination, by) }
}

fn outside(destination: &str) -> Packet {
    let source = "10.77.0.9:40000".parse().unwrap();
    let packet = Packet::new(Direction::In, Protocol::Tcp, source, destination.parse().unwrap());
    Packet { in_interface: Some("eth0".to_owned()), ..packet }
}

fn udp(packet: Packet) -> Packet {
    Packet { protocol: Protocol::Udp, ..packet }
}

fn from(source: &str, packet: Packet) -> Packet {
    Packet { source: source.parse().unwrap(), ..packet }
}

fn later(packet: Packet) -> Packet {
    Packet { state: ConnectionState::Established, ..packet }
}

#[test]
fn walk_01_application_to_another_host() {
    redirect().walks(
        &app(OTHER, "eth0"),
        &[EnterOutbound, CaptureOutbound, ToOutboundPort],
        "REDIRECT to port 15001",
    );
}

#[test]
fn walk_02_application_to_loopback() {
    redirect().walks(
        &app("127.0.0.1:8080", "lo"),
        &[EnterOutbound, ApplicationLoopback],
        "RETURN (not intercepted)",
    );
}

#[test]
fn walk_03_application_to_its_own_pod() {
    redirect().walks(
        &app("10.77.0.2:8080", "lo"),
        &[EnterOutbound, ApplicationLoopback],
        "RETURN (not intercepted)",
    );
}

#[test]
fn walk_04_proxy_to_another_host() {
    redirect().walks(&proxy(OTHER, "eth0"), &[EnterOutbound, ProxyTraffic], "RETURN (not intercepted)");
}

#[test]
fn walk_05_proxy_to_its_own_pod() {
    redirect().walks(
        &proxy("10.77.0.2:8080", "lo"),
        &[EnterOutbound, ProxyCallsItself, ToInboundPort],
        "REDIRECT to port 15006",
    );
}

#[test]
fn walk_06_inbound_passthrough() {
    let packet = from("127.0.0.6:40000", proxy("10.77.0.2:8080", "lo"));
    redirect().walks(&packet, &[EnterOutbound, Passthrough], "RETURN (not intercepted)");
}

#[test]
fn walk_07_proxy_to_its_own_tunnel() {
    redirect().walks(
        &proxy("10.77.0.2:15008", "lo"),
        &[EnterOutbound, ProxyTraffic],
        "RETURN (not intercepted)",
    );
}

#[test]
fn walk_08_proxy_to_loopback() {
    redirect().walks(
        &proxy("127.0.0.1:8080", "lo"),
        &[EnterOutbound, ProxyTraffic],
        "RETURN (not intercepted)",
    );
}

#[test]
fn walk_09_proxy_to_another_loopback_address() {
    redirect().walks(
        &proxy("127.0.0.2:8080", "lo"),
        &[EnterOutbound, ProxyCallsItself, ToInboundPort],
        "REDIRECT to port 15006",
    );
}

#[test]
fn walk_10_outside_to_the_pod() {
    redirect().walks(
        &outside("10.77.0.2:8080"),
        &[EnterInbound, CaptureInbound, ToInboundPort],
        "REDIRECT to port 15006",
    );
}

#[test]
fn walk_11_outside_to_the_tunnel() {
    redirect().walks(&outside("10.77.0.2:15008"), &[EnterInbound, InboundTunnel], "RETURN (not intercepted)");
}

#[test]
fn walk_12_outside_to_the_control_ports() {
    for port in [15020, 15021, 15090] {
        let packet = outside(&format!("10.77.0.2:{port}"));
        redirect().walks(&packet, &[EnterInbound, ExcludedInboundPort], "RETURN (not intercepted)");
    }
}

#[test]
fn walk_13_proxy_group_to_another_host() {
    let packet = Packet { group: Some(1337), ..app(OTHER, "eth0") };
    redirect().walks(&packet, &[EnterOutbound, ProxyTraffic], "RETURN (not intercepted)");
}

#[test]
fn walk_14_proxy_group_to_its_own_pod() {
    let packet = Packet { group: Some(1337), ..app("10.77.0.2:8080", "lo") };
    redirect().walks(&packet, &[EnterOutbound, ApplicationLoopback], "RETURN (not intercepted)");
}

#[test]
fn walk_15_validator_as_the_proxy() {
    redirect().walks(
        &from("127.0.0.1:40000", proxy("127.0.0.6:15002", "lo")),
        &[EnterOutbound, ProxyCallsItself, ToInboundPort],
        "REDIRECT to port 15006",
    );
}

#[test]
fn walk_16_validator_as_root() {
    let packet = Packet { user: Some(0), group: Some(0), ..out("127.0.0.1", "127.0.0.6:15002", "lo") };
    redirect().walks(&packet, &[EnterOutbound, ApplicationLoopback], "RETURN (not intercepted)");
}

#[test]
fn walk_17_application_to_another_host_by_udp() {
    redirect().walks(&udp(app(OTHER, "eth0")), &[EnterOutbound, CaptureOutbound], "RETURN (not intercepted)");
}

#[test]
fn walk_18_capture_ports_themselves_are_captured() {
    let inbound = [EnterInbound, CaptureInbound, ToInboundPort];
    redirect().walks(&outside("10.77.0.2:15006"), &inbound, "REDIRECT to port 15006");
    let outbound = [EnterOutbound, CaptureOutbound, ToOutboundPort];
    redirect().walks(&app("10.77.0.9:15001", "eth0"), &outbound, "REDIRECT to port 15001");
}

#[test]
fn walk_19_application_to_an_excluded_destination() {
    let setting = Setting::new(&["-x", "10.77.0.0/28"]);
    setting.walks(&app(OTHER, "eth0"), &[EnterOutbound, ExcludedDestination], "RETURN (not intercepted)");
}

#[test]
fn walk_20_application_to_an_excluded_port() {
    let setting = Setting::new(&["-o", "3306"]);
    let met = [EnterOutbound, ExcludedOutboundPort];
    setting.walks(&app("10.77.0.9:3306", "eth0"), &met, "RETURN (not intercepted)");
    setting.walks(&proxy("10.77.0.9:3306", "eth0"), &met, "RETURN (not intercepted)");
}

#[test]
fn walk_21_inbound_by_the_interface_of_a_virtual_machine() {
    let setting = Setting::new(&["-k", "tap0"]);
    let packet = Packet { in_interface: Some("tap0".to_owned()), ..outside(OTHER) };
    setting.walks(&packet, &[VirtualMachineOutbound, ToOutboundPort], "REDIRECT to port 15001");
}

#[test]
fn walk_22_anything_on_an_excluded_interface() {
    let setting = Setting::new(&["-c", "eth0"]);
    setting.walks(&outside("10.77.0.2:8080"), &[ExcludedInterface], "RETURN (not intercepted)");
    setting.walks(&app(OTHER, "eth0"), &[ExcludedInterface], "RETURN (not intercepted)");
}

#[test]
fn walk_23_application_asks_the_resolver() {
    dns().walks(
        &udp(app("10.77.0.1:53", "eth0")),
        &[EnterDns, ApplicationProxyZone, EnterOutbound, EnterDns, ToDnsPort],
        "REDIRECT to port 15053, zone 2",
    );
}

#[test]
fn walk_24_proxy_asks_the_resolver() {
    dns().walks(
        &udp(proxy("10.77.0.1:53", "eth0")),
        &[EnterDns, ProxyResolverZone, ProxyResolverZone, ApplicationProxyZone, EnterOutbound, ProxyTraffic],
        "RETURN (not intercepted), zone 1",
    );
}

#[test]
fn walk_25_proxy_answers_the_application() {
    let packet = from("127.0.0.1:15053", proxy("127.0.0.1:40000", "lo"));
    let met = [EnterDns, ApplicationProxyZone, ApplicationProxyZone, EnterDns];
    dns().walks(&later(udp(packet)), &met, "ACCEPT, zone 2");
}

#[test]
fn walk_26_resolver_answers_the_proxy() {
    let packet = from("10.77.0.1:53", outside("10.77.0.2:40000"));
    dns().walks(&later(udp(packet)), &[EnterDns, ProxyResolverZone], "ACCEPT, zone 1");
}

#[test]
fn walk_27_application_asks_another_server() {
    dns().walks(
        &udp(app("10.77.0.77:53", "eth0")),
        &[EnterDns, EnterOutbound, EnterDns, CaptureOutbound],
        "RETURN (not intercepted)",
    );
}

#[test]
fn walk_28_application_asks_the_resolver_by_tcp() {
    dns().walks(
        &app("10.77.0.1:53", "eth0"),
        &[EnterDns, EnterOutbound, EnterDns, ToDnsPort],
        "REDIRECT to port 15053",
    );
}

#[test]
fn walk_29_application_asks_a_resolver_on_loopback() {
    let setting = Setting::new(&["--redirect-dns", "--dns-servers", "127.0.0.53"]);
    let query = from("127.0.0.1:40000", app("127.0.0.53:53", "lo"));
    let met = [EnterDns, EnterOutbound, EnterDns, ToDnsPort];
    setting.walks(&query, &met, "REDIRECT to port 15053");
    let met = [EnterDns, ApplicationProxyZone, EnterOutbound, EnterDns, ToDnsPort];
    setting.walks(&udp(query), &met, "REDIRECT to port 15053, zone 2");
}

#[test]
fn walk_30_outside_to_the_pod_by_tproxy() {
    tproxy().walks(
        &outside("10.77.0.2:8080"),
        &[EnterInbound, CaptureInbound, ToTransparentSocket],
        "TPROXY to port 15006 mark 1337",
    );
}

#[test]
fn walk_31_later_packets_by_tproxy() {
    tproxy().walks(
        &later(outside("10.77.0.2:8080")),
        &[EnterInbound, DivertEstablished, MarkForProxy, DivertEstablished],
        "ACCEPT, mark 1337 delivered to lo by table 133",
    );
}

#[test]
fn walk_32_outside_to_a_control_port_by_tproxy() {
    tproxy().walks(
        &outside("10.77.0.2:15021"),
        &[EnterInbound, ExcludedInboundPort],
        "RETURN (not intercepted)",
    );
}

#[test]
fn walk_33_outside_to_the_tunnel_by_tproxy() {
    tproxy().walks(
        &outside("10.77.0.2:15008"),
        &[EnterInbound, CaptureInbound, ToTransparentSocket],
        "TPROXY to port 15006 mark 1337",
    );
}

#[test]
fn walk_34_application_to_its_own_pod_by_tproxy() {
    tproxy().walks(
        &app("10.77.0.2:8080", "lo"),
        &[EnterOutbound, ApplicationLoopback, EnterInbound, ApplicationLoopback],
        "RETURN (not intercepted)",
    );
}

#[test]
fn walk_35_proxy_to_its_own_pod_by_tproxy() {
    tproxy().walks(
        &root_proxy(POD, "10.77.0.2:8080", "lo"),
        &[
            MarkProxyLoop,
            EnterOutbound,
            ApplicationLoopback,
            EnterInbound,
            CaptureInbound,
            ToTransparentSocket,
        ],
        "TPROXY to port 15006 mark 1337",
    );
}

#[test]
fn walk_36_inbound_passthrough_by_tproxy() {
    tproxy().walks(
        &root_proxy("127.0.0.6", "10.77.0.2:8080", "lo"),
        &[MarkProxyLoop, EnterOutbound, Passthrough, EnterInbound, Passthrough],
        "RETURN (not intercepted)",
    );
}

#[test]
fn walk_37_proxy_speaks_as_the_client() {
    let packet = Packet { mark: 1337, ..root_proxy("10.77.0.9", "10.77.0.2:8080", "lo") };
    let setting = tproxy();
    let walk = simulate(&packet, &setting.rules, setting.delivery.as_slice());
    assert_eq!(walk.connection_mark, 1337);
    setting.walks(
        &packet,
        &[ProxySpoke, EnterOutbound, ApplicationLoopback, EnterInbound, ProxySpoke, RememberMark],
        "RETURN (not intercepted), mark 1337 delivered to lo by table 133",
    );
}

#[test]
fn walk_38_application_answers_the_proxy_speaking_as_the_client() {
    let packet = Packet { connection_mark: 1337, ..app("10.77.0.9:40000", "eth0") };
    tproxy().walks(
        &later(from("10.77.0.2:8080", packet)),
        &[RecallMark, EnterInbound, ProxySpoke, RememberMark],
        "ACCEPT, mark 1337 delivered to lo by table 133",
    );
}

#[test]
fn walk_39_application_to_another_host_with_tproxy() {
    tproxy().walks(
        &app(OTHER, "eth0"),
        &[EnterOutbound, CaptureOutbound, ToOutboundPort],
        "REDIRECT to port 15001",
    );
}
