//! The rules for native nftables, and its dry run.

use rules::build::{Facts, build};
use rules::nft;
use rules::program::{Ipv6, Program};
use rules::settings::{Ipv6Choice, Settings};

use super::Plan;
use crate::json;

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
