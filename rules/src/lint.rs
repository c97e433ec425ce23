//! Settings that read well and yet do not do what their author meant, and rules of others that get in the way of ours.

use crate::diff;
use crate::flags::{self, Flag, RawSettings};
use crate::packet::Packet;
use crate::parse::{Found, FoundRule};
use crate::ports::{PROXY_LOOP_MARK, Port};
use crate::purpose::Purpose;
use crate::ruleset::{ChainName, Condition, Rule, RuleSet, TableName, Target};
use crate::settings::{
    DnsCapture, InboundPorts, InterceptionMode, Ipv6Choice, OutboundRanges, Owner, OwnerGroups, Settings,
    switch,
};
use crate::simulate::{Outcome, Visit, Walk};

/// One-line warnings about flags without effect and settings that contradict each other. Nothing here stops anything.
pub fn settings(settings: &Settings, raw: &RawSettings) -> Vec<String> {
    let mut warnings = without_effect(settings, raw);
    warnings.extend(contradictions(settings, raw));
    warnings
}

fn without_effect(settings: &Settings, raw: &RawSettings) -> Vec<String> {
    let all_inbound = settings.inbound_ports == InboundPorts::All;
    let all_groups = matches!(settings.owner_groups, OwnerGroups::AllBut(_));
    let no_dns = settings.dns == DnsCapture::Off;
    let every_destination = settings.outbound_ranges == OutboundRanges::All;
    let redirects = settings.mode == InterceptionMode::Redirect;
    let captures_by_address = settings.outbound_ranges != OutboundRanges::Listed(Vec::new());
    let nothing_outbound = !captures_by_address && settings.outbound_ports.is_empty();
    let native = is_on(raw, &flags::NATIVE_NFTABLES);
    let ipv6_told = matches!(settings.ipv6, Ipv6Choice::On | Ipv6Choice::Off);
    let rules: [(&Flag, bool, &str); 12] = [
        (&flags::OUTBOUND_EXCLUDE_CIDRS, nothing_outbound, "nothing outbound is captured without -i and -q"),
        (
            &flags::OUTBOUND_EXCLUDE_PORTS,
            nothing_outbound && no_dns,
            "nothing outbound is captured without -i and -q",
        ),
        (&flags::FORCE_IPTABLES_BINARY, native, "--native-nftables uses no iptables"),
        (&flags::DUAL_STACK, ipv6_told && is_on(raw, &flags::DUAL_STACK), "--ipv6 says already what to do"),
        (&flags::INBOUND_EXCLUDE_PORTS, !all_inbound, "it is used only with -b '*'"),
        (&flags::OUTBOUND_PORTS, every_destination, "-i '*' captures every port already"),
        (&flags::CAPTURE_ALL_DNS, no_dns, "it is used only with --redirect-dns"),
        (&flags::DNS_SERVERS, no_dns, "it is used only with --redirect-dns"),
        (&flags::RESOLV_CONF, no_dns, "it is used only with --redirect-dns"),
        (&flags::OWNER_GROUPS_EXCLUDE, !all_groups, "ISTIO_OUTBOUND_OWNER_GROUPS lists groups"),
        (&flags::TPROXY_MARK, redirects, "it is used only with -m TPROXY"),
        (&flags::TPROXY_ROUTE_TABLE, redirects, "it is used only with -m TPROXY"),
    ];
    let says_something = |flag: &Flag| raw.of(flag).is_some_and(|given| !given.text.is_empty());
    let idle = rules.into_iter().filter(|(flag, idle, _)| *idle && says_something(flag));
    idle.map(|(flag, _, reason)| format!("{} has no effect: {reason}", flag.name())).collect()
}

fn is_on(raw: &RawSettings, flag: &Flag) -> bool {
    raw.of(flag).is_some_and(|given| switch(&given.text) == Ok(true))
}

