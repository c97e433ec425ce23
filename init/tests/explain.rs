//! `explain` on the command line: the packets whose fate the rules are designed for, as text and as JSON.
#![expect(clippy::unwrap_used, reason = "a test whose program does not run should stop")]

use std::process::{Command, Output};

const USUAL: &str =
    "-p 15001 -z 15006 -u 1337 -g 1337 -i * -b * -d 15090,15021,15020 --ipv6 off --log-level error";
const DNS: &str = "--redirect-dns --dns-servers 10.77.0.1";
const LOCAL_DNS: &str = "--redirect-dns --dns-servers 127.0.0.53";
const TPROXY: &str = "-m TPROXY";

const APP: &str = "--uid 1000 --gid 1000";
const PROXY: &str = "--uid 1337 --gid 1337";
const ROOT_PROXY: &str = "--uid 0 --gid 1337";

/// Number, flags beside the usual ones, sender, packet, verdict.
type Walk = (u32, &'static str, &'static str, &'static str, &'static str);

const WALKS: &[Walk] = &[
    (1, "", APP, "--out --dst 10.77.0.9:80 --oif eth0", "REDIRECT to port 15001"),
    (2, "", APP, "--out --dst 127.0.0.1:8080", "RETURN (not intercepted)"),
    (3, "", APP, "--out --src 10.77.0.2:4 --dst 10.77.0.2:8080", "RETURN (not intercepted)"),
    (4, "", PROXY, "--out --dst 10.77.0.9:80 --oif eth0", "RETURN (not intercepted)"),
    (5, "", PROXY, "--out --src 10.77.0.2:4 --dst 10.77.0.2:8080", "REDIRECT to port 15006"),
    (6, "", PROXY, "--out --src 127.0.0.6:4 --dst 10.77.0.2:8080 --oif lo", "RETURN (not intercepted)"),
    (7, "", PROXY, "--out --dst 10.77.0.2:15008 --oif lo", "RETURN (not intercepted)"),
    (8, "", PROXY, "--out --dst 127.0.0.1:8080", "RETURN (not intercepted)"),
    (9, "", PROXY, "--out --dst 127.0.0.2:8080", "REDIRECT to port 15006"),
    (10, "", "", "--in --dst 10.77.0.2:8080", "REDIRECT to port 15006"),
    (11, "", "", "--in --dst 10.77.0.2:15008", "RETURN (not intercepted)"),
    (12, "", "", "--in --dst 10.77.0.2:15021", "RETURN (not intercepted)"),
    (13, "", "--uid 1000 --gid 1337", "--out --dst 10.77.0.9:80 --oif eth0", "RETURN (not intercepted)"),
    (14, "", "--uid 1000 --gid 1337", "--out --dst 10.77.0.2:8080 --oif lo", "RETURN (not intercepted)"),
    (15, "", PROXY, "--out --src 127.0.0.1:4 --dst 127.0.0.6:15002", "REDIRECT to port 15006"),
    (16, "", "--uid 0 --gid 0", "--out --src 127.0.0.1:4 --dst 127.0.0.6:15002", "RETURN (not intercepted)"),
    (17, "", APP, "--out --proto udp --dst 10.77.0.9:80 --oif eth0", "RETURN (not intercepted)"),
    (18, "", APP, "--out --dst 10.77.0.9:15001 --oif eth0", "REDIRECT to port 15001"),
    (19, "-x 10.77.0.9/32", APP, "--out --dst 10.77.0.9:80 --oif eth0", "RETURN (not intercepted)"),
    (20, "-o 3306", APP, "--out --dst 10.77.0.9:3306 --oif eth0", "RETURN (not intercepted)"),
    (21, "-k tap0", "", "--in --iif tap0 --dst 10.77.0.9:80", "REDIRECT to port 15001"),
    (22, "-c eth1", "", "--in --iif eth1 --dst 10.77.0.2:80", "RETURN (not intercepted)"),
    (23, DNS, APP, "--out --proto udp --dst 10.77.0.1:53 --oif eth0", "REDIRECT to port 15053, zone 2"),
    (24, DNS, PROXY, "--out --proto udp --dst 10.77.0.1:53 --oif eth0", "RETURN (not intercepted), zone 1"),
    (25, DNS, PROXY, "--out --proto udp --src 127.0.0.1:15053 --dst 127.0.0.1:4444", "ACCEPT, zone 2"),
    (26, DNS, "", "--in --proto udp --src 10.77.0.1:53 --dst 10.77.0.2:4444", "ACCEPT, zone 1"),
    (27, DNS, APP, "--out --proto udp --dst 10.77.0.77:53 --oif eth0", "RETURN (not intercepted)"),
    (28, DNS, APP, "--out --dst 10.77.0.1:53 --oif eth0", "REDIRECT to port 15053"),
    (29, LOCAL_DNS, APP, "--out --proto udp --dst 127.0.0.53:53", "REDIRECT to port 15053, zone 2"),
    (30, TPROXY, "", "--in --dst 10.77.0.2:8080", "TPROXY to port 15006 mark 1337"),
    (
        31,
        TPROXY,
        "",
        "--in --dst 10.77.0.2:8080 --state established",
        "ACCEPT, mark 1337 delivered to lo by table 133",
    ),
    (32, TPROXY, "", "--in --dst 10.77.0.2:15021", "RETURN (not intercepted)"),
    (33, TPROXY, "", "--in --dst 10.77.0.2:15008", "TPROXY to port 15006 mark 1337"),
    (34, TPROXY, APP, "--out --src 10.77.0.2:4 --dst 10.77.0.2:8080", "RETURN (not intercepted)"),
    (
        35,
        TPROXY,
        ROOT_PROXY,
        "--out --src 10.77.0.2:4 --dst 10.77.0.2:8080",
        "TPROXY to port 15006 mark 1337",
    ),
    (
        36,
        TPROXY,
        ROOT_PROXY,
        "--out --src 127.0.0.6:4 --dst 10.77.0.2:8080 --oif lo",
        "RETURN (not intercepted)",
    ),
    (
        37,
        TPROXY,
        ROOT_PROXY,
        "--out --src 10.77.0.9:4 --dst 10.77.0.2:8080 --oif lo --mark 1337",
        "RETURN (not intercepted), mark 1337 delivered to lo by table 133",
    ),
    (
        38,
        TPROXY,
        APP,
        "--out --src 10.77.0.2:8080 --dst 10.77.0.9:4 --oif eth0 --connmark 1337 --state established",
        "ACCEPT, mark 1337 delivered to lo by table 133",
    ),
    (39, TPROXY, APP, "--out --dst 10.77.0.9:80 --oif eth0", "REDIRECT to port 15001"),
];

