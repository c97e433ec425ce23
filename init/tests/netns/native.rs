//! Native nftables: the same packets meet the same fate as with iptables.

use std::net::SocketAddr;

use crate::harness::{Namespace, injected, namespace_or_skip};
use crate::packets::World;

fn tables(namespace: &Namespace) -> String {
    namespace.run("nft", &["list", "tables"]).ok().stdout
}

#[test]
fn one_transaction_makes_the_tables_and_a_second_run_the_same_again() {
    let namespace = namespace_or_skip!();
    let flags = injected(&["--ipv6", "on", "--native-nftables"]);
    namespace.init(&flags).ok();
    let first = namespace.shell("nft -s list ruleset");
    assert!(first.contains("redirect to :15006") && first.contains("ip6 saddr ::6"), "{first}");
    namespace.init(&flags).ok();
    assert_eq!(namespace.shell("nft -s list ruleset"), first);
    assert!(!namespace.rules().contains("ISTIO"));
    namespace.init(&["--cleanup"]).ok();
    assert_eq!(tables(&namespace), "");
    assert!(!namespace.shell("ip -6 address show dev lo").contains("::6/128"));
}

#[test]
fn other_flags_leave_nothing_of_the_first_behind() {
    let namespace = namespace_or_skip!();
    namespace.init(&["-m", "TPROXY", "-i", "*", "-b", "*", "--ipv6", "on", "--native-nftables"]).ok();
    namespace.init(&injected(&["--ipv6", "on", "--native-nftables"])).ok();
    let rules = namespace.shell("nft -s list ruleset");
    assert!(!rules.contains("tproxy ip") && !rules.contains("1338"), "{rules}");
    assert!(!namespace.shell("ip rule; ip -6 rule").contains("fwmark"));
}

#[test]
fn tables_of_others_stay() {
    let namespace = namespace_or_skip!();
    namespace
        .shell("nft add table inet theirs; nft add chain inet theirs c; nft add rule inet theirs c accept");
    let before = namespace.shell("nft -s list ruleset");
    namespace.init(&injected(&["--ipv6", "on", "--native-nftables"])).ok();
    namespace.init(&["--cleanup"]).ok();
    assert_eq!(namespace.shell("nft -s list ruleset"), before);
}

#[test]
fn a_dry_run_prints_the_script_and_changes_nothing() {
    let namespace = namespace_or_skip!();
    let said = namespace.init(&injected(&["--ipv6", "on", "--native-nftables", "--dry-run"])).ok();
    assert!(said.stdout.starts_with("# nft -f\nadd table inet istio-proxy-nat\n"), "{}", said.stdout);
    assert_eq!(tables(&namespace), "");
    namespace.run("sh", &["-euc", "printf %s \"$0\" | nft -f -", &said.stdout]).ok();
    let by_hand = namespace.shell("nft -s list ruleset");
    namespace.init(&injected(&["--ipv6", "on", "--native-nftables"])).ok();
    assert_eq!(namespace.shell("nft -s list ruleset"), by_hand);
}

#[test]
fn validation_passes_in_both_families() {
    let Some(world) = World::new() else { return };
    let flags = [
        "-u",
        "1337",
        "-i",
        "*",
        "-b",
        "*",
        "--ipv6",
        "on",
        "--redirect-dns",
        "--dns-servers",
        "10.77.0.1,fd00:77::1",
        "--native-nftables",
        "--run-validation",
    ];
    let said = world.pod.init(&flags).ok();
    assert_eq!(said.stdout.matches("passed ").count(), 8, "{}", said.stdout);
}

#[test]
fn tproxy_keeps_the_clients_address() {
    let Some(world) = World::new() else { return };
    world
        .pod
        .init(&["-m", "TPROXY", "-u", "1337", "-i", "*", "-b", "*", "--ipv6", "on", "--native-nftables"])
        .ok();
    for (any, own) in [("0.0.0.0", "10.77.0.2:8080"), ("[::]", "[fd00:77::2]:8080")] {
        let _application = world.pod.start(&format!("application {own}"));
        let _proxy = world.pod.start(&format!("transparent-proxy {any}:15006"));
        let said = world.outside.ask(&format!("ask {own}"));
        let address = |words: &str| {
            let text = said.split_once(words).unwrap().1.split(';').next().unwrap();
            text.trim_end().parse::<SocketAddr>().unwrap().ip()
        };
        assert_eq!(address("application saw "), address("client is "), "{said}");
    }
}

#[test]
fn every_scenario_is_accepted_by_the_kernel() {
    for scenario in
        crate::scenarios::scenarios().iter().filter(|scenario| !crate::scenarios::has_names(scenario))
    {
        let namespace = namespace_or_skip!();
        crate::scenarios::run(&namespace, scenario, &["--native-nftables"], &[]).ok();
        assert!(tables(&namespace).contains("istio-proxy-nat"), "{}", scenario.name);
    }
}

#[test]
fn rules_of_iptables_beside_it_are_warned_of() {
    let namespace = namespace_or_skip!();
    namespace.init(&injected(&["--ipv6", "off"])).ok();
    let said = namespace.init(&injected(&["--ipv6", "off", "--native-nftables"])).ok();
    said.complains(&["iptables holds chains of ours as well"]);
    namespace.init(&["--cleanup"]).ok();
    assert!(!namespace.rules().contains("ISTIO") && !tables(&namespace).contains("istio"));
}

#[test]
fn what_cannot_be_read_back_is_refused() {
    let namespace = namespace_or_skip!();
    namespace.init(&["check", "--native-nftables"]).exits(1).complains(&["nft list ruleset"]);
}
