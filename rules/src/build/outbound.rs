//! Outbound capture.

use super::{Writer, destination, from, port, tcp};
use crate::program::RuleLocation;
use crate::purpose::Purpose;
use crate::ruleset::{ChainName, Family, Match, Rule, TableName, Target};
use crate::settings::OutboundRanges;

/// Where captured outbound connections go.
pub(super) fn redirect(writer: &mut Writer<'_>) {
    let target = Target::Redirect(writer.settings.outbound_port);
    let rule = Rule::new([tcp()], target).because(Purpose::ToOutboundPort);
    writer.every(&RuleLocation::append(TableName::Nat, ChainName::REDIRECT), &rule);
}

/// Every protocol enters the chain, since DNS over UDP is captured there as well.
pub(super) fn enter(writer: &mut Writer<'_>) {
    let rule = Rule::new([], Target::Jump(ChainName::OUTBOUND)).because(Purpose::EnterOutbound);
    writer.every(&RuleLocation::append(TableName::Nat, ChainName::OUTPUT), &rule);
}

/// Which outbound connections are captured, once the exceptions are dealt with.
pub(super) fn capture(writer: &mut Writer<'_>) {
    for &listed in &writer.settings.outbound_ports {
        let rule = captured(vec![tcp(), port(listed)]).because(Purpose::CaptureOutboundPort);
        writer.every(&outbound(), &rule);
    }
    match &writer.settings.outbound_ranges {
        OutboundRanges::All => every_destination(writer),
        OutboundRanges::Listed(ranges) => {
            for family in Family::BOTH {
                for range in ranges.iter().filter(|range| family.has(range)) {
                    listed_destination(writer, family, destination(*range));
                }
            }
        }
    }
}

fn every_destination(writer: &mut Writer<'_>) {
    writer.every(&outbound(), &captured(vec![]).because(Purpose::CaptureOutbound));
    for interface in &writer.settings.kube_virt_interfaces {
        let rule = captured(vec![from(interface)]).because(Purpose::VirtualMachineOutbound);
        writer.every(&before_inbound(), &rule);
    }
}

fn listed_destination(writer: &mut Writer<'_>, family: Family, range: Match) {
    for interface in &writer.settings.kube_virt_interfaces {
        let rule = captured(vec![from(interface), range.clone()]).because(Purpose::VirtualMachineOutbound);
        writer.only(family, before_inbound(), rule);
    }
    writer.only(family, outbound(), captured(vec![range]).because(Purpose::CaptureOutbound));
}

fn captured(matches: Vec<Match>) -> Rule {
    Rule::new(matches, Target::Jump(ChainName::REDIRECT))
}

fn outbound() -> RuleLocation {
    RuleLocation::append(TableName::Nat, ChainName::OUTBOUND)
}

fn before_inbound() -> RuleLocation {
    RuleLocation::insert(TableName::Nat, ChainName::PREROUTING, 1)
}