fn explain(parts: &[&str]) -> Output {
    let arguments = parts.iter().flat_map(|part| part.split_whitespace());
    Command::new(env!("CARGO_BIN_EXE_postern-init"))
        .arg("explain")
        .args(arguments)
        .env_clear()
        .output()
        .unwrap()
}

#[test]
fn every_walk_ends_as_designed() {
    assert_eq!(WALKS.iter().map(|walk| walk.0).collect::<Vec<_>>(), (1..=39).collect::<Vec<_>>());
    for (number, flags, sender, packet, verdict) in WALKS {
        let output = explain(&[USUAL, flags, sender, packet]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success());
        assert_eq!(
            text.lines().last(),
            Some(format!("verdict: {verdict}").as_str()),
            "walk {number}:\n{text}"
        );
    }
}

#[test]
fn every_walk_is_the_same_as_json() {
    for (number, flags, sender, packet, verdict) in WALKS {
        let output = explain(&[USUAL, flags, sender, packet, "-o json"]);
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(json["verdict"]["text"], *verdict, "walk {number}");
        let target = verdict.split([' ', ',']).next().unwrap();
        assert_eq!(json["verdict"]["target"], target, "walk {number}");
        assert!(!json["visits"].as_array().unwrap().is_empty());
    }
}

#[test]
fn rules_passed_are_told_as_well() {
    let text = String::from_utf8(explain(&[USUAL, "--out --dst 127.0.0.1:80"]).stdout).unwrap();
    assert_eq!(
        text,
        "\
packet: out tcp 127.0.0.1:40000 -> 127.0.0.1:80 by lo NEW
met     nat OUTPUT 1: -j ISTIO_OUTPUT (outbound traffic)
passed    nat ISTIO_OUTPUT 1: -o lo -s 127.0.0.6/32 -j RETURN (proxy hands an inbound connection to the application)
passed    nat ISTIO_OUTPUT 2: -o lo ! -d 127.0.0.1/32 -p tcp ! --dport 15008 -m owner --uid-owner 1337 -j ISTIO_IN_REDIRECT (proxy calls its own pod: inbound)
met       nat ISTIO_OUTPUT 3: -o lo -m owner ! --uid-owner 1337 -j RETURN (application talks to its own pod)
verdict: RETURN (not intercepted)
"
    );
}

