//! Installing: the rules of the reference, nothing written twice, nothing doubled.

use crate::harness::{BINARY, injected, namespace_or_skip};

/// The nat table that istio-iptables is known for, with what has come since: the tunnel port in the proxy's calls to
/// itself, and the jump for every protocol.
const LISTING: &str = "\
-P PREROUTING ACCEPT
-P INPUT ACCEPT
-P OUTPUT ACCEPT
-P POSTROUTING ACCEPT
-N ISTIO_INBOUND
-N ISTIO_IN_REDIRECT
-N ISTIO_OUTPUT
-N ISTIO_REDIRECT
-A PREROUTING -p tcp -j ISTIO_INBOUND
-A OUTPUT -j ISTIO_OUTPUT
-A ISTIO_INBOUND -p tcp -m tcp --dport 15008 -j RETURN
-A ISTIO_INBOUND -p tcp -m tcp --dport 15090 -j RETURN
-A ISTIO_INBOUND -p tcp -m tcp --dport 15021 -j RETURN
-A ISTIO_INBOUND -p tcp -m tcp --dport 15020 -j RETURN
-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT
-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006
-A ISTIO_OUTPUT -s 127.0.0.6/32 -o lo -j RETURN
-A ISTIO_OUTPUT ! -d 127.0.0.1/32 -o lo -p tcp -m tcp ! --dport 15008 -m owner --uid-owner 1337 -j ISTIO_IN_REDIRECT
-A ISTIO_OUTPUT -o lo -m owner ! --uid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -m owner --uid-owner 1337 -j RETURN
-A ISTIO_OUTPUT ! -d 127.0.0.1/32 -o lo -p tcp -m tcp ! --dport 15008 -m owner --gid-owner 1337 -j ISTIO_IN_REDIRECT
-A ISTIO_OUTPUT -o lo -m owner ! --gid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -m owner --gid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -d 127.0.0.1/32 -j RETURN
-A ISTIO_OUTPUT -j ISTIO_REDIRECT
-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001
";

fn listing_v6() -> String {
    LISTING.replace("127.0.0.6/32", "::6/128").replace("127.0.0.1/32", "::1/128")
}

#[test]
fn injected_flags_give_the_known_listing() {
    let namespace = namespace_or_skip!();
    namespace.init(&injected(&["--ipv6", "on"])).ok();
    assert_eq!(namespace.listing("iptables", "nat"), LISTING);
    assert_eq!(namespace.listing("ip6tables", "nat"), listing_v6());
    assert!(namespace.shell("ip -6 address show dev lo").contains("::6/128"));
}

#[test]
fn legacy_gets_the_same_listing() {
    let namespace = namespace_or_skip!();
    namespace.init(&injected(&["--ipv6", "on", "--force-iptables-binary", "legacy"])).ok();
    assert_eq!(namespace.listing("iptables-legacy", "nat"), LISTING);
    assert_eq!(namespace.listing("ip6tables-legacy", "nat"), listing_v6());
}

#[test]
fn the_name_istio_gives_the_command_is_accepted() {
    let namespace = namespace_or_skip!();
    let arguments = [&["istio-iptables"], &injected(&["--ipv6", "off"])[..]].concat();
    namespace.init(&arguments).ok();
    assert_eq!(namespace.listing("iptables", "nat"), LISTING);
}

#[test]
fn a_second_run_writes_nothing() {
    let namespace = namespace_or_skip!();
    namespace.init(&injected(&["--ipv6", "on"])).ok();
    let before = namespace.handles();
    let said = namespace.init(&injected(&["--ipv6", "on"])).ok();
    said.complains(&["nothing written"]);
    assert_eq!(namespace.handles(), before);
    namespace.init(&injected(&["--ipv6", "on", "--force-apply"])).ok();
    assert_ne!(namespace.handles(), before);
    assert_eq!(namespace.listing("iptables", "nat"), LISTING);
}

#[test]
fn other_flags_replace_without_doubling() {
    let namespace = namespace_or_skip!();
    namespace
        .init(&["-i", "10.0.0.0/8", "-b", "80", "-c", "eth9", "-k", "tap0", "--drop-invalid", "--ipv6", "on"])
        .ok();
    namespace.init(&injected(&["--ipv6", "off"])).ok();
    assert_eq!(namespace.listing("iptables", "nat"), LISTING);
    assert!(!namespace.rules().contains("ISTIO_DROP"));
    assert!(!namespace.listing("ip6tables", "nat").contains("ISTIO"));
}

#[test]
fn a_moved_rule_is_noticed_and_put_right() {
    let namespace = namespace_or_skip!();
    namespace.init(&injected(&["--ipv6", "off"])).ok();
    namespace.shell(
        "iptables -t nat -D ISTIO_OUTPUT -j ISTIO_REDIRECT; iptables -t nat -I ISTIO_OUTPUT 1 -j ISTIO_REDIRECT",
    );
    let said = namespace.init(&[&["check"], &injected(&["--ipv6", "off"])[..]].concat()).exits(3);
    assert!(said.stdout.contains("  - -j ISTIO_REDIRECT") && said.stdout.contains("  + -j ISTIO_REDIRECT"));
    namespace.init(&injected(&["--ipv6", "off"])).ok();
    assert_eq!(namespace.listing("iptables", "nat"), LISTING);
}

