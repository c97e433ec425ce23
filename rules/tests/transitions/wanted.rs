//! What is to be in the kernel: nothing, or what a command line says, which chance may choose.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rules::build::{Facts, build};
use rules::flags::{FLAGS, RawSettings};
use rules::program::{Ipv6, Program};
use rules::ruleset::{Family, RuleSet};
use rules::settings::{InterceptionMode, Settings};
use rules::simulate::LocalDelivery;
use rules::transaction;

use crate::kernel::Kernel;
use crate::way::State;

/// What is wanted: nothing, or what a command line says.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) flags: Vec<String>,
    pub(crate) program: Option<Program>,
    pub(crate) delivery: Option<LocalDelivery>,
    /// Whether it knows the mark of TPROXY, though nothing inbound is captured: no connection carries it then.
    pub(crate) marks_in_vain: bool,
}

impl Wanted {
    pub(crate) fn nothing() -> Self {
        Self { flags: Vec::new(), program: None, delivery: None, marks_in_vain: false }
    }

    pub(crate) fn by(flags: &[&str], ipv6: bool) -> Self {
        let flags: Vec<_> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let (raw, problems) = RawSettings::scan(&flags, &BTreeMap::new(), FLAGS);
        assert_eq!(problems, []);
        let (mut settings, options) = Settings::read(&raw).unwrap();
        settings.fill_owners(1337);
        let dns_servers = options.dns_servers.unwrap_or_default();
        let ipv6 = if ipv6 { Ipv6::On } else { Ipv6::Off(String::new()) };
        let by_tproxy = settings.mode == InterceptionMode::Tproxy;
        let captures = !settings.inbound_ports.is_none();
        let delivery = LocalDelivery { mark: settings.tproxy_mark, table: settings.tproxy_route_table };
        Self {
            flags,
            program: Some(build(&settings, &Facts { ipv6, dns_servers })),
            delivery: (by_tproxy && captures).then_some(delivery),
            marks_in_vain: by_tproxy && !captures,
        }
    }

    pub(crate) fn rule_set(&self, family: Family) -> RuleSet {
        self.program.as_ref().map_or_else(|| RuleSet::empty(family), |program| program.rule_set(family))
    }

    pub(crate) fn state(&self, family: Family) -> State {
        State { rules: self.rule_set(family), deliveries: self.delivery.into_iter().collect() }
    }

    /// The document that makes it of what the kernel holds.
    pub(crate) fn document(&self, family: Family, kernel: &Kernel) -> String {
        let found = kernel.found(family);
        self.program.as_ref().map_or_else(
            || transaction::remove(&found),
            |program| transaction::replace(program, family, &found),
        )
    }
}

/// Flags and their values, among which chance chooses.
const CHOICES: [(&str, &[&str]); 16] = [
    ("-m", &["REDIRECT", "TPROXY"]),
    ("-p", &["15001", "15101"]),
    ("-z", &["15006", "15106"]),
    ("-u", &["1337", "0", "1000", "1337,0"]),
    ("-g", &["1337", "0", "1000"]),
    ("-b", &["*", "", "8080", "8000:9000,15006"]),
    ("-d", &["", "8080", "15021,15008"]),
    ("-i", &["*", "", "10.77.0.0/28,fd00::/8", "127.0.0.0/8", "0.0.0.0/0,::/0"]),
    ("-x", &["", "10.77.0.9/32", "10.77.0.0/24,fd00:77::9/128"]),
    ("-q", &["", "3306", "1:100"]),
    ("-o", &["", "3306", "53,8080"]),
    ("-c", &["", "net1", "net+", "lo"]),
    ("-k", &["", "", "net1", "eth0,net1"]),
    ("-t", &["1337", "7"]),
    ("-r", &["133", "300"]),
    ("--dns-servers", &["10.77.0.1", "10.77.0.9,fd00:77::1", "10.77.0.1,127.0.0.53", "fd00:77::9"]),
];
const SWITCHES: [&str; 3] = ["--redirect-dns", "--capture-all-dns", "--drop-invalid"];

prop_compose! {
    pub(crate) fn wanted()(
        is_something in prop::bool::weighted(0.85),
        values in CHOICES.map(|(_, values)| prop::sample::select(values.to_vec())),
        switches in SWITCHES.map(|_| any::<bool>()),
        ipv6 in any::<bool>(),
    ) -> Wanted {
        if !is_something {
            return Wanted::nothing();
        }
        let mut flags: Vec<_> = CHOICES.iter().zip(values).flat_map(|((flag, _), value)| [*flag, value]).collect();
        flags.extend(SWITCHES.iter().zip(switches).filter(|(_, on)| *on).map(|(flag, _)| *flag));
        Wanted::by(&flags, ipv6)
    }
}
