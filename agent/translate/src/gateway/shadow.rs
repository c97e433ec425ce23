//! Rules to which another VirtualService on the same host leaves no requests.

use resources::{Finding, Object, Path, PathCover, Problem, Rule, Severity, VirtualService};
use snapshot::HostPattern;

use crate::routes::{Condition, RouteContext};

/// VirtualServices in the order in which their rules are tried for a host, each with where it is attached.
pub(super) type Contributors<'c> = Vec<(&'c Object<VirtualService>, RouteContext<'c>)>;

/// Findings for every match that never gets a request for `host` because of a VirtualService that comes before.
///
/// What takes every path is tried last, so it leaves nothing only to others that take every path.
pub(super) fn check(host: &HostPattern, contributors: &Contributors<'_>, findings: &mut Vec<Finding>) {
    let mut cover = PathCover::default();
    let mut catch_all: Option<&Object<VirtualService>> = None;
    for (vs, context) in contributors {
        for condition in context.conditions(vs) {
            let taker =
                if condition.takes_all() { catch_all } else { cover.covering(condition.uri()).copied() };
            let other = taker.filter(|taker| taker.meta.id != vs.meta.id);
            findings.extend(other.map(|taker| shadowed(vs, &condition, host, taker)));
        }
        for condition in context.conditions(vs) {
            match condition.takes_all() {
                true => catch_all = catch_all.or(Some(vs)),
                false => cover.insert(condition.uri(), *vs),
            }
        }
    }
}

fn shadowed(
    vs: &Object<VirtualService>,
    condition: &Condition<'_>,
    host: &HostPattern,
    taker: &Object<VirtualService>,
) -> Finding {
    let taker = &taker.meta;
    let problem = Problem::new(format!(
        "is never reached for host {host}: {} ({}), which comes first, takes all its requests",
        taker.id,
        taker.place()
    ));
    let problem = problem.remedy("write the rules of a host in one VirtualService, the narrower first");
    let spec = Path::ROOT.field("spec");
    let http = spec.field("http");
    let rule = http.index(condition.rule_index);
    let list = rule.field("match");
    let at = condition.index.map_or(rule, |index| list.index(index));
    vs.meta.finding(Severity::Warning, Rule::Shadowed, &at, problem)
}
