//! Real packets: the kernel's counters tell which rules they met, and the simulator must have said so before.
//!
//! In nat the rules met are compared exactly, because only the first packet of a connection is seen there. In raw and
//! mangle answers pass as well, so there every rule foretold must have been met.

mod cases;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rules::parse::{Found, parse};
use rules::ruleset::{Family, TableName};
use rules::simulate::{Outcome, Verdict, simulate};

use crate::harness::{Namespace, namespace_or_skip};
use crate::roles::Send;

use self::cases::APPLICATION;
pub(crate) use self::cases::{Case, ipv4_cases, ipv6_cases};

/// A pod and a machine outside it. The pod is 10.77.0.2 and fd00:77::2 on eth0, 10.78.0.2 on net1; everything else in
/// these networks that a test asks for is outside.
pub(crate) struct World {
    pub(crate) pod: Namespace,
    pub(crate) outside: Namespace,
}

impl World {
    pub(crate) fn new() -> Option<Self> {
        let (pod, outside) = (Namespace::new()?, Namespace::new()?);
        for (link, peer) in [("eth0", "out0"), ("net1", "out1")] {
            let path = outside.path();
            pod.shell(&format!(
                "ip link add {link} type veth peer name {peer} netns {}; ip link set {link} up",
                path.file_name().unwrap().to_str().unwrap()
            ));
            outside.shell(&format!("ip link set {peer} up"));
        }
        pod.shell(
            "ip address add 10.77.0.2/24 dev eth0; ip address add 10.78.0.2/24 dev net1
             ip -6 address add fd00:77::2/64 dev eth0 nodad; ip route add default via 10.77.0.1
             ip -6 route add default via fd00:77::1",
        );
        outside.shell(
            "for a in 1 9 77; do ip address add 10.77.0.$a/24 dev out0; done; ip address add 10.78.0.9/24 dev out1
             for a in 1 9; do ip -6 address add fd00:77::$a/64 dev out0 nodad; done",
        );
        Some(Self { pod, outside })
    }

    fn saved(&self, family: Family) -> Found {
        let program = if family == Family::V4 { "iptables-nft-save" } else { "ip6tables-nft-save" };
        parse(family, &self.pod.run(program, &["-c"]).ok().stdout).unwrap()
    }

    pub(crate) fn send(&self, case: &Case) {
        let sender = if case.from_outside { &self.outside } else { &self.pod };
        sender.send(&case.send);
    }

    /// Sends the packet and returns the rules whose counters moved.
    ///
    /// Sending ends before the packet has arrived everywhere: it may wait for a neighbour's address or for a busy
    /// machine. So what is foretold is waited for, which also keeps it from being counted for the next packet.
    fn met(
        &self,
        case: &Case,
        before: &Found,
        foretold: &BTreeSet<RuleLocation>,
    ) -> (BTreeSet<RuleLocation>, Found) {
        self.send(case);
        patiently(|| {
            let after = self.saved(before.family);
            let met = moved(before, &after);
            (foretold.is_subset(&met), (met, after))
        })
    }
}

