//! What holds for all settings, all packets and all texts.
#![expect(clippy::unwrap_used, reason = "a property that cannot be stated should stop")]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use proptest::prelude::*;
use rules::build::{Facts, build, passthrough_source};
use rules::diff;
use rules::flags::{FLAGS, RawSettings};
use rules::legacy;
use rules::nft;
use rules::nft::decode::{self, Dump};
use rules::nft::encode::{self, Change, Kind};
use rules::packet::{Direction, Packet};
use rules::parse::{self, parse};
use rules::program::{Ipv6, Program};
use rules::render;
use rules::ruleset::{Family, Protocol};
use rules::settings::Settings;
use rules::simulate::{Verdict, simulate};
use rules::transaction;

const PROXY: u32 = 1337;

fn ports() -> impl Strategy<Value = String> {
    let port = prop_oneof![(1..=65535u16).prop_map(|port| port.to_string()), Just("8000:8100".to_owned())];
    prop::collection::vec(port, 0..4).prop_map(|ports| ports.join(","))
}

fn ranges() -> impl Strategy<Value = String> {
    let range =
        (any::<[u8; 4]>(), 0..=32u8).prop_map(|(a, length)| format!("{}/{length}", Ipv4Addr::from(a)));
    prop::collection::vec(range, 0..4).prop_map(|ranges| ranges.join(","))
}

fn all_or(list: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    prop_oneof![Just("*".to_owned()), list]
}

fn interfaces() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["", "eth1", "net+", "tap0,tap1"]).prop_map(str::to_owned)
}

prop_compose! {
    /// Any command line that makes sense, for a proxy that runs as user and group 1337.
    fn settings()(
        mode in prop::sample::select(vec!["REDIRECT", "TPROXY"]),
        inbound in all_or(ports()),
        outbound in all_or(ranges()),
        (excluded, listed, kept) in (ports(), ports(), ports()),
        exclude in ranges(),
        (alone, machines) in (interfaces(), interfaces()),
        dns in prop::sample::select(vec!["", "10.77.0.1", "10.77.0.1,127.0.0.53"]),
        invalid in any::<bool>(),
    ) -> (Settings, Facts) {
        let flags = [
            "-m", mode, "-b", &inbound, "-i", &outbound, "-d", &excluded, "-q", &listed, "-o", &kept, "-x", &exclude,
            "-c", &alone, "-k", &machines, &format!("--drop-invalid={invalid}"), "--redirect-dns",
        ];
        let arguments: Vec<_> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let (raw, problems) = RawSettings::scan(&arguments, &BTreeMap::new(), FLAGS);
        assert_eq!(problems, []);
        let (mut settings, _) = Settings::read(&raw).unwrap();
        settings.fill_owners(PROXY);
        let dns_servers = dns.split(',').filter_map(|server| server.parse().ok()).collect();
        (settings, Facts { ipv6: Ipv6::On, dns_servers })
    }
}

fn address() -> impl Strategy<Value = IpAddr> {
    let known = ["10.77.0.2", "127.0.0.1", "127.0.0.2", "127.0.0.6", "10.77.0.1", "127.0.0.53"];
    let known = prop::sample::select(known.to_vec()).prop_map(|text| text.parse().unwrap());
    prop_oneof![known, any::<[u8; 4]>().prop_map(|bytes| Ipv4Addr::from(bytes).into())]
}

prop_compose! {
    /// A legacy table with a chain of a user in it, whose lengths make sense and little else.
    fn legacy_entries(family: Family)(
        entries in prop::collection::vec(
            (any::<[u8; 16]>(), prop::collection::vec(extension(), 1..4)), 0..4,
        ),
    ) -> Vec<u8> {
        let mark = || legacy_entry(family, [0; 16], vec![begins_or_ends_a_chain()]);
        let mut table = vec![0; 40];
        table.extend(mark());
        table.extend(entries.into_iter().flat_map(|(header, extensions)| legacy_entry(family, header, extensions)));
        table.extend(mark());
        table
    }
}

/// An entry with a header of these bytes over and over, its matches and its target.
fn legacy_entry(family: Family, header: [u8; 16], extensions: Vec<Vec<u8>>) -> Vec<u8> {
    let (length, offsets) = if family == Family::V4 { (112, 88) } else { (168, 140) };
    let mut entry: Vec<_> = header.into_iter().cycle().take(length).collect();
    let mut target = length;
    for extension in extensions {
        target = entry.len();
        entry.extend(extension);
    }
    for (at, number) in [(offsets, target), (offsets + 2, entry.len())] {
        entry[at..at + 2].copy_from_slice(&u16::try_from(number).unwrap().to_ne_bytes());
    }
    entry
}

