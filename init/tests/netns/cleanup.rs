//! Cleaning up: everything of ours, nothing of others.

use crate::harness::{Lock, injected, namespace_or_skip};

/// Rules of others, some of them in the very chains we use.
const OTHERS: &str = "
    iptables -t nat -N KUBE-SERVICES
    iptables -t nat -A OUTPUT -m comment --comment 'kubernetes service portals' -j KUBE-SERVICES
    iptables -t nat -A KUBE-SERVICES -d 10.96.0.1/32 -p tcp --dport 443 -j DNAT --to-destination 10.0.0.1:6443
    iptables -t nat -A PREROUTING -i eth9 -j RETURN
    iptables -t mangle -A PREROUTING -m mark --mark 0x1/0xff -j ACCEPT
    iptables -A INPUT -p icmp -j ACCEPT
    ip6tables -t nat -A OUTPUT -d fd00::1/128 -j ACCEPT
    iptables -t raw -A OUTPUT -d 10.9.0.0/16 -j ACCEPT
    ip6tables -t mangle -A OUTPUT -j ACCEPT";

#[test]
fn exactly_the_rules_of_others_are_left() {
    let namespace = namespace_or_skip!();
    namespace.shell(OTHERS);
    // Tables that do not exist yet would appear as empty ones afterwards.
    namespace.shell("for t in nat mangle raw; do iptables -t $t -S; ip6tables -t $t -S; done >/dev/null");
    let before = tables_with_rules(&namespace.rules());
    for flags in [
        injected(&["--ipv6", "on", "-c", "eth1", "-k", "tap0", "--drop-invalid"]),
        vec![
            "-m",
            "TPROXY",
            "-i",
            "10.0.0.0/8",
            "-b",
            "80",
            "--ipv6",
            "on",
            "--redirect-dns",
            "--capture-all-dns",
        ],
    ] {
        namespace.init(&flags).ok();
        assert_ne!(tables_with_rules(&namespace.rules()), before);
        namespace.init(&["--cleanup"]).ok();
        assert_eq!(tables_with_rules(&namespace.rules()), before);
    }
}

#[test]
fn both_kinds_of_iptables_are_cleaned() {
    let namespace = namespace_or_skip!();
    namespace.init(&injected(&["--ipv6", "on", "--force-iptables-binary", "nft"])).ok();
    let legacy = injected(&["--ipv6", "on", "--force-iptables-binary", "legacy"]);
    let words = ["another kind of rules holds chains of ours", "iptables-nft-restore", "--cleanup"];
    namespace.init(&legacy).ok().complains(&words);
    let said = namespace.init(&[&["check"], &legacy[..]].concat()).exits(3);
    let named = "iptables-nft-restore holds chains of ours as well";
    assert!(said.stdout.contains(named) && !said.stdout.contains("exactly"), "{}", said.stdout);
    let said = namespace.init(&injected(&["--ipv6", "on"])).ok();
    said.complains(&["another kind of rules holds chains of ours"]);
    namespace.init(&["--cleanup"]).ok();
    assert!(!namespace.rules().contains("ISTIO"));
}

#[test]
fn all_that_needs_no_lock_goes_while_somebody_holds_it() {
    let namespace = namespace_or_skip!();
    let before = routes(&namespace);
    let flags = ["-m", "TPROXY", "-b", "*", "--ipv6", "on", "--force-iptables-binary"];
    namespace.init(&[&flags[..], &["nft"]].concat()).ok();
    namespace.init(&[&flags[..], &["legacy"]].concat()).ok();
    let lock = Lock::new();
    let mut holder = lock.hold(&namespace, "exec sleep 60");
    let said = namespace.init_with(&lock.named(), &["--cleanup", "--lock-wait", "300ms"]).exits(1);
    said.complains(&["not everything could be removed", "the lock of iptables", "--lock-wait"]);
    assert_eq!(routes(&namespace), before);
    assert!(!namespace.listing("iptables-nft", "nat").contains("ISTIO"));
    assert!(namespace.listing("iptables-legacy", "nat").contains("ISTIO"));
    holder.kill().unwrap();
    holder.wait().unwrap();
    namespace.init_with(&lock.named(), &["--cleanup"]).ok();
    assert!(!namespace.rules().contains("ISTIO"));
}

#[test]
fn addresses_and_routes_go_whatever_the_flags() {
    let namespace = namespace_or_skip!();
    let before = routes(&namespace);
    namespace.init(&["-m", "TPROXY", "-t", "7", "-r", "300", "-b", "*", "--ipv6", "on"]).ok();
    assert_ne!(routes(&namespace), before);
    namespace.init(&["--cleanup-only"]).ok();
    assert_eq!(routes(&namespace), before);
}

#[test]
fn nothing_to_clean_is_fine() {
    let namespace = namespace_or_skip!();
    namespace.init(&["--cleanup"]).ok().complains(&["nothing of ours found"]);
}

#[test]
fn chains_of_istio_iptables_are_ours_as_well() {
    let namespace = namespace_or_skip!();
    namespace.shell(
        "iptables -t nat -N ISTIO_OUTPUT; iptables -t nat -N ISTIO_OLD; iptables -t nat -A OUTPUT -p tcp -j ISTIO_OUTPUT
         iptables -t nat -A ISTIO_OUTPUT -j ISTIO_OLD; iptables -t nat -A POSTROUTING -j ISTIO_OLD",
    );
    namespace.init(&["--cleanup"]).ok();
    assert!(!namespace.rules().contains("ISTIO"));
}

fn routes(namespace: &crate::harness::Namespace) -> String {
    namespace.shell(
        "ip rule; ip -6 rule; ip route show table all; ip -6 route show table all; ip address show dev lo",
    )
}

/// Without tables that hold nothing: nftables keeps them once they were used.
fn tables_with_rules(rules: &str) -> String {
    let mut kept = String::new();
    for table in rules.split_inclusive("COMMIT\n") {
        if table.contains("\n-A ") {
            kept.push_str(table.trim_start_matches(|c| c != '*'));
        }
    }
    kept
}
