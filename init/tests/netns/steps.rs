//! Real connections after every step from one set of rules to another: each fares as under the old or the new set.
//!
//! The documents are those that postern-init writes, given to iptables-restore one COMMIT after the other.

use std::io::{Seek as _, Write as _};

use rules::build::{Facts, build};
use rules::flags::{FLAGS, RawSettings};
use rules::parse::parse;
use rules::program::{Ipv6, Program};
use rules::ruleset::Family;
use rules::settings::Settings;
use rules::transaction;

use crate::harness::Namespace;
use crate::packets::World;
use crate::roles::Running;

#[test]
fn connections_fare_as_before_or_after_with_nft() {
    connections_fare_as_before_or_after("nft");
}

#[test]
fn connections_fare_as_before_or_after_with_legacy() {
    connections_fare_as_before_or_after("legacy");
}

const NOTHING: &[&str] = &[];
const REDIRECT: &[&str] = &["-i", "*", "-b", "*"];
const OTHER_PORTS: &[&str] = &["-i", "*", "-b", "*", "-p", "15101", "-z", "15106", "--drop-invalid"];
const TPROXY: &[&str] = &["-i", "*", "-b", "*", "-m", "TPROXY"];
const ANY_DNS: &[&str] = &["-i", "*", "-b", "*", "--redirect-dns", "--capture-all-dns"];
const ALL_OTHER: &[&str] = &[
    "-i",
    "*",
    "-b",
    "*",
    "-m",
    "TPROXY",
    "-p",
    "15101",
    "-z",
    "15106",
    "-t",
    "7",
    "-r",
    "300",
    "--redirect-dns",
    "--capture-all-dns",
];
/// Every kind of change, one after the other: each begins where the one before it has ended.
const LIFE: [&[&str]; 12] = [
    NOTHING,
    REDIRECT,
    OTHER_PORTS,
    TPROXY,
    ALL_OTHER,
    ANY_DNS,
    REDIRECT,
    NOTHING,
    TPROXY,
    NOTHING,
    ALL_OTHER,
    NOTHING,
];

fn connections_fare_as_before_or_after(backend: &str) {
    let Some(world) = World::new() else { return };
    let _servers = start_servers(&world);
    let mut before = Fates::of(&world);
    let mut taken = 0;
    for ways in LIFE.windows(2) {
        let way = Way { world: &world, backend, from: ways[0], to: ways[1] };
        let between = way.go();
        let after = Fates::of(&world);
        assert_ne!(before, after, "{way:?}");
        for (step, fates) in &between {
            fates.expect_either(&before, &after, &format!("{way:?} after {step}"));
        }
        taken += between.len();
        before = after;
    }
    // Most ways have some; what is taken in one step has none.
    assert!(taken > 20, "{taken} steps");
}

/// The way from one set of rules to another.
struct Way<'a> {
    world: &'a World,
    backend: &'a str,
    from: &'a [&'a str],
    to: &'a [&'a str],
}

impl std::fmt::Debug for Way<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {:?} to {:?}", self.backend, self.from, self.to)
    }
}

impl Way<'_> {
    /// Takes every step, and tells how connections fared after each but the last; then lets postern-init finish.
    fn go(&self) -> Vec<(String, Fates)> {
        let mut fates = Vec::new();
        self.add_routes();
        let documents =
            Family::BOTH.map(|family| (family, document(&self.world.pod, self.backend, family, self.to)));
        for (family, document) in &documents {
            for (number, section) in document.split_inclusive("COMMIT\n").enumerate() {
                restore(&self.world.pod, self.backend, *family, section);
                fates.push((format!("step {} of {family}:\n{document}", number + 1), Fates::of(self.world)));
            }
        }
        self.finish();
        fates
    }

    /// Routing rules come first, and those of before stay.
    fn add_routes(&self) {
        let value = |flag: &str, usual: &'static str| {
            let at = self.to.iter().position(|given| *given == flag);
            at.map_or(usual.to_owned(), |at| self.to[at + 1].to_owned())
        };
        if !self.to.contains(&"TPROXY") {
            return;
        }
        let (mark, table) = (value("-t", "1337"), value("-r", "133"));
        for family in ["-4", "-6"] {
            self.world.pod.shell(&format!(
                "ip {family} rule add fwmark {mark} lookup {table} protocol 133 priority 1337
                 ip {family} route add local default dev lo table {table}"
            ));
        }
    }

    fn finish(&self) {
        let flags: Vec<_> = match self.to {
            [] => vec!["--cleanup"],
            flags => [flags, &["--ipv6", "on", "--force-iptables-binary", self.backend]].concat(),
        };
        self.world.pod.init(&flags).ok();
    }
}

