//! Native nftables: the same packets meet the same fate as with iptables.

use std::net::SocketAddr;

use crate::harness::{BINARY, Namespace, injected, namespace_or_skip};
use crate::packets::{World, ipv4_cases, ipv6_cases, patiently};
use crate::scenarios::{has_names, scenarios};

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
    namespace.init(&[&flags[..], &["--force-apply"]].concat()).ok();
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
    assert_eq!(said.stdout.matches("passed ").count(), 9, "{}", said.stdout);
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
fn every_scenario_is_read_back_as_written() {
    for scenario in scenarios().iter().filter(|scenario| !has_names(scenario)) {
        let namespace = namespace_or_skip!();
        let native = ["--native-nftables"];
        crate::scenarios::run(&namespace, scenario, &native, &[]).ok();
        let written = namespace.handles();
        crate::scenarios::run(&namespace, scenario, &native, &["check"]).ok();
        crate::scenarios::run(&namespace, scenario, &native, &[]).ok().complains(&["nothing written"]);
        assert_eq!(namespace.handles(), written, "{}", scenario.name);
        namespace.init(&["--cleanup"]).ok();
        assert_eq!(tables(&namespace), "", "{}", scenario.name);
    }
}

/// The program of Istio is `nft`, and so is that of whoever feeds a dry run by hand: what it writes is what we write.
#[test]
fn every_scenario_written_by_nft_is_read_as_ours() {
    for scenario in scenarios().iter().filter(|scenario| !has_names(scenario)) {
        let by_hand = namespace_or_skip!();
        let by_init = namespace_or_skip!();
        let native = ["--native-nftables"];
        let printed =
            crate::scenarios::run(&by_hand, scenario, &["--native-nftables", "--dry-run"], &[]).ok();
        by_hand.run("sh", &["-euc", "printf %s \"$0\" | nft -f -", &printed.stdout]).ok();
        crate::scenarios::run(&by_init, scenario, &native, &[]).ok();
        let listing = |namespace: &Namespace| namespace.shell("nft -s list ruleset");
        assert_eq!(listing(&by_hand), listing(&by_init), "{}", scenario.name);
        let said =
            crate::scenarios::run(&by_hand, scenario, &["--native-nftables", "-o", "json"], &["check"]);
        let json: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
        assert_eq!(json["chains"], serde_json::json!([]), "{}: {}", scenario.name, said.stdout);
    }
}

#[test]
fn rules_of_iptables_beside_it_are_warned_of() {
    let namespace = namespace_or_skip!();
    namespace.init(&injected(&["--ipv6", "off"])).ok();
    let said = namespace.init(&injected(&["--ipv6", "off", "--native-nftables"])).ok();
    said.complains(&["another kind of rules holds chains of ours", "iptables-nft-restore"]);
    namespace.init(&["--cleanup"]).ok();
    assert!(!namespace.rules().contains("ISTIO") && !tables(&namespace).contains("istio"));
}

#[test]
fn every_change_by_others_is_noticed_and_put_right() {
    let namespace = namespace_or_skip!();
    let flags = ["-u", "1337", "-i", "*", "-b", "*", "--ipv6", "on", "--redirect-dns", "--capture-all-dns"];
    let flags = [&flags[..], &["--native-nftables"]].concat();
    let check = [&["check"], &flags[..]].concat();
    let damages = [
        "h=$(nft -a list chain inet istio-proxy-nat istio-output | sed -n 's/.*jump istio-redirect # handle //p')
         nft delete rule inet istio-proxy-nat istio-output handle $h
         nft insert rule inet istio-proxy-nat istio-output counter jump istio-redirect",
        "nft insert rule inet istio-proxy-nat output tcp dport 22 accept",
        "nft add rule inet istio-proxy-nat istio-output limit rate 5/second accept",
        "nft flush chain inet istio-proxy-raw istio-inbound",
        "nft delete table inet istio-proxy-raw",
        "nft add table inet istio-proxy-nat '{ flags dormant; }'",
        "nft add chain inet istio-proxy-nat istio-else; nft add rule inet istio-proxy-nat istio-else accept",
        "nft flush chain inet istio-proxy-nat output; nft delete chain inet istio-proxy-nat output
         nft add chain inet istio-proxy-nat output '{ type nat hook output priority 5; }'
         nft add rule inet istio-proxy-nat output counter jump istio-output",
    ];
    namespace.init(&flags).ok();
    for damage in damages {
        let whole = namespace.shell("nft -s list ruleset");
        namespace.shell(damage);
        assert_ne!(namespace.shell("nft -s list ruleset"), whole, "{damage}");
        namespace.init(&check).exits(3);
        let refused = [&flags[..], &["--reconcile=false"]].concat();
        namespace.init(&refused).exits(1).complains(&["--reconcile=false forbids"]);
        namespace.init(&flags).ok();
        namespace.init(&check).ok();
        assert_eq!(namespace.shell("nft -s list ruleset"), whole, "{damage}");
    }
}

