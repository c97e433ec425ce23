//! `validate`: proves with real connections that interception works.
//!
//! The simulator says for each probe where it must arrive, and by which rule; listeners on the proxy's ports say where
//! it did. So a failed probe accuses a rule. Istio's own validation is the first probe: from 127.0.0.1 to 127.0.0.6, as
//! the proxy.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Result;
use rules::build::{Facts, dns_is_active, passthrough_source};
use rules::packet::{Direction, Packet};
use rules::ports::Port;
use rules::render::Dialect;
use rules::ruleset::{Family, Protocol, RuleSet};
use rules::settings::{DnsCapture, Settings};
use rules::simulate::{Outcome, Verdict, Walk, simulate};

use crate::facts::Address;
use dial::{Dialed, dial};
use listen::Listeners;

mod dial;
pub(crate) mod identity;
mod listen;
pub(crate) mod report;

use identity::{Identity, Roles};
use report::{LineStatus, Report};

/// What the probes need to know.
pub(crate) struct Question<'a> {
    /// What is to be captured.
    pub(crate) settings: &'a Settings,
    /// The address families of this machine that have rules.
    pub(crate) families: &'a [Family],
    /// The rules that must be in force, for IPv4 and IPv6.
    pub(crate) rules: [RuleSet; 2],
    /// The words in which they are told.
    pub(crate) dialect: Dialect,
    /// The resolvers.
    pub(crate) facts: &'a Facts,
    /// The addresses of this machine.
    pub(crate) addresses: &'a [Address],
    /// The destination port of the probes.
    pub(crate) port: Port,
    /// How long a probe that has to arrive is repeated.
    pub(crate) timeout: Duration,
}

/// Sends every probe that this user may send, and hands the findings to `report`.
///
/// # Errors
/// The ports of the proxy are taken: most likely the proxy itself is running.
pub(crate) fn validate(question: &Question<'_>, report: &mut Report) -> Result<()> {
    let roles = Roles::find(question.settings);
    let listeners = Listeners::open(question.settings, question.dns())?;
    let deadline = Instant::now() + question.timeout;
    for probe in question.probes(&roles) {
        let found = probe.send(question, &listeners, deadline);
        report.add(&probe, &found);
    }
    for reason in roles.missing() {
        report.line(LineStatus::Skipped, reason);
    }
    Ok(())
}

impl Question<'_> {
    fn dns(&self) -> bool {
        dns_is_active(self.settings, self.facts)
    }

    /// The probes of both families for the roles that can be played, Istio's own first.
    fn probes(&self, roles: &Roles) -> Vec<Probe> {
        let mut probes = Vec::new();
        for &family in self.families {
            let own = SocketAddr::new(passthrough_source(family), self.port.number());
            let elsewhere = SocketAddr::new(documentation(family), self.port.number());
            if let Some(proxy) = roles.proxy {
                probes.push(Probe::tcp("proxy to its own pod", proxy, Some(loopback(family)), own));
                probes.push(Probe::tcp("proxy to another machine", proxy, None, elsewhere));
            }
            if let Some(application) = roles.application {
                probes.push(Probe::tcp("application to another machine", application, None, elsewhere));
                probes.extend(self.query(family, application));
            }
        }
        probes
    }

    /// A query of the application to the first resolver of the family.
    fn query(&self, family: Family, application: Identity) -> Option<Probe> {
        let of_family = |server: &&IpAddr| server.is_ipv4() == (family == Family::V4);
        let server = match self.settings.dns {
            DnsCapture::Off => return None,
            DnsCapture::Listed => *self.facts.dns_servers.iter().find(of_family)?,
            DnsCapture::All => documentation(family),
        };
        let destination = SocketAddr::new(server, Port::RESOLVER.number());
        let probe = Probe::tcp("application to the DNS server", application, None, destination);
        Some(Probe { protocol: Protocol::Udp, ..probe })
    }
}

/// Addresses that no machine has (RFC 5737, RFC 3849).
fn documentation(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(192, 0, 2, 1).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    }
}

fn loopback(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    }
}

/// One connection to be made.
#[derive(Clone, Debug)]
struct Probe {
    what: &'static str,
    sender: Identity,
    protocol: Protocol,
    source: Option<IpAddr>,
    destination: SocketAddr,
}

/// What became of a probe, against what must.
enum Found {
    /// As the rules say.
    AsForetold(String),
    /// Otherwise; with the rule that is accused.
    Otherwise(String),
    /// It could not be sent.
    Unsent(String),
}