fn begins_or_ends_a_chain() -> Vec<u8> {
    let mut target = [&64u16.to_ne_bytes()[..], b"ERROR"].concat();
    target.resize(32, 0);
    target.extend(b"CHAIN");
    target.resize(64, 0);
    target
}

prop_compose! {
    fn extension()(
        name in prop::sample::select(vec![
            "", "ERROR", "tcp", "udp", "multiport", "owner", "mark", "connmark", "conntrack", "comment", "REDIRECT",
            "MARK", "CONNMARK", "TPROXY", "CT", "other",
        ]),
        revision in 0..4u8,
        info in prop::collection::vec(prop::sample::select(vec![0, 1, 2, 0xff]), 0..180),
    ) -> Vec<u8> {
        let mut bytes = u16::try_from(32 + info.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend(name.bytes());
        bytes.resize(31, 0);
        bytes.push(revision);
        bytes.extend(info);
        bytes
    }
}

prop_compose! {
    fn packet()(
        (source, destination) in (address(), address()),
        port in prop_oneof![Just(53u16), Just(15001), Just(15006), Just(15008), any::<u16>()],
        udp in any::<bool>(),
        interface in prop::sample::select(vec!["lo", "eth0", "eth1", "tap0"]),
        who in prop::sample::select(vec![0, 1000, PROXY]),
    ) -> Packet {
        let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
        let (source, destination) = (SocketAddr::new(source, 40000), SocketAddr::new(destination, port));
        let mut packet = Packet::new(Direction::Out, protocol, source, destination);
        packet.out_interface = Some(interface.to_owned());
        (packet.user, packet.group) = (Some(who), Some(who));
        packet
    }
}

/// What iptables-save would print once the program is in place.
fn saved(program: &Program, family: Family) -> String {
    let mut text = String::new();
    for (table, contents) in program.rule_set(family).tables {
        text.push_str(&format!("*{table}\n"));
        for chain in &contents.chains {
            let policy = if chain.name.is_built_in() { "ACCEPT" } else { "-" };
            text.push_str(&format!(":{} {policy} [0:0]\n", chain.name));
        }
        for chain in &contents.chains {
            for rule in &chain.rules {
                text.push_str(&format!("-A {} {}\n", chain.name, render::rule(rule)));
            }
        }
        text.push_str("COMMIT\n");
    }
    text
}

/// What the kernel would answer once the changes are made: it keeps the attributes as they are.
fn dumped(changes: &[Change]) -> Dump {
    let bodies = |kind: Kind| {
        changes.iter().filter(|change| change.kind == kind).map(|change| change.body.clone()).collect()
    };
    Dump {
        tables: bodies(Kind::AddTable),
        chains: bodies(Kind::AddChain),
        rules: bodies(Kind::AddRule),
        elements: bodies(Kind::AddElements),
    }
}

proptest! {
    #[test]
    fn native_rules_read_back_equal_the_rules_written((settings, facts) in settings()) {
        let layout = nft::layout(&build(&settings, &facts));
        let found = decode::decode(&dumped(&encode::replace(&layout, &[]).unwrap()));
        for found in found {
            let difference = diff::compare(&layout.rule_set(found.family), &found);
            prop_assert!(difference.is_empty(), "{}", difference);
        }
    }

    #[test]
    fn native_rules_decide_as_those_of_iptables((settings, facts) in settings(), packet in packet()) {
        let program = build(&settings, &facts);
        let (iptables, native) = (program.rule_set(Family::V4), nft::layout(&program).rule_set(Family::V4));
        let [iptables, native] = [&iptables, &native].map(|rules| simulate(&packet, rules, &[]));
        prop_assert_eq!(&iptables.verdict, &native.verdict, "{}", packet);
        prop_assert_eq!((iptables.zone, iptables.mark), (native.zone, native.mark), "{}", packet);
    }

    #[test]
    fn no_bytes_of_the_kernel_stop_the_reader(
        (settings, facts) in settings(),
        damages in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..20),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut dump = dumped(&encode::replace(&nft::layout(&build(&settings, &facts)), &[]).unwrap());
        for (rule, place, byte) in damages {
            let rule = rule.get_mut(dump.rules.as_mut_slice());
            *place.get_mut(rule.as_mut_slice()) = byte;
        }
        let rule = cut.get_mut(dump.rules.as_mut_slice());
        rule.truncate(cut.index(rule.len()));
        let _ = decode::decode(&dump);
        let _ = decode::sets_of(&dump.rules);
    }

    #[test]
    fn rules_read_back_equal_the_rules_written((settings, facts) in settings()) {
        let program = build(&settings, &facts);
        for family in Family::BOTH {
            let found = parse(family, &saved(&program, family)).unwrap();
            prop_assert!(diff::compare(&program.rule_set(family), &found).is_empty());
        }
    }

    #[test]
    fn the_proxys_own_traffic_to_others_is_never_captured((settings, facts) in settings(), packet in packet()) {
        let rules = build(&settings, &facts).rule_set(Family::V4);
        let proxy = Packet { user: Some(PROXY), group: Some(PROXY), out_interface: Some("eth0".to_owned()), ..packet };
        let walk = simulate(&proxy, &rules, &[]);
        prop_assert!(matches!(walk.verdict, Verdict::Return | Verdict::Accept), "{}: {}", proxy, walk);
    }

    #[test]
    fn what_the_proxy_hands_to_the_application_is_never_captured((settings, facts) in settings(), packet in packet()) {
        let rules = build(&settings, &facts).rule_set(Family::V4);
        let source = SocketAddr::new(passthrough_source(Family::V4), 40000);
        let user = Some(PROXY);
        let inbound = Packet { source, user, group: user, out_interface: Some("lo".to_owned()), ..packet };
        let walk = simulate(&inbound, &rules, &[]);
        prop_assert!(matches!(walk.verdict, Verdict::Return | Verdict::Accept), "{}: {}", inbound, walk);
    }

    #[test]
    fn a_walk_over_our_rules_is_certain_and_short((settings, facts) in settings(), packet in packet()) {
        let rules = build(&settings, &facts).rule_set(Family::V4);
        let walk = simulate(&packet, &rules, &[]);
        let all: usize = rules.tables.values().flat_map(|table| &table.chains).map(|chain| chain.rules.len()).sum();
        prop_assert!(walk.certain);
        // No chain of ours is entered twice in one table, so no rule is visited twice.
        prop_assert!(walk.visits.len() <= all);
    }

    #[test]
    fn replacing_what_was_replaced_removes_each_own_rule_once((settings, facts) in settings()) {
        let program = build(&settings, &facts);
        let found = parse(Family::V4, &saved(&program, Family::V4)).unwrap();
        let document = transaction::replace(&program, Family::V4, &found);
        let built_in = found.tables.values().flat_map(|table| &table.chains).filter(|chain| chain.name.is_built_in());
        let own: usize = built_in.map(|chain| chain.rules.len()).sum();
        prop_assert_eq!(document.lines().filter(|line| line.starts_with("-D ")).count(), own);
    }

    #[test]
    fn no_text_stops_the_readers(text in "\\PC*", lines in prop::collection::vec("[*:#\\[\\]A-Z a-z0-9\"\\\\!,./-]{0,40}", 0..8)) {
        let _ = parse(Family::V4, &text);
        let _ = parse(Family::V4, &format!("*nat\n:A - [0:0]\n{}", lines.join("\n")));
        let _ = parse::rule(&text);
    }

    #[test]
    fn no_command_line_stops_the_scanner(arguments in prop::collection::vec("-{0,2}[a-z=\\PC]{0,12}", 0..8)) {
        let (raw, _) = RawSettings::scan(&arguments, &BTreeMap::new(), FLAGS);
        let _ = Settings::read(&raw);
    }

    #[test]
    fn a_problem_is_one_line(value in any::<String>()) {
        for flag in ["-p", "-b", "-i", "-c", "-u", "-m", "--ipv6", "--lock-wait", "-t"] {
            let arguments = [flag.to_owned(), value.clone()];
            let (raw, mut problems) = RawSettings::scan(&arguments, &BTreeMap::new(), FLAGS);
            problems.extend(Settings::read(&raw).err().unwrap_or_default());
            for problem in problems {
                prop_assert!(!problem.to_string().contains('\n'), "{}", problem);
            }
        }
    }

    #[test]
    fn no_bytes_of_legacy_tables_stop_the_reader(
        family in prop::sample::select(Family::BOTH.to_vec()),
        info in prop_oneof![Just(vec![0; 84]), prop::collection::vec(any::<u8>(), 0..100)],
        noise in prop::collection::vec(any::<u8>(), 0..200),
        (v4, v6) in (legacy_entries(Family::V4), legacy_entries(Family::V6)),
    ) {
        let entries = if family == Family::V4 { v4 } else { v6 };
        for answer in [&noise, &entries] {
            let _ = legacy::decode(family, &info, answer);
            let _ = legacy::entries_request(&info);
        }
    }
}
