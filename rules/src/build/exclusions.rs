//! What is never captured: interfaces, ports, groups and destinations.

use super::{Writer, destination, from, group, leave_alone, out_by, port, tcp, udp};
use crate::program::RuleLocation;
use crate::purpose::Purpose;
use crate::ruleset::{ChainName, Family, Rule, TableName};
use crate::settings::OwnerGroups;

/// Nothing is captured on an excluded interface, in either direction.
pub(super) fn interfaces(writer: &mut Writer<'_>) {
    let tables: &[_] =
        if writer.is_tproxy() { &[TableName::Nat, TableName::Mangle] } else { &[TableName::Nat] };
    for &table in tables {
        for interface in &writer.settings.exclude_interfaces {
            let alone = |condition| leave_alone([condition]).because(Purpose::ExcludedInterface);
            writer.every(&RuleLocation::append(table, ChainName::PREROUTING), &alone(from(interface)));
            writer.every(&RuleLocation::append(table, ChainName::OUTPUT), &alone(out_by(interface)));
        }
    }
}

/// What a virtual machine sends comes in by its interface, yet it is not inbound traffic of the pod.
pub(super) fn virtual_machines(writer: &mut Writer<'_>) {
    for interface in &writer.settings.kube_virt_interfaces {
        let rule = leave_alone([from(interface)]).because(Purpose::VirtualMachineNotInbound);
        writer.every(&RuleLocation::insert(TableName::Nat, ChainName::PREROUTING, 1), &rule);
    }
}

/// Excluded ports come first, before anyone asks whose traffic it is.
pub(super) fn outbound_ports(writer: &mut Writer<'_>) {
    for &excluded in &writer.settings.outbound_exclude_ports {
        for protocol in [tcp(), udp()] {
            let rule = leave_alone([protocol, port(excluded)]).because(Purpose::ExcludedOutboundPort);
            writer.every(&outbound(), &rule);
        }
    }
}

/// Groups are either excluded one by one, or all but the listed ones are excluded by a single rule.
pub(super) fn groups(writer: &mut Writer<'_>) {
    match &writer.settings.owner_groups {
        OwnerGroups::AllBut(excluded) => {
            for owner in excluded {
                let rule = leave_alone([group(owner.clone())]).because(Purpose::ExcludedGroup);
                writer.every(&outbound(), &rule);
            }
        }
        OwnerGroups::Only(listed) => {
            let others: Vec<_> = listed.iter().map(|owner| !group(owner.clone())).collect();
            writer.every(&outbound(), &leave_alone(others).because(Purpose::UnlistedGroup));
        }
    }
}

/// Destinations that are never captured, each in its own family.
pub(super) fn destinations(writer: &mut Writer<'_>) {
    for family in Family::BOTH {
        for range in writer.settings.outbound_exclude_ranges.iter().filter(|range| family.has(range)) {
            let rule: Rule = leave_alone([destination(*range)]).because(Purpose::ExcludedDestination);
            writer.only(family, outbound(), rule);
        }
    }
}

fn outbound() -> RuleLocation {
    RuleLocation::append(TableName::Nat, ChainName::OUTBOUND)
}
