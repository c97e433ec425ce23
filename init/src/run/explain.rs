//! Which rules `explain` reads: those of the flags, or the kernel's own.

use anyhow::{Context, Result};
use rules::packet::Packet;
use rules::parse::Found;
use rules::program::Ipv6;
use rules::ruleset::Family;
use rules::settings::{Options, Settings};
use rules::simulate::LocalDelivery;

use super::{Plan, choose_backend};
use crate::backend::{Backend, BackendKind, Look};
use crate::cli::Output;
use crate::explain::flags::Request;
use crate::explain::{Subject, annotate, family};
use crate::failure::Failure;
use crate::iptables::Unusable;
use crate::netlink::{Routing, Selector};
use crate::{facts, iptables, privileges};

/// Walks the packet and tells how it went.
pub(super) fn explain(
    mut settings: Settings,
    options: &Options,
    request: Option<&Request>,
    output: Output,
) -> Result<String, Failure> {
    let request = request.context("no packet to explain")?;
    facts::resolve_owners(&mut settings, options)?;
    let plan = Plan::make(settings, options)?;
    let packet = request.packet(&facts::addresses()?);
    let subject = if request.live { live(&plan, options, &packet)? } else { planned(&plan, &packet) };
    Ok(subject.explain(&packet, output))
}

fn planned(plan: &Plan, packet: &Packet) -> Subject {
    let family = family(packet);
    let settings = &plan.settings;
    let delivery = LocalDelivery { mark: settings.tproxy_mark, table: settings.tproxy_route_table };
    let no_rules = match &plan.program.ipv6 {
        Ipv6::Off(reason) if family == Family::V6 => Some(reason.clone()),
        _ => None,
    };
    Subject {
        rules: plan.rule_set(family),
        dialect: plan.dialect,
        found: None,
        delivery: plan.needs_routes().then_some(delivery),
        no_rules,
        settings: plan.settings.clone(),
    }
}

fn live(plan: &Plan, options: &Options, packet: &Packet) -> Result<Subject> {
    privileges::require_net_admin()?;
    let family = family(packet);
    let backend = choose_backend(options, Look::Close)?;
    let plan = &plan.clone().held_by(backend.kind);
    let found = with_counters(backend, family)
        .map_err(|unusable| anyhow::anyhow!("cannot read the {family} rules: {unusable}"))?;
    let mut rules = found.rule_set();
    annotate(&mut rules, &plan.rule_set(family));
    let delivery = Routing::open()?.deliveries(family)?.into_iter().find_map(|found| match found.select {
        Selector::Mark(mark) if found.is_ours || Some(mark) == planned_mark(plan) => {
            Some(LocalDelivery { mark, table: found.table })
        }
        Selector::Mark(_) | Selector::FromLoopback => None,
    });
    let no_rules = (!found.holds_own()).then(|| "the kernel holds none of ours".to_owned());
    let settings = plan.settings.clone();
    Ok(Subject { rules, dialect: found.dialect, found: Some(found), delivery, no_rules, settings })
}

/// What was read of nftables has its counters; iptables leaves them out unless asked.
fn with_counters(backend: Backend, family: Family) -> Result<Found, Unusable> {
    let [v4, v6] = backend.state;
    match backend.kind {
        BackendKind::Iptables(flavour) => iptables::save_counters(flavour, family),
        BackendKind::Nftables if family == Family::V4 => v4,
        BackendKind::Nftables => v6,
    }
}

/// The mark of a routing rule that istio-iptables may have made.
fn planned_mark(plan: &Plan) -> Option<u32> {
    plan.needs_routes().then_some(plan.settings.tproxy_mark)
}
