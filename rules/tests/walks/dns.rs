//! Walks of questions about names, where they are captured.

use rules::purpose::Purpose::*;

use crate::{Setting, app, from, later, outside, proxy, udp};

fn dns() -> Setting {
    Setting::new(&["--redirect-dns", "--dns-servers", "10.77.0.1"])
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