fn contradictions(settings: &Settings, raw: &RawSettings) -> Vec<String> {
    let mut warnings = Vec::new();
    warnings.extend(groups_behind_users(settings, raw));
    if settings.proxy_uids.len() > 1 {
        warnings.push(format!(
            "only user {} of --proxy-uid can call its own pod through the proxy: the loopback traffic of the others \
             counts as the application's",
            settings.proxy_uids[0]
        ));
    }
    if settings.outbound_port == settings.inbound_port {
        warnings.push(format!(
            "port {} in {} is that of {}, too: the proxy cannot tell what the application sends from what others send to \
             it: expected two ports, for example 15001 and 15006",
            settings.outbound_port,
            flags::OUTBOUND_PORT.name(),
            flags::INBOUND_PORT.name()
        ));
    }
    if settings.tproxy_mark == PROXY_LOOP_MARK && settings.mode == InterceptionMode::Tproxy {
        warnings.push(format!(
            "mark {PROXY_LOOP_MARK} in --istio-inbound-tproxy-mark is the one that tells the proxy's calls to its own \
             pod: expected another one, for example 1337"
        ));
    }
    if settings.loopback.contains(&std::net::Ipv4Addr::new(127, 0, 0, 6)) {
        warnings.push(format!(
            "{} in ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR covers 127.0.0.6: validation can never pass",
            settings.loopback
        ));
    }
    if settings.dns != DnsCapture::Off && !settings.kube_virt_interfaces.is_empty() {
        warnings.push("DNS queries that come in by --kube-virt-interfaces are not captured".to_owned());
    }
    warnings
}

/// The rules for groups stand behind those for users, which have decided about loopback by then. Only those who tell the
/// proxy by a group of its own are concerned.
fn groups_behind_users(settings: &Settings, raw: &RawSettings) -> Vec<String> {
    let apart = raw.has(&flags::PROXY_GID) && settings.proxy_gids != settings.proxy_uids;
    let (Some(user), Some(group)) = (settings.proxy_uids.first(), settings.proxy_gids.first()) else {
        return Vec::new();
    };
    if !apart || settings.mode == InterceptionMode::Tproxy {
        return Vec::new();
    }
    let mut warnings = Vec::new();
    if !settings.captures_loopback() {
        warnings.push(format!(
            "processes of group {group} of --proxy-gid that do not run as user {user} call their own pod past the proxy: \
             their loopback traffic counts as the application's"
        ));
    }
    if settings.dns != DnsCapture::Off {
        warnings.push(format!(
            "DNS queries over TCP from group {group} of --proxy-gid to a resolver on the pod itself go to the inbound \
             port, unless user {user} sends them: rules for groups make no exception for port 53"
        ));
    }
    warnings
}

/// What a walk shows beyond its rules: whom they take for somebody else, and what the application sees of the client.
pub fn walk(settings: &Settings, packet: &Packet, walk: &Walk<'_>) -> Vec<String> {
    let is = |owners: &[Owner], id: Option<u32>| id.is_some_and(|id| owners.contains(&Owner::Id(id)));
    let is_proxy = is(&settings.proxy_uids, packet.user) || is(&settings.proxy_gids, packet.group);
    let is_query = settings.dns != DnsCapture::Off && packet.destination.port() == Port::RESOLVER.number();
    let names_a_group = |rule: &Rule| rule.matches.iter().any(|m| matches!(m.condition, Condition::Group(_)));
    let met = walk.visits.iter().filter(|visit| visit.outcome == Outcome::Met);
    let note = |visit: &Visit<'_>| {
        let place = format!("{} {} {}", visit.table, visit.chain, visit.number);
        match visit.rule.purpose? {
            Purpose::ApplicationLoopback if is_proxy => Some(format!(
                "the sender is the proxy by its user or group, but rule {place} knows only one user and takes it for \
                 the application: the rules for it stand further down and are never met on lo"
            )),
            Purpose::ProxyCallsItself if is_query && names_a_group(visit.rule) => Some(format!(
                "a DNS query to the inbound port: rule {place} is for a group, and makes no exception for port 53"
            )),
            Purpose::ToTransparentSocket => Some(format!(
                "the proxy ends this connection and calls the application from the same address, {}, but from another \
                 port; from the same port only where it calls the application at loopback",
                packet.source.ip()
            )),
            _ => None,
        }
    };
    met.filter_map(note).collect()
}

/// A rule of others that ends the walk before ours are met.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Shadow<'f> {
    /// The table.
    pub table: TableName,
    /// The built-in chain.
    pub chain: &'f ChainName,
    /// The rule.
    pub rule: &'f FoundRule,
}