/// The document that makes what `flags` ask for of what the namespace holds.
pub(crate) fn document(pod: &Namespace, backend: &str, family: Family, flags: &[&str]) -> String {
    let saved = pod.run(&program(backend, family, "save"), &[]).ok().stdout;
    let found = parse(family, &saved).unwrap();
    if flags.is_empty() {
        return transaction::remove(&found);
    }
    transaction::replace(&planned(flags), family, &found)
}

fn planned(flags: &[&str]) -> Program {
    let flags: Vec<_> = flags.iter().map(|flag| (*flag).to_owned()).collect();
    let (raw, problems) = RawSettings::scan(&flags, &Default::default(), FLAGS);
    assert_eq!(problems, []);
    let (mut settings, _) = Settings::read(&raw).unwrap();
    settings.fill_owners(1337);
    build(&settings, &Facts { ipv6: Ipv6::On, dns_servers: Vec::new() })
}

pub(crate) fn program(backend: &str, family: Family, verb: &str) -> String {
    let family = if family == Family::V4 { "iptables" } else { "ip6tables" };
    format!("{family}-{backend}-{verb}")
}

/// Gives a document to iptables-restore.
pub(crate) fn restore(pod: &Namespace, backend: &str, family: Family, document: &str) {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(document.as_bytes()).unwrap();
    file.rewind().unwrap();
    let mut command = pod.command(&program(backend, family, "restore"), &["--noflush"]);
    assert!(command.stdin(file).status().unwrap().success(), "{document}");
}

/// Whoever can be reached says who it is.
pub(crate) fn start_servers(world: &World) -> Vec<Running> {
    let mut servers = Vec::new();
    for (address, name) in [
        ("[::]:15001", "outbound"),
        ("[::]:15101", "other-outbound"),
        ("[::]:15006", "inbound"),
        ("[::]:15106", "other-inbound"),
        ("[::]:8080", "application"),
    ] {
        servers.push(world.pod.start(&format!("announce {address} {name}")));
    }
    servers.push(world.outside.start("announce [::]:80 outside"));
    for resolver in ["10.77.0.1:53", "[fd00:77::1]:53"] {
        servers.push(world.outside.start(&format!("answer 0 {resolver} resolver")));
    }
    for proxy in ["127.0.0.1:15053", "[::1]:15053"] {
        servers.push(world.pod.start(&format!("answer 1337 {proxy} proxy")));
    }
    servers
}

/// Who is reached, by each connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Fates(Vec<String>);

impl Fates {
    /// Lets everybody connect to everything.
    pub(crate) fn of(world: &World) -> Self {
        let own = "tcp/10.77.0.2:8080 tcp/[fd00:77::2]:8080";
        let other = "tcp/10.77.0.9:80 tcp/[fd00:77::9]:80 udp/10.77.0.1:53 udp/[fd00:77::1]:53";
        let mut fates = Vec::new();
        let askers = [(&world.outside, "0 0", own.to_owned())].into_iter();
        let insiders =
            ["1000 1000", "1337 1337", "0 1337"].map(|who| (&world.pod, who, format!("{own} {other}")));
        for (namespace, who, targets) in askers.chain(insiders) {
            fates.extend(namespace.ask(&format!("reach {who} {targets}")).lines().map(str::to_owned));
        }
        assert_eq!(fates.len(), 2 + 3 * 6, "{fates:#?}");
        Self(fates)
    }

    pub(crate) fn expect_either(&self, before: &Self, after: &Self, about: &str) {
        for (number, fate) in self.0.iter().enumerate() {
            let (before, after) = (&before.0[number], &after.0[number]);
            assert!(fate == before || fate == after, "{about}\n{fate}, neither {before} nor {after}");
        }
    }
}
