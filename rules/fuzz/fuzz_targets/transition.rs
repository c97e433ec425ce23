//! Command lines of any text, one after the other, among tables of others: what is installed is what was wanted, no
//! step catches the proxy's own traffic, and all of it can be taken away again.
#![no_main]

use std::collections::BTreeMap;

use kernel::Kernel;
use libfuzzer_sys::fuzz_target;
use rules::build::{Facts, build};
use rules::diff;
use rules::flags::{FLAGS, RawSettings};
use rules::packet::{Direction, Packet};
use rules::parse::{Found, parse};
use rules::ports::PROXY_ID;
use rules::program::{Ipv6, Program};
use rules::ruleset::{Family, Protocol};
use rules::settings::{Owner, Settings};
use rules::simulate::{Verdict, simulate};
use rules::transaction;

#[path = "../../tests/transitions/kernel.rs"]
mod kernel;

// Two lines with the arguments of a command each, separated by blanks; then what iptables-save says of others.
fuzz_target!(|text: &str| {
    let mut parts = text.splitn(3, '\n');
    let [old, new, others] = [(); 3].map(|()| parts.next().unwrap_or_default());
    for family in Family::BOTH {
        if let Ok(found) = parse(family, others) {
            simulate(&sent_by(PROXY_ID, family), &found.rule_set(), &[]);
        }
    }
    let programs: Vec<_> = [old, new].into_iter().filter_map(Wanted::read).collect();
    Family::BOTH.into_iter().for_each(|family| install_each(family, &programs));
});

struct Wanted {
    program: Program,
    /// A user whose traffic is the proxy's own.
    user: u32,
}

impl Wanted {
    fn read(line: &str) -> Option<Self> {
        let arguments: Vec<_> = line.split(' ').map(str::to_owned).collect();
        let (raw, problems) = RawSettings::scan(&arguments, &BTreeMap::new(), FLAGS);
        let (mut settings, options) = Settings::read(&raw).ok().filter(|_| problems.is_empty())?;
        settings.fill_owners(PROXY_ID);
        settings.resolve_owners(|_| Some(PROXY_ID), |_| Some(PROXY_ID)).ok()?;
        let Owner::Id(user) = *settings.proxy_uids.first()? else { return None };
        let dns_servers = options.dns_servers.unwrap_or_default();
        Some(Self { program: build(&settings, &Facts { ipv6: Ipv6::On, dns_servers }), user })
    }
}

fn install_each(family: Family, programs: &[Wanted]) {
    let mut kernel = Kernel::default();
    for Wanted { program, user } in programs {
        let document = transaction::replace(program, family, &kernel.found(family));
        kernel = kernel.after_each(&document).pop().unwrap_or(kernel);
        let found = kernel.found(family);
        let difference = diff::compare(&program.rule_set(family), &found);
        assert!(difference.is_empty(), "{difference}");
        expect_uncaptured(&sent_by(*user, family), &found);
    }
    let rest = kernel.after_each(&transaction::remove(&kernel.found(family))).pop().unwrap_or(kernel);
    assert!(!rest.found(family).holds_own());
}

/// What the proxy of this user sends to others.
fn sent_by(user: u32, family: Family) -> Packet {
    let (source, destination) = match family {
        Family::V4 => ("10.77.0.2:40000", "192.0.2.1:80"),
        Family::V6 => ("[fd00:77::2]:40000", "[2001:db8::1]:80"),
    };
    let at = |text: &str| text.parse().expect("it is an address");
    let packet = Packet::new(Direction::Out, Protocol::Tcp, at(source), at(destination));
    Packet { out_interface: Some("eth0".to_owned()), user: Some(user), ..packet }
}

fn expect_uncaptured(packet: &Packet, found: &Found) {
    let rules = found.rule_set();
    let walk = simulate(packet, &rules, &[]);
    assert!(walk.certain && matches!(walk.verdict, Verdict::Return | Verdict::Accept), "{packet}: {walk}");
}