#[test]
fn a_difference_is_told_in_the_words_of_nft() {
    let namespace = namespace_or_skip!();
    let flags = injected(&["--ipv6", "on", "--native-nftables"]);
    namespace.init(&flags).ok();
    namespace.shell("nft flush chain inet istio-proxy-nat istio-redirect");
    let said = namespace.init(&[&["check"], &flags[..]].concat()).exits(3);
    let lines = "istio-proxy-nat istio-redirect\n  - meta l4proto tcp counter redirect to :15001\n";
    assert!(said.stdout.contains(&format!("IPv4 {lines}")) && said.stdout.contains(&format!("IPv6 {lines}")));
}

#[test]
fn what_holds_the_rules_is_kept_without_being_named_again() {
    let namespace = namespace_or_skip!();
    namespace.init(&injected(&["--ipv6", "on", "--native-nftables"])).ok();
    namespace.init(&[&["check"], &injected(&["--ipv6", "on"])[..]].concat()).ok();
    namespace.init(&injected(&["--ipv6", "on", "-o", "25"])).ok();
    assert!(!namespace.rules().contains("ISTIO"));
    assert!(namespace.shell("nft -s list ruleset").contains("tcp dport 25 counter return"));
}

/// Runs the program where there is neither iptables nor nft.
fn without_programs(namespace: &Namespace, arguments: &[&str]) -> crate::harness::Said {
    let script = "mount -t tmpfs none /usr/sbin; program=$0; exec \"$program\" \"$@\"";
    namespace.run("unshare", &[&["-m", "sh", "-euc", script, BINARY], arguments].concat())
}

#[test]
fn it_is_chosen_where_there_is_no_iptables_and_needs_no_program() {
    let namespace = namespace_or_skip!();
    let flags = injected(&["--ipv6", "on"]);
    without_programs(&namespace, &flags).ok().complains(&["no iptables works here"]);
    without_programs(&namespace, &[&["check"], &flags[..]].concat()).ok();
    assert!(namespace.shell("nft -s list ruleset").contains("redirect to :15006"));
    without_programs(&namespace, &["--cleanup"]).ok();
    assert_eq!(tables(&namespace), "");
}

#[test]
fn killed_at_any_moment_there_is_all_or_nothing() {
    let namespace = namespace_or_skip!();
    let flags = injected(&["--ipv6", "on", "--native-nftables"]);
    namespace.init(&flags).ok();
    let whole = namespace.shell("nft -s list ruleset");
    namespace.init(&["--cleanup"]).ok();
    for delay in 0..20 {
        let mut child =
            namespace.command(BINARY, &flags).stderr(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_micros(delay * 500));
        child.kill().unwrap();
        child.wait().unwrap();
        let held = namespace.shell("nft -s list ruleset");
        assert!(held.is_empty() || held == whole, "killed after {delay} × 0.5 ms: {held}");
        namespace.init(&["--cleanup"]).ok();
    }
}