#[test]
fn a_check_as_json_tells_the_same() {
    let namespace = namespace_or_skip!();
    namespace.init(&injected(&["--ipv6", "off"])).ok();
    let check = [&["check", "-o", "json"], &injected(&["--ipv6", "off"])[..]].concat();
    let json = |said: crate::harness::Said| serde_json::from_str::<serde_json::Value>(&said.stdout).unwrap();
    assert_eq!(json(namespace.init(&check).ok())["same"], true);
    namespace.shell(
        "iptables -t nat -D ISTIO_OUTPUT -j ISTIO_REDIRECT; iptables -t nat -I OUTPUT -p tcp -j RETURN",
    );
    let said = namespace.init(&check).exits(3);
    assert!(said.stderr.contains("stands before ours"), "{}", said.stderr);
    let found = json(said);
    assert_eq!(found["chains"][0]["chain"], "ISTIO_OUTPUT");
    let rules = found["chains"][0]["rules"].as_array().unwrap();
    assert_eq!(rules.last().unwrap(), &serde_json::json!({ "state": "wanted", "rule": "-j ISTIO_REDIRECT" }));
}

#[test]
fn an_application_that_shares_the_proxys_user_is_noticed() {
    let namespace = namespace_or_skip!();
    namespace.init(&injected(&["--ipv6", "off", "-u", "1337"])).ok();
    let check = [&["check"], &injected(&["--ipv6", "off"])[..]].concat();
    let _proxy = namespace.start("listen 1337 127.0.0.1:15001");
    assert!(!namespace.init(&check).ok().stderr.contains("run it as another user"));
    let _application = namespace.start("listen 1337 127.0.0.1:8080");
    namespace.init(&check).ok().complains(&["port=8080", "run it as another user"]);
}

#[test]
fn every_rule_taken_out_is_noticed() {
    let namespace = namespace_or_skip!();
    let check = [&["check"], &injected(&["--ipv6", "off"])[..]].concat();
    for line in LISTING.lines().filter(|line| line.starts_with("-A")) {
        namespace.init(&injected(&["--ipv6", "off"])).ok();
        namespace.init(&check).ok();
        namespace.shell(&format!("iptables -t nat {}", line.replacen("-A", "-D", 1)));
        namespace.init(&check).exits(3);
    }
}

#[test]
fn reconcile_false_reports_and_leaves_things_alone() {
    let namespace = namespace_or_skip!();
    namespace.init(&injected(&["--ipv6", "off"])).ok();
    let before = namespace.rules();
    let said = namespace.init(&["-i", "*", "--ipv6", "on", "--reconcile=false"]).exits(1);
    said.complains(&["--reconcile=false", "ISTIO_INBOUND"]);
    assert_eq!(namespace.rules(), before);
    assert!(!namespace.shell("ip -6 address show dev lo").contains("::6/128"));
}

#[test]
fn rules_of_others_stay_where_they_are_and_are_named_when_they_shadow_ours() {
    let namespace = namespace_or_skip!();
    namespace.shell("iptables -t nat -A OUTPUT -p tcp --dport 22 -m comment --comment 'not ours' -j ACCEPT");
    let said = namespace.init(&injected(&["--ipv6", "off"])).ok();
    said.complains(&["stands before ours", "--dport 22"]);
    namespace.init(&injected(&["--ipv6", "off", "-o", "25"])).ok();
    let output = namespace.listing("iptables", "nat");
    let lines: Vec<_> = output.lines().filter(|line| line.starts_with("-A OUTPUT")).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains("not ours") && lines[1].ends_with("-j ISTIO_OUTPUT"));
}

#[test]
fn auto_finds_ipv6_on_an_interface_but_not_on_loopback() {
    let namespace = namespace_or_skip!();
    namespace.shell("ip -6 address add ::6/128 dev lo");
    namespace.init(&injected(&[])).ok();
    assert!(!namespace.listing("ip6tables", "nat").contains("ISTIO"));
    namespace.shell(
        "ip link add veth9 type veth peer name veth8; ip link set veth9 up; ip link set veth8 up
         ip -6 address add fd00:77::2/64 dev veth9 nodad",
    );
    namespace.init(&injected(&[])).ok();
    assert_eq!(namespace.listing("ip6tables", "nat"), listing_v6());
}

#[test]
fn another_namespace_can_be_named() {
    let here = namespace_or_skip!();
    let there = namespace_or_skip!();
    let path = there.path();
    let named = ["--ipv6", "on", "--network-namespace", path.to_str().unwrap()];
    here.init(&injected(&named)).ok();
    assert!(!here.rules().contains("ISTIO"));
    assert_eq!(there.listing("iptables", "nat"), LISTING);
    here.init(&[&["--cleanup"], &named[2..]].concat()).ok();
    assert!(!there.rules().contains("ISTIO"));
}

fn one_port(port: &str) -> [&str; 6] {
    ["-i", "*", "-b", port, "--ipv6", "off"]
}

#[test]
fn runs_at_the_same_time_leave_one_whole_result() {
    let namespace = namespace_or_skip!();
    let ports: Vec<_> = (1..=8).map(|port: u32| port.to_string()).collect();
    let children: Vec<_> = ports
        .iter()
        .map(|port| {
            namespace.command(BINARY, &one_port(port)).stderr(std::process::Stdio::null()).spawn().unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let same = |port: &&String| namespace.init(&[&["check"], &one_port(port)[..]].concat()).code == 0;
    assert_eq!(ports.iter().filter(same).count(), 1, "{}", namespace.rules());
}

#[test]
fn a_read_only_root_is_enough() {
    for backend in ["nft", "legacy"] {
        let namespace = namespace_or_skip!();
        let script = "mount --bind / /
             mount -o remount,ro,bind /
             mount -t tmpfs -o ro none /run
             exec \"$0\" -i '*' -b '*' --ipv6 on --force-iptables-binary $1";
        namespace.run("unshare", &["-m", "sh", "-euc", script, BINARY, backend]).ok();
        assert!(namespace.listing(&format!("iptables-{backend}"), "nat").contains("ISTIO_OUTPUT"));
    }
}
