use std::collections::BTreeMap;

use super::*;
use crate::flags::FLAGS;

fn read(arguments: &[&str], variables: &[(&str, &str)]) -> Result<(Settings, Options), Vec<String>> {
    let arguments: Vec<_> = arguments.iter().map(|text| (*text).to_owned()).collect();
    let variables: BTreeMap<_, _> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let (raw, problems) = RawSettings::scan(&arguments, &variables, FLAGS);
    assert_eq!(problems, []);
    Settings::read(&raw).map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

fn refused(arguments: &[&str], variables: &[(&str, &str)]) -> Vec<String> {
    read(arguments, variables).unwrap_err()
}

#[test]
fn nothing_given_is_istios_defaults() {
    let (mut settings, options) = read(&[], &[]).unwrap();
    settings.fill_owners(ports::PROXY_ID);
    assert_eq!(settings.outbound_port, flags::OUTBOUND_PORT.default.parse().unwrap());
    assert_eq!(settings.inbound_port, flags::INBOUND_PORT.default.parse().unwrap());
    assert_eq!(settings.tunnel_port, flags::TUNNEL_PORT.default.parse().unwrap());
    assert_eq!(settings.proxy_uids, [Owner::Id(1337)]);
    assert_eq!(settings.proxy_gids, [Owner::Id(1337)]);
    assert_eq!(settings.tproxy_mark.to_string(), flags::TPROXY_MARK.default);
    assert_eq!(settings.tproxy_route_table.to_string(), flags::TPROXY_ROUTE_TABLE.default);
    assert_eq!(settings.loopback.to_string(), flags::LOOPBACK_CIDR.default);
    assert_eq!(settings.outbound_ranges, OutboundRanges::Listed(vec![]));
    assert_eq!(settings.owner_groups, OwnerGroups::AllBut(vec![]));
    assert!(settings.inbound_ports.is_none() && !settings.drop_invalid);
    assert_eq!(options.probe_port, flags::PROBE_PORT.default.parse().unwrap());
    assert_eq!(options.probe_timeout, duration(flags::PROBE_TIMEOUT.default).unwrap());
    assert_eq!(options.lock_wait, duration(flags::LOCK_WAIT.default).unwrap());
    assert!(options.reconcile && !options.dry_run && !options.cleanup);
}

#[test]
fn every_problem_is_told_at_once() {
    let problems = refused(
        &["-p", "70000", "-b", "80,x", "-x", "*", "-m", "tproxy", "--force-iptables-binary", "bpf"],
        &[("PROBE_TIMEOUT", "5"), ("ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR", "10.0.0.0/8")],
    );
    assert_eq!(
        problems,
        [
            "invalid port `70000` in --envoy-port: expected 1–65535, for example 15001",
            "invalid interception mode `tproxy` in --istio-inbound-interception-mode: expected `REDIRECT` or `TPROXY`",
            "invalid port `x` in --istio-inbound-ports: expected 1–65535, a range `A:B`, or `*` alone, for example 8080,6000:7000",
            "invalid CIDR `*` in --istio-service-exclude-cidr: expected an address with a prefix length, for example 10.0.0.0/8 or fd00::/8",
            "invalid CIDR `10.0.0.0/8` in variable ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR: expected an IPv4 loopback prefix of length 8–32, for example 127.0.0.1/32",
            "invalid duration `5` in variable PROBE_TIMEOUT: expected a time above zero with its unit, for example 500ms or 1m30s",
            "invalid backend `bpf` in --force-iptables-binary: expected `legacy`, `nft`, or nothing to choose by what is there",
        ]
    );
}

#[test]
fn a_problem_stays_on_one_line() {
    let problems = refused(&["-c", "eth0\nfoo"], &[]);
    assert_eq!(problems.len(), 1);
    assert!(!problems[0].contains('\n'), "{problems:?}");
}

#[test]
fn a_variable_hidden_by_its_flag_is_not_read() {
    assert!(read(&["-z", "80"], &[("INBOUND_CAPTURE_PORT", "x")]).is_ok());
    assert_eq!(
        refused(&[], &[("INBOUND_CAPTURE_PORT", "x")]),
        ["invalid port `x` in variable INBOUND_CAPTURE_PORT: expected 1–65535, for example 15001"]
    );
}

#[test]
fn the_outbound_port_has_no_variable() {
    let (settings, _) = read(&[], &[("ENVOY_PORT", "9")]).unwrap();
    assert_eq!(settings.outbound_port, Port::OUTBOUND);
}

#[test]
fn gid_follows_uid_when_absent() {
    let (mut settings, _) = read(&["-u", "0,istio-proxy"], &[]).unwrap();
    settings.fill_owners(1337);
    assert_eq!(settings.proxy_gids, [Owner::Id(0), Owner::Name("istio-proxy".to_owned())]);
}

#[test]
fn names_become_numbers_or_problems() {
    let (mut settings, _) = read(&["-u", "web,nobody"], &[("ISTIO_OUTBOUND_OWNER_GROUPS", "java")]).unwrap();
    settings.fill_owners(1337);
    let users = |name: &str| (name == "web").then_some(33);
    let problems = settings.resolve_owners(users, |_| Some(7)).unwrap_err();
    assert_eq!(
        problems[0].to_string(),
        "unknown user `nobody` in --proxy-uid: expected a numeric id, or a name from /etc/passwd"
    );
    assert_eq!(problems.len(), 1);
    assert_eq!(settings.proxy_uids[0], Owner::Id(33));
    assert_eq!(settings.owner_groups, OwnerGroups::Only(vec![Owner::Id(7)]));
}

#[test]
fn owner_groups_fit_one_rule() {
    let groups = |count: u32| (0..count).map(|id| id.to_string()).collect::<Vec<_>>().join(",");
    assert!(read(&[], &[("ISTIO_OUTBOUND_OWNER_GROUPS", &groups(64))]).is_ok());
    assert_eq!(
        refused(&[], &[("ISTIO_OUTBOUND_OWNER_GROUPS", &groups(65))]),
        [
            "too many items (65) in variable ISTIO_OUTBOUND_OWNER_GROUPS: expected at most 64, because all of them become one rule"
        ]
    );
}

#[test]
fn no_owner_groups_is_an_empty_list_not_all() {
    let (settings, _) = read(&[], &[("ISTIO_OUTBOUND_OWNER_GROUPS", "")]).unwrap();
    assert_eq!(settings.owner_groups, OwnerGroups::Only(vec![]));
}

#[test]
fn dns_needs_its_first_switch() {
    let dns = |arguments: &[&str]| read(arguments, &[]).unwrap().0.dns;
    assert_eq!(dns(&["--capture-all-dns"]), DnsCapture::Off);
    assert_eq!(dns(&["--redirect-dns"]), DnsCapture::Listed);
    assert_eq!(dns(&["--redirect-dns", "--capture-all-dns"]), DnsCapture::All);
}

#[test]
fn dual_stack_is_never_first() {
    let ipv6 = |arguments: &[&str]| read(arguments, &[]).unwrap().0.ipv6;
    assert_eq!(ipv6(&["--dual-stack", "--ipv6", "first"]), Ipv6Choice::Auto);
    assert_eq!(ipv6(&["--dual-stack", "--ipv6", "off"]), Ipv6Choice::Off);
}

#[test]
fn loopback_among_the_ranges_is_noticed_in_either_family() {
    let captures = |ranges| read(&["-i", ranges], &[]).unwrap().0.captures_loopback();
    assert!(captures("10.0.0.0/8,127.1.2.3/8") && captures("::1/128"));
    assert!(!captures("*") && !captures("10.0.0.0/8") && !captures(""));
}

#[test]
fn no_dns_servers_is_told_from_servers_not_given() {
    assert_eq!(read(&[], &[]).unwrap().1.dns_servers, None);
    assert_eq!(read(&["--dns-servers", ""], &[]).unwrap().1.dns_servers, Some(vec![]));
}
