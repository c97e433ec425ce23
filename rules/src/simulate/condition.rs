//! Whether a packet meets a rule.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Outcome;
use crate::packet::Packet;
use crate::ruleset::{Condition, Match, Rule};
use crate::settings::{Interface, Owner};

/// Whether `packet` meets `rule`: one condition that fails decides, whatever cannot be read.
pub(super) fn outcome(rule: &Rule, packet: &Packet) -> Outcome {
    let mut unknown = false;
    for m in &rule.matches {
        match holds(m, packet) {
            Some(true) => {}
            Some(false) => return Outcome::Passed,
            None => unknown = true,
        }
    }
    if unknown { Outcome::Unknown } else { Outcome::Met }
}

fn holds(m: &Match, packet: &Packet) -> Option<bool> {
    let holds = match &m.condition {
        Condition::InInterface(interface) => is(interface, packet.in_interface.as_deref()),
        Condition::OutInterface(interface) => is(interface, packet.out_interface.as_deref()),
        Condition::Source(net) => has(net, packet.source.ip()),
        Condition::Destination(net) => has(net, packet.destination.ip()),
        Condition::Protocol(protocol) => *protocol == packet.protocol,
        Condition::SourcePort(ports) => ports.contains(packet.source.port()),
        Condition::DestinationPort(ports) => ports.contains(packet.destination.port()),
        Condition::DestinationPorts(list) => {
            list.iter().any(|ports| ports.contains(packet.destination.port()))
        }
        Condition::User(owner) => owns(owner, packet.user)?,
        Condition::Group(owner) => owns(owner, packet.group)?,
        Condition::Mark(mark) => *mark == packet.mark,
        Condition::ConnectionMark(mark) => *mark == packet.connection_mark,
        Condition::ConnectionState(states) => states.contains(&packet.state),
        Condition::Comment(_) => true,
        Condition::Other(_) => return None,
    };
    Some(holds != m.negated)
}

/// A packet that has not come in by any interface is not met by `-i`, nor one that does not go out by `-o`.
fn is(interface: &Interface, name: Option<&str>) -> bool {
    name.is_some_and(|name| interface.matches(name))
}

fn has(net: &IpNet, address: IpAddr) -> bool {
    net.contains(&address)
}

/// Without a sending process nobody owns the packet; the contrary then holds for every owner, as in the kernel.
fn owns(owner: &Owner, sender: Option<u32>) -> Option<bool> {
    match owner {
        Owner::Id(id) => Some(sender == Some(*id)),
        Owner::Name(_) => None,
    }
}