impl Probe {
    fn tcp(what: &'static str, sender: Identity, source: Option<IpAddr>, destination: SocketAddr) -> Self {
        Self { what, sender, protocol: Protocol::Tcp, source, destination }
    }

    /// Whether the packet never leaves the pod.
    fn stays_inside(&self) -> bool {
        self.source.is_some()
    }

    fn send(&self, question: &Question<'_>, listeners: &Listeners, deadline: Instant) -> Found {
        let [v4, v6] = &question.rules;
        let rules = if self.destination.is_ipv4() { v4 } else { v6 };
        let packet = self.packet(question.addresses);
        let walk = simulate(&packet, rules, &[]);
        let wanted = match walk.verdict {
            Verdict::Redirect(port) => Some(port),
            _ => None,
        };
        loop {
            let dialed = dial(self, listeners);
            let hopeless = matches!(dialed, Dialed::Unsent(_)) && !self.stays_inside();
            if wanted.is_none() || dialed.port() == wanted || hopeless || Instant::now() >= deadline {
                return self.judge(&dialed, wanted, &|| accusation(&walk, question.dialect, rules.family));
            }
            // Rules may still be on their way in: a CNI plugin installs them while the pod starts.
            std::thread::sleep(
                Duration::from_secs(1).min(deadline.saturating_duration_since(Instant::now())),
            );
        }
    }

    fn packet(&self, addresses: &[Address]) -> Packet {
        let own = |address: IpAddr| addresses.iter().any(|found| found.address == address);
        let outside = addresses.iter().find(|found| {
            !found.on_loopback && found.is_usable() && found.address.is_ipv4() == self.destination.is_ipv4()
        });
        let source = self.source.or(outside.map(|found| found.address)).unwrap_or(self.destination.ip());
        let mut packet =
            Packet::new(Direction::Out, self.protocol, SocketAddr::new(source, 40000), self.destination);
        let destination = self.destination.ip();
        let inside = destination.is_loopback() || own(destination) || self.stays_inside();
        let interface = outside.map_or("eth0", |found| &found.interface);
        packet.out_interface = Some(if inside { "lo" } else { interface }.to_owned());
        packet.user = Some(self.sender.user);
        packet.group = Some(self.sender.group);
        packet
    }

    fn judge(&self, dialed: &Dialed, wanted: Option<Port>, accusation: &dyn Fn() -> String) -> Found {
        let wanted_text =
            wanted.map_or_else(|| "must not arrive".to_owned(), |port| format!("must arrive on port {port}"));
        match (dialed, wanted) {
            // Without a route to others nothing is proved; the pod itself must be within reach.
            (Dialed::Unsent(reason), _) if self.stays_inside() => Found::Otherwise(reason.clone()),
            (Dialed::Unsent(reason), _) => Found::Unsent(reason.clone()),
            (Dialed::Arrived { port, original }, Some(wanted)) if *port == wanted => match original {
                Some(original) if *original != self.destination => Found::Otherwise(format!(
                    "arrived on port {port} as a connection to {original}: the original destination is lost"
                )),
                _ => Found::AsForetold(format!("arrived on port {port}")),
            },
            (Dialed::Arrived { port, .. }, _) => {
                Found::Otherwise(format!("{wanted_text}, but arrived on port {port}; {}", accusation()))
            }
            (Dialed::NotHere, Some(_)) => {
                Found::Otherwise(format!("{wanted_text}, but did not; {}", accusation()))
            }
            (Dialed::NotHere, None) => Found::AsForetold("not intercepted, as it must be".to_owned()),
        }
    }
}

/// The rule that should have decided: the last one the packet meets on its way.
fn accusation(walk: &Walk<'_>, dialect: Dialect, family: Family) -> String {
    let jumps = walk.visits.iter().rev().filter(|visit| visit.outcome == Outcome::Met);
    // The last rule met of the deciding chain is the redirection itself; the one before sent the packet there.
    let deciding: Vec<_> = jumps.take(2).collect();
    let texts: Vec<_> = deciding
        .iter()
        .rev()
        .map(|visit| {
            let place = dialect.place(visit.table, visit.chain);
            format!("{place} rule {} `{}`", visit.number, dialect.rule(visit.rule, family))
        })
        .collect();
    format!("look at {}", texts.join(", then "))
}
