//! Walks in TPROXY mode.

use rules::packet::Packet;
use rules::purpose::Purpose::*;
use rules::simulate::simulate;

use crate::{OTHER, POD, Setting, app, from, later, out, outside};

fn tproxy() -> Setting {
    Setting::new(&["-m", "TPROXY"])
}

/// In TPROXY mode the proxy runs as user 0.
fn root_proxy(source: &str, destination: &str, by: &str) -> Packet {
    Packet { user: Some(0), group: Some(1337), ..out(source, destination, by) }
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