/// Tries until it says that it is done, for at most three seconds; what it has got by then.
pub(crate) fn patiently<T>(mut attempt: impl FnMut() -> (bool, T)) -> T {
    let deadline = Instant::now() + Duration::from_secs(3);
    loop {
        let (done, got) = attempt();
        if done || Instant::now() >= deadline {
            return got;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn moved(before: &Found, after: &Found) -> BTreeSet<RuleLocation> {
    let mut met = BTreeSet::new();
    for (table, contents) in &after.tables {
        for (chain, now) in contents.chains.iter().enumerate() {
            for (index, rule) in now.rules.iter().enumerate() {
                let was = &before.tables[table].chains[chain].rules[index];
                if rule.counters != was.counters {
                    met.insert((*table, now.name.to_string(), index + 1));
                }
            }
        }
    }
    met
}

/// A rule: table, chain, number.
type RuleLocation = (TableName, String, usize);

/// Installs with these flags and sends every packet; some must be captured, or the comparison shows nothing.
fn compare(flags: &[&str]) {
    let captured = captured_as_foretold(flags, &[]);
    assert!(captured.is_none_or(|captured| captured >= 4), "{flags:?}: hardly anything was captured");
}

/// Installs with these flags and variables, sends every packet, and says how many were captured; none without root.
fn captured_as_foretold(flags: &[&str], variables: &[(&str, &str)]) -> Option<usize> {
    let world = World::new()?;
    let usual = ["-i", "*", "-b", "*", "-d", "15090,15021,15020", "--ipv6", "on"];
    world.pod.init_with(variables, &[&usual, flags].concat()).ok();
    // TPROXY drops what finds no socket, before nat is asked.
    let _sockets = ["0.0.0.0:15006", "[::]:15006"]
        .map(|address| world.pod.start(&format!("transparent-listener {address}")));
    let mut captured = 0;
    for (family, cases) in [(Family::V4, ipv4_cases()), (Family::V6, ipv6_cases())] {
        let mut before = world.saved(family);
        let rules = before.rule_set();
        for case in cases {
            let packet = case.packet();
            let walk = simulate(&packet, &rules, &[]);
            let foretold: BTreeSet<RuleLocation> = walk
                .visits
                .iter()
                .filter(|visit| visit.outcome == Outcome::Met)
                .map(|visit| (visit.table, visit.chain.to_string(), visit.number))
                .collect();
            let (met, after) = world.met(&case, &before, &foretold);
            let in_nat = |locations: &BTreeSet<RuleLocation>| -> BTreeSet<RuleLocation> {
                locations.iter().filter(|location| location.0 == TableName::Nat).cloned().collect()
            };
            assert_eq!(in_nat(&met), in_nat(&foretold), "{flags:?}: {packet}: {walk}");
            assert!(foretold.is_subset(&met), "{flags:?}: {packet}: {walk}: {:?}", foretold.difference(&met));
            captured += usize::from(matches!(walk.verdict, Verdict::Redirect(_) | Verdict::Tproxy { .. }));
            before = after;
        }
    }
    Some(captured)
}

#[test]
fn redirect_as_the_injector_asks_for_it() {
    compare(&["-u", "1337", "-g", "1337"]);
}

#[test]
fn exclusions_and_listed_ranges() {
    compare(&["-i", "10.77.0.0/28,fd00::/8", "-x", "10.77.0.1/32", "-q", "3306", "-o", "8080"]);
}

#[test]
fn excluded_interface_and_listed_inbound_ports() {
    compare(&["-c", "net1", "-b", "8000:9000", "--drop-invalid"]);
}

#[test]
fn traffic_of_a_virtual_machine() {
    compare(&["-k", "net1"]);
}

#[test]
fn traffic_of_a_virtual_machine_meets_both_captures_where_one_is_tproxy() {
    compare(&["-k", "net1", "-m", "TPROXY"]);
}

#[test]
fn dns_of_listed_servers() {
    compare(&["--redirect-dns", "--dns-servers", "10.77.0.1,127.0.0.53"]);
}

#[test]
fn dns_of_any_server() {
    compare(&["--redirect-dns", "--capture-all-dns"]);
}

#[test]
fn several_users_and_captured_loopback() {
    compare(&["-u", "1337,0", "-i", "127.0.0.0/8,10.77.0.9/32,fd00::/8"]);
}

#[test]
fn inbound_by_tproxy() {
    compare(&["-m", "TPROXY", "-u", "1337", "-g", "1337"]);
}

/// Values for each flag, among which chance chooses.
const CHOICES: [(&str, &[&str]); 12] = [
    ("-m", &["REDIRECT", "TPROXY"]),
    ("-b", &["*", "", "8080", "8000:9000,15006"]),
    ("-d", &["", "8080", "15021,15008"]),
    ("-i", &["*", "", "10.77.0.0/28,fd00::/8", "127.0.0.0/8", "0.0.0.0/0,::/0"]),
    ("-x", &["", "10.77.0.9/32", "10.77.0.0/24,fd00:77::9/128"]),
    ("-q", &["", "3306", "1:100"]),
    ("-o", &["", "3306", "53,8080"]),
    ("-c", &["", "net1", "net+", "lo"]),
    ("-k", &["", "net1", "eth0,net1"]),
    ("-u", &["1337", "0", "1337,0"]),
    ("--dns-servers", &["", "10.77.0.1", "10.77.0.1,127.0.0.53"]),
    ("-g", &["1337", "0,1337"]),
];
const GROUPS: [&str; 4] = ["*", "1000", "", "0,1000"];

/// Chance with a beginning that can be repeated: `POSTERN_TEST_SEED` is printed when a comparison fails.
struct Chance(u64);

impl Chance {
    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        // Knuth's multiplier; the upper bits are the good ones.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        choices[usize::try_from(self.0 >> 33).unwrap() % choices.len()]
    }
}

#[test]
fn any_settings_do_what_the_simulator_says() {
    let given = std::env::var("POSTERN_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    for round in 0..3 {
        let seed = given.unwrap_or(u64::from(now.subsec_nanos())) + round;
        let mut chance = Chance(seed);
        let mut flags = vec!["--redirect-dns"];
        for (flag, choices) in CHOICES {
            flags.extend([flag, chance.of(choices)]);
        }
        let groups = chance.of(&GROUPS);
        println!("POSTERN_TEST_SEED={seed} {flags:?} ISTIO_OUTBOUND_OWNER_GROUPS={groups}");
        captured_as_foretold(&flags, &[("ISTIO_OUTBOUND_OWNER_GROUPS", groups)]);
    }
}

#[test]
fn tproxy_keeps_the_clients_address_on_both_sides() {
    let Some(world) = World::new() else { return };
    world.pod.init(&["-m", "TPROXY", "-u", "1337", "-i", "*", "-b", "*", "--ipv6", "on"]).ok();
    for (any, own) in [("0.0.0.0", "10.77.0.2:8080"), ("[::]", "[fd00:77::2]:8080")] {
        let _application = world.pod.start(&format!("application {own}"));
        let _proxy = world.pod.start(&format!("transparent-proxy {any}:15006"));
        let said = world.outside.ask(&format!("ask {own}"));
        assert!(said.contains(&format!("proxy was asked for {own}")), "{said}");
        let client = address_after("client is ", &said);
        assert!(!own.starts_with(&client.to_string()), "{said}");
        assert_eq!(address_after("application saw ", &said), client, "{said}");
    }
}

/// The address in `…words ADDRESS:PORT;…`.
fn address_after(words: &str, said: &str) -> std::net::IpAddr {
    let text = said.split_once(words).unwrap().1.split(';').next().unwrap();
    text.trim_end().parse::<SocketAddr>().unwrap().ip()
}

#[test]
fn a_source_port_the_proxy_has_used_does_not_lead_past_it() {
    let Some(world) = World::new() else { return };
    world.pod.init(&["-i", "*", "--ipv6", "off", "--redirect-dns", "--dns-servers", "10.77.0.1"]).ok();
    let _resolver = world.outside.start("answer 0 10.77.0.1:53 resolver");
    let _proxy = world.pod.start("answer 1337 127.0.0.1:15053 proxy");
    let asks = |user, port| world.pod.ask(&format!("query {user} {port} 10.77.0.1:53"));
    assert_eq!((asks(1337, 41000), asks(1000, 41000)), ("resolver".to_owned(), "proxy".to_owned()));
    // Without the zones, the application's query belongs to the proxy's connection of before.
    world.pod.shell("iptables -t raw -F ISTIO_OUTPUT_DNS; iptables -t raw -F ISTIO_INBOUND");
    assert_eq!((asks(1337, 42000), asks(1000, 42000)), ("resolver".to_owned(), "resolver".to_owned()));
}

#[test]
fn live_explanations_show_the_counters() {
    let namespace = namespace_or_skip!();
    namespace.init(&["-i", "*", "-b", "*", "--ipv6", "off"]).ok();
    let destination = "127.0.0.1:8080".parse().unwrap();
    namespace.send(&Send { who: APPLICATION, udp: false, source: None, destination });
    let said =
        namespace.init(&["explain", "--live", "--out", "--dst", "127.0.0.1:8080", "--uid", "1000"]).ok();
    let met = "-o lo -m owner ! --uid-owner 1337 -j RETURN (application talks to its own pod) [1 packets]";
    assert!(said.stdout.contains(met), "{}", said.stdout);
    assert!(said.stdout.ends_with("verdict: RETURN (not intercepted)\n"));
}
