//! Settings that read well and yet do not do what their author meant, and rules of others that get in the way of ours.

use crate::diff;
use crate::flags::{self, Flag, Givens};
use crate::parse::{Found, FoundRule};
use crate::ports::PROXY_LOOP_MARK;
use crate::ruleset::{ChainName, RuleSet, TableName, Target};
use crate::settings::{DnsCapture, InboundPorts, InterceptionMode, OutboundRanges, OwnerGroups, Settings};

/// One-line warnings about flags without effect and settings that contradict each other. Nothing here stops anything.
pub fn settings(settings: &Settings, givens: &Givens) -> Vec<String> {
    let mut warnings = without_effect(settings, givens);
    warnings.extend(contradictions(settings));
    warnings
}

fn without_effect(settings: &Settings, givens: &Givens) -> Vec<String> {
    let all_inbound = settings.inbound_ports == InboundPorts::All;
    let all_groups = matches!(settings.owner_groups, OwnerGroups::AllBut(_));
    let no_dns = settings.dns == DnsCapture::Off;
    let every_destination = settings.outbound_ranges == OutboundRanges::All;
    let redirects = settings.mode == InterceptionMode::Redirect;
    let rules: [(&Flag, bool, &str); 8] = [
        (&flags::INBOUND_EXCLUDE_PORTS, !all_inbound, "it is used only with -b '*'"),
        (&flags::OUTBOUND_PORTS, every_destination, "-i '*' captures every port already"),
        (&flags::CAPTURE_ALL_DNS, no_dns, "it is used only with --redirect-dns"),
        (&flags::DNS_SERVERS, no_dns, "it is used only with --redirect-dns"),
        (&flags::RESOLV_CONF, no_dns, "it is used only with --redirect-dns"),
        (&flags::OWNER_GROUPS_EXCLUDE, !all_groups, "ISTIO_OUTBOUND_OWNER_GROUPS lists groups"),
        (&flags::TPROXY_MARK, redirects, "it is used only with -m TPROXY"),
        (&flags::TPROXY_ROUTE_TABLE, redirects, "it is used only with -m TPROXY"),
    ];
    let says_something = |flag: &Flag| givens.of(flag).is_some_and(|given| !given.text.is_empty());
    let idle = rules.into_iter().filter(|(flag, idle, _)| *idle && says_something(flag));
    idle.map(|(flag, _, reason)| format!("{} has no effect: {reason}", flag.name())).collect()
}

fn contradictions(settings: &Settings) -> Vec<String> {
    let mut warnings = Vec::new();
    if settings.proxy_uids.len() > 1 {
        warnings.push(format!(
            "only user {} of --proxy-uid can call its own pod through the proxy: the loopback traffic of the others \
             counts as the application's",
            settings.proxy_uids[0]
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
    use crate::parse::parse;
    use crate::ruleset::Family;

    fn warnings(arguments: &[&str]) -> Vec<String> {
        let arguments: Vec<_> = arguments.iter().map(|text| (*text).to_owned()).collect();
        let (givens, _) = Givens::scan(&arguments, &Default::default(), flags::FLAGS);
        let (read, _) = Settings::read(&givens).unwrap();
        settings(&read, &givens)
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
        assert!(warnings(&["-m", "TPROXY", "-t", "1338"])[0].contains("1338"));
        assert!(warnings(&["--redirect-dns", "-k", "tap0"])[0].contains("not captured"));
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