/// Rules of others in built-in chains that stand before the first of ours and could keep packets from it.
pub fn shadows<'f>(wanted: &RuleSet, found: &'f Found) -> Vec<Shadow<'f>> {
    let mut shadows = Vec::new();
    for (&table, contents) in &found.tables {
        for chain in contents.chains.iter().filter(|chain| chain.name.is_built_in()) {
            let own = diff::own_rules(found, wanted, table, &chain.name);
            let Some(first) = own.first() else { continue };
            let before = chain.rules.iter().take_while(|rule| !std::ptr::eq(*rule, *first));
            let shadowing = before.filter(|rule| ends_the_walk(&rule.rule.target));
            shadows.extend(shadowing.map(|rule| Shadow { table, chain: &chain.name, rule }));
        }
    }
    shadows
}

/// A jump comes back unless the chain decides, which the chain's own rules would have to tell.
fn ends_the_walk(target: &Target) -> bool {
    matches!(target, Target::Accept | Target::Drop | Target::Return | Target::Redirect(_) | Target::Other(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::{Facts, build};
    use crate::packet::Direction;
    use crate::parse::parse;
    use crate::program::Ipv6;
    use crate::ruleset::{ConnectionState, Family, Protocol};
    use crate::simulate::simulate;

    fn warnings(arguments: &[&str]) -> Vec<String> {
        let arguments: Vec<_> = arguments.iter().map(|text| (*text).to_owned()).collect();
        let (raw, _) = RawSettings::scan(&arguments, &Default::default(), flags::FLAGS);
        let (read, _) = Settings::read(&raw).unwrap();
        settings(&read, &raw)
    }

    #[test]
    fn the_injectors_flags_are_clean() {
        let injected =
            ["-p", "15001", "-z", "15006", "-u", "1337", "-m", "REDIRECT", "-i", "*", "-x", "", "-b", "*"];
        assert_eq!(warnings(&[&injected[..], &["-d", "15090,15021,15020"]].concat()), [""; 0]);
    }

    #[test]
    fn flags_without_effect_are_named() {
        let told =
            warnings(&["-b", "80", "-d", "90", "-i", "*", "-q", "443", "--capture-all-dns", "-t", "7"]);
        let named = ["local-exclude-ports", "outbound-ports", "capture-all-dns", "tproxy-mark"];
        assert_eq!(told.len(), named.len(), "{told:?}");
        assert!(named.iter().zip(&told).all(|(name, text)| text.contains(name)), "{told:?}");
    }

    #[test]
    fn contradictions_are_told() {
        assert!(warnings(&["-u", "1337,1338"])[0].contains("1337"));
        let same = &warnings(&["-p", "15001", "-z", "15001"])[0];
        assert!(same.contains("--envoy-port") && same.contains("--inbound-capture-port"), "{same}");
        assert!(warnings(&["-m", "TPROXY", "-t", "1338"])[0].contains("1338"));
        assert!(warnings(&["--redirect-dns", "-k", "tap0"])[0].contains("not captured"));
    }

    #[test]
    fn excludes_of_nothing_and_choices_already_made_are_named() {
        let told = warnings(&["-x", "10.0.0.0/8", "-o", "25", "--ipv6", "on", "--dual-stack"]);
        let named = ["exclude-cidr", "ports-exclude", "dual-stack"];
        assert_eq!(told.len(), named.len(), "{told:?}");
        assert!(named.iter().zip(&told).all(|(name, text)| text.contains(name)), "{told:?}");
        let told = warnings(&["--native-nftables", "--force-iptables-binary", "nft"]);
        assert!(told[0].contains("force-iptables-binary"), "{told:?}");
        assert_eq!(warnings(&["-x", "10.0.0.0/8", "-q", "80"]), [""; 0]);
    }

    #[test]
    fn a_proxy_known_by_its_group_alone_is_warned_of() {
        let told = warnings(&["-u", "1337", "-g", "1400", "-i", "*", "--redirect-dns"]);
        assert!(told[0].contains("past the proxy") && told[1].contains("port 53"), "{told:?}");
        assert_eq!(warnings(&["-u", "1337", "-g", "1337", "-i", "*", "--redirect-dns"]), [""; 0]);
        assert_eq!(warnings(&["-u", "1337", "-g", "1400", "-m", "TPROXY", "-b", "*"]), [""; 0]);
        assert_eq!(warnings(&["-u", "1337", "-g", "1400", "-i", "127.0.0.0/8"]), [""; 0]);
    }

    fn notes(arguments: &[&str], destination: &str, user: u32, group: u32) -> Vec<String> {
        let arguments: Vec<_> = arguments.iter().map(|text| (*text).to_owned()).collect();
        let (raw, _) = RawSettings::scan(&arguments, &Default::default(), flags::FLAGS);
        let (mut settings, _) = Settings::read(&raw).unwrap();
        settings.fill_owners(1337);
        let facts =
            Facts { ipv6: Ipv6::Off(String::new()), dns_servers: vec!["127.0.0.53".parse().unwrap()] };
        let rules = build(&settings, &facts).rule_set(Family::V4);
        let destination = destination.parse().unwrap();
        let mut packet =
            Packet::new(Direction::Out, Protocol::Tcp, "127.0.0.1:40000".parse().unwrap(), destination);
        packet.out_interface = Some("lo".to_owned());
        (packet.user, packet.group) = (Some(user), Some(group));
        walk(&settings, &packet, &simulate(&packet, &rules, &[]))
    }

    #[test]
    fn walks_show_who_is_taken_for_somebody_else() {
        let several = notes(&["-u", "1337,1338"], "127.0.0.2:80", 1338, 1338);
        assert!(several[0].contains("takes it for the application"), "{several:?}");
        let group = notes(&[], "127.0.0.2:80", 1000, 1337);
        assert!(group[0].contains("takes it for the application"), "{group:?}");
        let query = notes(&["--redirect-dns"], "127.0.0.53:53", 1000, 1337);
        assert!(query[0].contains("no exception for port 53"), "{query:?}");
        assert_eq!(notes(&[], "127.0.0.2:80", 1000, 1000), [""; 0]);
        assert_eq!(notes(&[], "127.0.0.2:80", 1337, 1337), [""; 0]);
        assert_eq!(notes(&["--redirect-dns"], "127.0.0.53:53", 1337, 1337), [""; 0]);
    }

    #[test]
    fn a_connection_captured_by_tproxy_is_said_to_go_on_from_its_own_address() {
        let arguments = ["-m", "TPROXY", "-b", "*"].map(str::to_owned);
        let (raw, _) = RawSettings::scan(&arguments, &Default::default(), flags::FLAGS);
        let (mut settings, _) = Settings::read(&raw).unwrap();
        settings.fill_owners(1337);
        let facts = Facts { ipv6: Ipv6::Off(String::new()), dns_servers: Vec::new() };
        let rules = build(&settings, &facts).rule_set(Family::V4);
        let (from, to) = ("10.77.0.9:40000".parse().unwrap(), "10.77.0.2:8080".parse().unwrap());
        let told = |state| {
            let packet = Packet { state, ..Packet::new(Direction::In, Protocol::Tcp, from, to) };
            walk(&settings, &packet, &simulate(&packet, &rules, &[]))
        };
        let first = told(ConnectionState::New);
        assert!(first[0].contains("the same address, 10.77.0.9, but from another port"), "{first:?}");
        assert_eq!((first.len(), told(ConnectionState::Established).len()), (1, 0));
    }

    #[test]
    fn only_deciding_rules_before_ours_shadow_them() {
        let found = "*nat\n:OUTPUT ACCEPT [0:0]\n:KUBE - [0:0]\n:ISTIO_OUTPUT - [0:0]\n-A OUTPUT -j KUBE\n\
            -A OUTPUT -d 10.0.0.1/32 -j ACCEPT\n-A OUTPUT -j ISTIO_OUTPUT\n-A OUTPUT -j DROP\nCOMMIT\n";
        let found = parse(Family::V4, found).unwrap();
        let told = shadows(&RuleSet::empty(Family::V4), &found);
        assert_eq!(
            told.iter().map(|shadow| shadow.rule.text.as_str()).collect::<Vec<_>>(),
            ["-d 10.0.0.1/32 -j ACCEPT"]
        );
    }
}
