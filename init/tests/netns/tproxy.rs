//! TPROXY: routes beside the rules, once each, in both families.

use crate::harness::namespace_or_skip;

const FLAGS: [&str; 8] = ["-m", "TPROXY", "-i", "*", "-b", "*", "--ipv6", "on"];

#[test]
fn routes_are_added_once_however_often_it_runs() {
    let namespace = namespace_or_skip!();
    for _ in 0..3 {
        namespace.init(&FLAGS).ok();
    }
    for family in ["-4", "-6"] {
        let rules = namespace.run("ip", &[family, "rule"]).ok().stdout;
        assert_eq!(rules.matches("fwmark 0x539 lookup 133").count(), 1, "{rules}");
        let from_loopback = usize::from(family == "-4");
        assert_eq!(rules.matches("from 127.0.0.1 ipproto tcp lookup 133").count(), from_loopback, "{rules}");
        let routes = namespace.run("ip", &[family, "route", "show", "table", "133"]).ok().stdout;
        assert_eq!(routes.matches("local default dev lo").count(), 1, "{routes}");
    }
}

#[test]
fn a_rule_of_istio_iptables_is_not_doubled() {
    let namespace = namespace_or_skip!();
    namespace.shell("ip rule add fwmark 1337 lookup 133; ip route add local default dev lo table 133");
    namespace.init(&FLAGS).ok();
    let rules = namespace.run("ip", &["rule"]).ok().stdout;
    assert_eq!(rules.matches("fwmark 0x539 lookup 133").count(), 1, "{rules}");
}

#[test]
fn another_mark_keeps_the_route_of_its_table() {
    let namespace = namespace_or_skip!();
    namespace.init(&FLAGS).ok();
    let other = [&FLAGS[..], &["-t", "7"]].concat();
    namespace.init(&other).ok();
    namespace.init(&[&["check"], &other[..]].concat()).ok();
}

#[test]
fn no_inbound_capture_needs_no_routes() {
    let namespace = namespace_or_skip!();
    namespace.init(&["-m", "TPROXY", "-i", "*", "--ipv6", "off"]).ok();
    assert!(!namespace.shell("ip rule").contains("fwmark"));
}

#[test]
fn check_notices_what_is_missing_beside_the_rules() {
    let namespace = namespace_or_skip!();
    namespace.init(&FLAGS).ok();
    let check = [&["check"], &FLAGS[..]].concat();
    namespace.init(&check).ok();
    for (removal, line) in [
        ("ip rule del fwmark 1337 lookup 133", "- ip -4 rule add fwmark 1337 lookup 133"),
        (
            "ip rule del from 127.0.0.1 ipproto tcp lookup 133",
            "- ip -4 rule add from 127.0.0.1 ipproto tcp lookup 133",
        ),
        ("ip -6 rule del fwmark 1337 lookup 133", "- ip -6 rule add fwmark 1337 lookup 133"),
        ("ip route flush table 133", "- ip -4 route add local default dev lo table 133"),
        ("ip -6 route flush table 133", "- ip -6 route add local default dev lo table 133"),
        ("ip -6 address del ::6/128 dev lo", "- ip -6 address add ::6/128 dev lo"),
    ] {
        namespace.shell(removal);
        let said = namespace.init(&check).exits(3);
        assert!(said.stdout.contains(line), "{removal}: {}", said.stdout);
        namespace.init(&FLAGS).ok();
        namespace.init(&check).ok();
    }
}

#[test]
fn other_marks_and_modes_leave_no_routes_behind() {
    let namespace = namespace_or_skip!();
    namespace.init(&[&FLAGS[..], &["-t", "7", "-r", "300"]].concat()).ok();
    let said = namespace.init(&[&["check"], &FLAGS[..]].concat()).exits(3);
    assert!(said.stdout.contains("+ ip -4 rule add fwmark 7 lookup 300"), "{}", said.stdout);
    namespace.init(&FLAGS).ok();
    assert!(!namespace.shell("ip rule; ip -6 rule").contains("lookup 300"));
    namespace.init(&["-i", "*", "-b", "*", "--ipv6", "off"]).ok();
    let rules = namespace.shell("ip rule; ip -6 rule");
    assert!(!rules.contains("fwmark") && !rules.contains("ipproto"), "{rules}");
}
