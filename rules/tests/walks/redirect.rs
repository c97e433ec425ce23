//! Walks of a pod without special settings, and with exclusions.

use rules::packet::Packet;
use rules::purpose::Purpose::*;

use crate::{OTHER, Setting, app, from, out, outside, proxy, udp};

fn redirect() -> Setting {
    Setting::new(&[])
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
