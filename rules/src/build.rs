//! Builds the rule program out of the settings: one short function per concern, called in the order of emission.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::ports::PortRange;
use crate::program::{Entry, Ipv6, Program, RuleLocation};
use crate::ruleset::{Condition, Family, Match, Protocol, Rule, Target};
use crate::settings::{DnsCapture, InterceptionMode, Interface, Owner, Settings};

mod dns;
mod exclusions;
mod inbound;
mod loopback;
mod outbound;
mod tproxy;

/// What the rules depend on besides the settings: facts about the machine, found out by the caller.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Facts {
    /// Whether IPv6 rules are wanted on this machine.
    pub ipv6: Ipv6,
    /// The resolvers whose queries are captured, in order; only used with [`DnsCapture::Listed`].
    pub dns_servers: Vec<IpAddr>,
}

/// The rules that capture what `settings` say. Same settings and facts, same rules, in the same order.
pub fn build(settings: &Settings, facts: &Facts) -> Program {
    let mut writer = Writer::new(settings, facts);
    exclusions::interfaces(&mut writer);
    exclusions::virtual_machines(&mut writer);
    inbound::drop_invalid(&mut writer);
    inbound::tunnel(&mut writer);
    outbound::redirect(&mut writer);
    inbound::redirect(&mut writer);
    inbound::capture(&mut writer);
    outbound::enter(&mut writer);
    exclusions::outbound_ports(&mut writer);
    loopback::passthrough(&mut writer);
    loopback::proxy(&mut writer);
    exclusions::groups(&mut writer);
    dns::capture(&mut writer);
    loopback::destinations(&mut writer);
    exclusions::destinations(&mut writer);
    outbound::capture(&mut writer);
    tproxy::marks(&mut writer);
    writer.program
}

/// Whether DNS capture has something to capture.
///
/// `--redirect-dns` without any server captures nothing; the caller warns.
pub fn dns_is_active(settings: &Settings, facts: &Facts) -> bool {
    match settings.dns {
        DnsCapture::Off => false,
        DnsCapture::Listed => !facts.dns_servers.is_empty(),
        DnsCapture::All => true,
    }
}

/// Collects entries, giving each rule to every family that has rules.
struct Writer<'a> {
    settings: &'a Settings,
    facts: &'a Facts,
    program: Program,
}

impl<'a> Writer<'a> {
    fn new(settings: &'a Settings, facts: &'a Facts) -> Self {
        let program = Program { entries: Vec::new(), ipv6: facts.ipv6.clone() };
        Self { settings, facts, program }
    }

    /// The families that have rules, IPv4 first. IPv4 rules are emitted in IPv6-only pods, too.
    fn families(&self) -> &'static [Family] {
        if self.facts.ipv6 == Ipv6::On { &Family::BOTH } else { &[Family::V4] }
    }

    fn dns_is_active(&self) -> bool {
        dns_is_active(self.settings, self.facts)
    }

    fn is_tproxy(&self) -> bool {
        self.settings.mode == InterceptionMode::Tproxy
    }

    /// Emits the same rule for every family.
    fn every(&mut self, location: &RuleLocation, rule: &Rule) {
        self.each(location, |_| rule.clone());
    }

    /// Emits a rule for every family, made for that family.
    fn each(&mut self, location: &RuleLocation, rule: impl Fn(Family) -> Rule) {
        for &family in self.families() {
            self.only(family, location.clone(), rule(family));
        }
    }

    /// Emits a rule for one family, if that family has rules.
    fn only(&mut self, family: Family, location: RuleLocation, rule: Rule) {
        if self.families().contains(&family) {
            self.program.entries.push(Entry::new(family, location, rule));
        }
    }

    /// Destinations that count as loopback.
    fn loopback(&self, family: Family) -> IpNet {
        match family {
            Family::V4 => self.settings.loopback.into(),
            Family::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST).into(),
        }
    }
}

/// The source address with which the proxy hands an inbound connection to the application.
pub fn passthrough_source(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(127, 0, 0, 6).into(),
        Family::V6 => Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6).into(),
    }
}

/// The two ways of telling whose traffic it is: by user and by group.
fn proxy_owners(settings: &Settings) -> impl Iterator<Item = Match> {
    let users = settings.proxy_uids.iter().map(|owner| user(owner.clone()));
    users.chain(settings.proxy_gids.iter().map(|owner| group(owner.clone())))
}

fn tcp() -> Match {
    Condition::Protocol(Protocol::Tcp).into()
}

fn udp() -> Match {
    Condition::Protocol(Protocol::Udp).into()
}

fn from(interface: &Interface) -> Match {
    Condition::InInterface(interface.clone()).into()
}

fn out_by(interface: &Interface) -> Match {
    Condition::OutInterface(interface.clone()).into()
}

fn out_by_loopback() -> Match {
    out_by(&Interface::loopback())
}

fn source(net: impl Into<IpNet>) -> Match {
    Condition::Source(net.into()).into()
}

fn destination(net: impl Into<IpNet>) -> Match {
    Condition::Destination(net.into()).into()
}

fn port(port: impl Into<PortRange>) -> Match {
    Condition::DestinationPort(port.into()).into()
}

fn source_port(port: impl Into<PortRange>) -> Match {
    Condition::SourcePort(port.into()).into()
}

fn user(owner: Owner) -> Match {
    Condition::User(owner).into()
}

fn group(owner: Owner) -> Match {
    Condition::Group(owner).into()
}

fn leave_alone(matches: impl Into<Vec<Match>>) -> Rule {
    Rule::new(matches, Target::Return)
}
