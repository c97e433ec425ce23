//! Inbound capture by TPROXY: packets keep their addresses; marks and a routing table deliver them to the proxy.

use super::{
    Writer, destination, from, inbound, leave_alone, out_by_loopback, passthrough_source, port, proxy_owners,
    source, tcp,
};
use crate::ports::PROXY_LOOP_MARK;
use crate::program::RuleLocation;
use crate::purpose::Purpose;
use crate::ruleset::{ChainName, Condition, ConnectionState, Match, Rule, TableName, Target};
use crate::settings::{InboundPorts, Interface};

/// Which inbound connections are captured.
pub(super) fn capture(writer: &mut Writer<'_>) {
    divert(writer);
    to_transparent_socket(writer);
    let enter = Rule::new([tcp()], Target::Jump(ChainName::INBOUND)).because(Purpose::EnterInbound);
    writer.every(&append(ChainName::PREROUTING), &enter);
    match &writer.settings.inbound_ports {
        InboundPorts::All => {
            inbound::excluded_ports(writer, &append(ChainName::INBOUND));
            captured(writer, &[tcp()]);
        }
        InboundPorts::Listed(ports) => {
            for &listed in ports {
                captured(writer, &[tcp(), port(listed)]);
            }
        }
    }
}

/// The marks by which the proxy's connections are told from the application's, also when nothing inbound is captured.
pub(super) fn marks(writer: &mut Writer<'_>) {
    if !writer.is_tproxy() {
        return;
    }
    let captured = Match::from(Condition::Mark(writer.settings.tproxy_mark));
    let remember = Rule::new([tcp(), captured.clone()], Target::SaveMark).because(Purpose::RememberMark);
    writer.every(&append(ChainName::PREROUTING), &remember);
    let spoke = leave_alone([tcp(), out_by_loopback(), captured.clone()]).because(Purpose::ProxySpoke);
    writer.every(&append(ChainName::OUTPUT), &spoke);
    mark_proxy_loop(writer);
    let connection = Condition::ConnectionMark(writer.settings.tproxy_mark);
    let recall = Rule::new([tcp(), connection.into()], Target::RestoreMark).because(Purpose::RecallMark);
    writer.every(&append(ChainName::OUTPUT), &recall);
    loopback_exceptions(writer, captured);
}

/// Later packets of a captured connection need the mark only.
fn divert(writer: &mut Writer<'_>) {
    let mark = Rule::new([], Target::SetMark(writer.settings.tproxy_mark)).because(Purpose::MarkForProxy);
    writer.every(&append(ChainName::DIVERT), &mark);
    let accept = Rule::new([], Target::Accept).because(Purpose::DivertEstablished);
    writer.every(&append(ChainName::DIVERT), &accept);
}

fn to_transparent_socket(writer: &mut Writer<'_>) {
    let settings = writer.settings;
    for &family in writer.families() {
        let elsewhere = !destination(writer.loopback(family));
        let target = Target::Tproxy { port: settings.inbound_port, mark: settings.tproxy_mark };
        let rule = Rule::new([elsewhere, tcp()], target).because(Purpose::ToTransparentSocket);
        writer.only(family, append(ChainName::TPROXY), rule);
    }
}

fn captured(writer: &mut Writer<'_>, matches: &[Match]) {
    let states = [ConnectionState::Related, ConnectionState::Established].into();
    let mut known = matches.to_vec();
    known.push(Condition::ConnectionState(states).into());
    let divert = Rule::new(known, Target::Jump(ChainName::DIVERT)).because(Purpose::DivertEstablished);
    writer.every(&append(ChainName::INBOUND), &divert);
    let capture = Rule::new(matches, Target::Jump(ChainName::TPROXY)).because(Purpose::CaptureInbound);
    writer.every(&append(ChainName::INBOUND), &capture);
}

fn mark_proxy_loop(writer: &mut Writer<'_>) {
    for owner in proxy_owners(writer.settings) {
        for &family in writer.families() {
            let elsewhere = !destination(writer.loopback(family));
            let matches = [elsewhere, tcp(), out_by_loopback(), owner.clone()];
            let rule = Rule::new(matches, Target::SetMark(PROXY_LOOP_MARK)).because(Purpose::MarkProxyLoop);
            writer.only(family, append(ChainName::OUTPUT), rule);
        }
    }
}

/// What comes in by `lo` is captured only when the proxy called its own pod.
fn loopback_exceptions(writer: &mut Writer<'_>, captured: Match) {
    let lo = from(&Interface::loopback());
    let first = |place| RuleLocation::insert(TableName::Mangle, ChainName::INBOUND, place);
    writer.every(&first(1), &leave_alone([tcp(), captured]).because(Purpose::ProxySpoke));
    writer.each(&first(2), |family| {
        let passthrough = source(passthrough_source(family));
        leave_alone([tcp(), passthrough, lo.clone()]).because(Purpose::Passthrough)
    });
    let application = !Match::from(Condition::Mark(PROXY_LOOP_MARK));
    let rule = leave_alone([tcp(), lo.clone(), application]).because(Purpose::ApplicationLoopback);
    writer.every(&first(3), &rule);
}

fn append(chain: ChainName) -> RuleLocation {
    RuleLocation::append(TableName::Mangle, chain)
}
