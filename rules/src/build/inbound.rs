//! Inbound capture by redirection.

use super::{Writer, leave_alone, port, tcp, tproxy};
use crate::program::RuleLocation;
use crate::purpose::Purpose;
use crate::ruleset::{ChainName, Condition, ConnectionState, Rule, TableName, Target};
use crate::settings::InboundPorts;

/// Out-of-window packets would be answered with a reset by the host itself, because no translation applies to them.
pub(super) fn drop_invalid(writer: &mut Writer<'_>) {
    if !writer.settings.drop_invalid {
        return;
    }
    let invalid = Condition::ConnectionState([ConnectionState::Invalid].into());
    let jump = Rule::new([invalid.into()], Target::Jump(ChainName::DROP)).because(Purpose::DropInvalid);
    writer.every(&RuleLocation::append(TableName::Mangle, ChainName::PREROUTING), &jump);
    let drop = Rule::new([], Target::Drop).because(Purpose::DropInvalid);
    writer.every(&RuleLocation::append(TableName::Mangle, ChainName::DROP), &drop);
}

/// The tunnel is already addressed to the proxy.
pub(super) fn tunnel(writer: &mut Writer<'_>) {
    let rule = leave_alone([tcp(), port(writer.settings.tunnel_port)]).because(Purpose::InboundTunnel);
    writer.every(&inbound(), &rule);
}

/// Where captured inbound connections go.
pub(super) fn redirect(writer: &mut Writer<'_>) {
    let target = Target::Redirect(writer.settings.inbound_port);
    let rule = Rule::new([tcp()], target).because(Purpose::ToInboundPort);
    writer.every(&RuleLocation::append(TableName::Nat, ChainName::IN_REDIRECT), &rule);
}

/// Which inbound connections are captured.
pub(super) fn capture(writer: &mut Writer<'_>) {
    if writer.settings.inbound_ports.is_none() {
        return;
    }
    if writer.is_tproxy() {
        return tproxy::capture(writer);
    }
    let enter = Rule::new([tcp()], Target::Jump(ChainName::INBOUND)).because(Purpose::EnterInbound);
    writer.every(&RuleLocation::append(TableName::Nat, ChainName::PREROUTING), &enter);
    match &writer.settings.inbound_ports {
        InboundPorts::All => {
            excluded_ports(writer, &inbound());
            writer.every(&inbound(), &captured(vec![tcp()]));
        }
        InboundPorts::Listed(ports) => {
            for &listed in ports {
                writer.every(&inbound(), &captured(vec![tcp(), port(listed)]));
            }
        }
    }
}

/// Inbound ports that are left alone while all others are captured.
pub(super) fn excluded_ports(writer: &mut Writer<'_>, location: &RuleLocation) {
    for &excluded in &writer.settings.inbound_exclude_ports {
        writer.every(location, &leave_alone([tcp(), port(excluded)]).because(Purpose::ExcludedInboundPort));
    }
}

fn captured(matches: Vec<crate::ruleset::Match>) -> Rule {
    Rule::new(matches, Target::Jump(ChainName::IN_REDIRECT)).because(Purpose::CaptureInbound)
}

fn inbound() -> RuleLocation {
    RuleLocation::append(TableName::Nat, ChainName::INBOUND)
}