#[test]
fn who_is_taken_for_somebody_else_is_noted() {
    let packet = "--out --src 10.77.0.2:4 --dst 10.77.0.2:8080 --uid 1000 --gid 1337";
    let text = String::from_utf8(explain(&[USUAL, packet]).stdout).unwrap();
    assert!(
        text.contains("note: the sender is the proxy by its user or group, but rule nat ISTIO_OUTPUT 3"),
        "{text}"
    );
    let json: serde_json::Value =
        serde_json::from_slice(&explain(&[USUAL, packet, "-o json"]).stdout).unwrap();
    assert_eq!(json["notes"].as_array().unwrap().len(), 1, "{json}");
}

#[test]
fn tproxy_says_what_the_application_sees_of_the_client() {
    let packet = "--in --src 10.77.0.9:40000 --dst 10.77.0.2:8080";
    let said = |flags| String::from_utf8(explain(&[USUAL, flags, packet]).stdout).unwrap();
    let note =
        "\nnote: the proxy ends this connection and calls the application from the same address, 10.77.0.9,";
    assert!(said(TPROXY).contains(note), "{}", said(TPROXY));
    assert!(!said("").contains("note:"));
}

#[test]
fn native_rules_are_told_in_the_words_of_nft() {
    let packet = "--native-nftables --out --dst 10.77.0.9:80 --oif eth0";
    let text = String::from_utf8(explain(&[USUAL, packet, APP]).stdout).unwrap();
    assert!(text.contains("istio-proxy-nat istio-output 9: counter jump istio-redirect"), "{text}");
    assert!(text.ends_with("verdict: REDIRECT to port 15001\n"), "{text}");
}

#[test]
fn a_family_without_rules_says_why() {
    let text = String::from_utf8(explain(&[USUAL, "--out --dst [fd00::1]:80"]).stdout).unwrap();
    assert!(
        text.contains("no IPv6 rules: --ipv6 off") && text.ends_with("verdict: RETURN (not intercepted)\n")
    );
}

#[test]
fn a_packet_that_does_not_read_is_wrong_usage() {
    for (packet, text) in [
        ("", "missing direction: expected --in or --out"),
        ("--in --out --dst 10.0.0.1:80", "both --in and --out"),
        ("--out", "missing destination --dst: expected an address and a port"),
        ("--out --dst 10.0.0.1", "10.0.0.1"),
        ("--out --dst 10.0.0.1:80 --src [::1]:1", "same family"),
        ("--out --dst 10.0.0.1:80 --proto sctp", "sctp"),
        ("--out --dst 10.0.0.1:80 --uid root", "--uid"),
        ("--out --dst 10.0.0.1:80 --oif 0", "--oif"),
        ("--out --dst 10.0.0.1:80 --state young", "young"),
    ] {
        let output = explain(&[USUAL, packet]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{packet}");
        assert!(said.contains(text), "no `{text}` in: {said}");
    }
}

#[test]
fn packet_flags_belong_to_explain_alone() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_postern-init")).args(["--out", "--dst", "10.0.0.1:80"]).output();
    assert_eq!(output.unwrap().status.code(), Some(2));
}
