//! The rules as native nftables, without iptables.

use anyhow::Result;
use rules::build::{Facts, build};
use rules::nft;
use rules::program::{Ipv6, Program};
use rules::ruleset::Family;
use rules::settings::{Ipv6Choice, Settings};

use super::Plan;
use super::routes::Routes;
use crate::{json, nftables};

/// The program with the IPv6 addresses in it, unless IPv6 was switched off by hand.
///
/// Rules without an address meet both families here, so IPv6 would be captured without its exceptions otherwise.
pub(super) fn program(settings: &Settings, facts: &Facts) -> Program {
    if settings.ipv6 == Ipv6Choice::Off {
        return build(settings, facts);
    }
    build(settings, &Facts { ipv6: Ipv6::On, ..facts.clone() })
}

/// The script under its label, and what would be done besides.
pub(super) fn dry_run(plan: &Plan) -> String {
    let mut text = format!("# nft -f\n{}", nft::script(&plan.program));
    for &family in plan.families() {
        for remark in plan.remarks(family) {
            text.push_str(&format!("# {remark}\n"));
        }
    }
    text
}

/// The same as one object.
pub(super) fn dry_run_json(plan: &Plan) -> String {
    let commands = plan.families().iter().flat_map(|&family| plan.remarks(family)).collect();
    json::dry_run_native(&nft::script(&plan.program), commands)
}

/// Replaces whatever our tables held, all in one transaction.
pub(super) fn apply(plan: Plan) -> Result<Plan> {
    warn_of_iptables();
    let routes = Routes::put_in_place(&plan)?;
    nftables::run(&nft::script(&plan.program)).inspect_err(|_| routes.take_back())?;
    routes.remove_stale(&plan)?;
    tracing::info!("rules written by nft");
    match nftables::listing() {
        Ok(text) => tracing::info!("rules in the kernel:\n{text}"),
        Err(error) => tracing::debug!("no rules to show: {error:#}"),
    }
    Ok(plan)
}

/// Both kinds of rules would capture a packet twice over, and only one of them would ever be updated.
fn warn_of_iptables() {
    for (flavour, _) in crate::backend::holders() {
        tracing::warn!(
            program = flavour.program(Family::V4, "save"),
            "iptables holds chains of ours as well: run --cleanup once, then install again"
        );
    }
}
