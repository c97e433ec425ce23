//! Packets with a known fate: the walks that the rules are designed for, each checked rule by rule.
#![expect(clippy::unwrap_used, reason = "a test that cannot build its packet should stop")]

mod dns;
mod redirect;
mod tproxy;

use std::collections::BTreeMap;

use rules::build::{Facts, build};
use rules::flags::{FLAGS, RawSettings};
use rules::packet::{Direction, Packet};
use rules::ports::PROXY_ID;
use rules::program::Ipv6;
use rules::purpose::Purpose;
use rules::ruleset::{ConnectionState, Family, Protocol, RuleSet};
use rules::settings::{InterceptionMode, Settings};
use rules::simulate::{LocalDelivery, Outcome, Walk, simulate};

const POD: &str = "10.77.0.2";
const OTHER: &str = "10.77.0.9:80";

/// The rules for these flags, and the delivery that goes with them.
struct Setting {
    rules: RuleSet,
    delivery: Option<LocalDelivery>,
}

impl Setting {
    fn new(more: &[&str]) -> Self {
        let usual = [
            "-p",
            "15001",
            "-z",
            "15006",
            "-u",
            "1337",
            "-g",
            "1337",
            "-i",
            "*",
            "-b",
            "*",
            "-d",
            "15090,15021,15020",
        ];
        let arguments: Vec<_> = usual.iter().chain(more).map(|text| (*text).to_owned()).collect();
        let (raw, problems) = RawSettings::scan(&arguments, &BTreeMap::new(), FLAGS);
        assert_eq!(problems, []);
        let (mut settings, options) = Settings::read(&raw).unwrap();
        settings.fill_owners(PROXY_ID);
        let dns_servers = options.dns_servers.unwrap_or_default();
        let delivery = (settings.mode == InterceptionMode::Tproxy)
            .then_some(LocalDelivery { mark: settings.tproxy_mark, table: settings.tproxy_route_table });
        let program = build(&settings, &Facts { ipv6: Ipv6::On, dns_servers });
        Self { rules: program.rule_set(Family::V4), delivery }
    }

    /// Walks the packet, and compares the verdict and the purposes of the rules met.
    #[track_caller]
    fn walks(&self, packet: &Packet, met: &[Purpose], verdict: &str) {
        let walk = simulate(packet, &self.rules, self.delivery.as_slice());
        assert_eq!(walk.to_string(), verdict, "{packet}");
        assert_eq!(purposes_met(&walk), met, "{packet}");
    }
}

fn purposes_met(walk: &Walk<'_>) -> Vec<Purpose> {
    let met = walk.visits.iter().filter(|visit| visit.outcome == Outcome::Met);
    met.map(|visit| visit.rule.purpose.unwrap()).collect()
}

fn out(source: &str, destination: &str, by: &str) -> Packet {
    let source = format!("{source}:40000").parse().unwrap();
    let packet = Packet::new(Direction::Out, Protocol::Tcp, source, destination.parse().unwrap());
    Packet { out_interface: Some(by.to_owned()), ..packet }
}

fn app(destination: &str, by: &str) -> Packet {
    Packet { user: Some(1000), group: Some(1000), ..out(POD, destination, by) }
}

fn proxy(destination: &str, by: &str) -> Packet {
    Packet { user: Some(1337), group: Some(1337), ..out(POD, destination, by) }
}

fn outside(destination: &str) -> Packet {
    let source = "10.77.0.9:40000".parse().unwrap();
    let packet = Packet::new(Direction::In, Protocol::Tcp, source, destination.parse().unwrap());
    Packet { in_interface: Some("eth0".to_owned()), ..packet }
}

fn udp(packet: Packet) -> Packet {
    Packet { protocol: Protocol::Udp, ..packet }
}

fn from(source: &str, packet: Packet) -> Packet {
    Packet { source: source.parse().unwrap(), ..packet }
}

fn later(packet: Packet) -> Packet {
    Packet { state: ConnectionState::Established, ..packet }
}