#[test]
fn the_root_of_a_user_namespace_may_write() {
    let namespace = namespace_or_skip!();
    let script = "ip link set lo up
         \"$0\" -m TPROXY -i '*' -b '*' --ipv6 on --native-nftables
         \"$0\" check -m TPROXY -i '*' -b '*' --ipv6 on --native-nftables";
    let said = namespace.run("unshare", &["-Ur", "unshare", "-n", "sh", "-euc", script, BINARY]).ok();
    assert!(said.stdout.contains("exactly these rules"), "{}", said.stdout);
}

#[test]
fn a_watcher_puts_right_what_is_taken_away() {
    let namespace = namespace_or_skip!();
    let flags = injected(&["--ipv6", "on", "--native-nftables"]);
    let mut watcher = crate::watch::Watcher::start(&namespace, &["--native-nftables"]);
    watcher.says("put right");
    let check = [&["check"], &flags[..]].concat();
    for damage in ["nft flush ruleset", "nft flush chain inet istio-proxy-nat istio-output"] {
        namespace.shell(damage);
        crate::watch::until(|| namespace.init(&check).code == 0);
    }
}

#[test]
fn the_refused_rule_is_shown() {
    let namespace = namespace_or_skip!();
    let capabilities = ["--bounding-set", "-all,+net_raw", "--", BINARY];
    let explain = ["explain", "--live", "--out", "--dst", "10.0.0.7:80", "--native-nftables"];
    namespace.run("setpriv", &[&capabilities[..], &explain].concat()).exits(1).complains(&["NET_ADMIN"]);
}

/// Explains every packet from the kernel's own rules, sends it, and compares what the counters say afterwards.
fn explained_as_met(flags: &[&str]) {
    let Some(world) = World::new() else { return };
    let usual = ["-i", "*", "-b", "*", "-d", "15090,15021,15020", "--ipv6", "on", "--native-nftables"];
    world.pod.init(&[&usual, flags].concat()).ok();
    // Without a listener, nftables passes over its tproxy rules.
    let _listeners =
        ["0.0.0.0", "[::]"].map(|any| world.pod.start(&format!("transparent-listener {any}:15006")));
    let mut captured = 0;
    for case in ipv4_cases().into_iter().chain(ipv6_cases()) {
        let arguments = case.arguments();
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let explain = || -> serde_json::Value {
            let said =
                world.pod.init(&[&["explain", "--live", "-o", "json"], &arguments[..], flags].concat());
            serde_json::from_str(&said.ok().stdout).unwrap()
        };
        let before = explain();
        let moved = |after: &serde_json::Value, index: usize| {
            before["visits"][index]["packets"] != after["visits"][index]["packets"]
        };
        let visits = before["visits"].as_array().unwrap();
        let met: Vec<_> = (0..visits.len()).filter(|index| visits[*index]["outcome"] == "met").collect();
        let foretold = |after: &serde_json::Value| met.iter().all(|index| moved(after, *index));
        let sent = || {
            world.send(&case);
            patiently(|| {
                let after = explain();
                (foretold(&after), after)
            })
        };
        // The port that the kernel chooses may be that of a connection it still tracks, which asks no nat rule again.
        let after = Some(sent()).filter(foretold).unwrap_or_else(sent);
        for (index, visit) in visits.iter().enumerate() {
            // Elsewhere answers pass as well, and may meet what the packet did not.
            let exact = met.contains(&index) || visit["table"] == "istio-proxy-nat";
            assert!(
                !exact || moved(&after, index) == met.contains(&index),
                "{flags:?}: foretold otherwise: {visit} of {before}"
            );
        }
        captured += usize::from(before["verdict"]["port"].is_number());
    }
    assert!(captured >= 4, "{flags:?}: hardly anything was captured");
}

#[test]
fn live_explanations_agree_with_the_kernel() {
    explained_as_met(&["-u", "1337", "-g", "1337"]);
    explained_as_met(&["-m", "TPROXY", "-u", "1337", "-g", "1337"]);
    explained_as_met(&["-i", "10.77.0.0/28,fd00::/8", "-x", "10.77.0.1/32", "-q", "3306", "-o", "8080"]);
    explained_as_met(&[
        "--redirect-dns",
        "--dns-servers",
        "10.77.0.1,127.0.0.53",
        "-c",
        "net1",
        "--drop-invalid",
    ]);
}
