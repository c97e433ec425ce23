//! Rules to which another VirtualService on the same host leaves no requests.

use resources::{Finding, MatchCover, Object, Path, Problem, Rule as Sort, Severity, VirtualService};
use snapshot::HostPattern;

use super::precedence::precedence;
use crate::{
    routes::RouteContext,
    rules::{Match, Rule},
};

/// VirtualServices in the order in which their rules are tried for a host, each with where it is attached.
pub(super) type Contributors<'c> = Vec<(&'c Object<VirtualService>, RouteContext<'c>)>;

/// Findings for every match that never gets a request for `host` because of a VirtualService that comes before.
///
/// What takes every path is tried last, so it leaves nothing only to others that take every path.
pub(super) fn check(
    host: &HostPattern,
    contributors: &Contributors<'_>,
    narrowest_first: bool,
    findings: &mut Vec<Finding>,
) {
    if contributors.len() < 2 {
        return;
    }
    let mut cover = MatchCover::default();
    let mut catch_all: Option<&Object<VirtualService>> = None;
    for group in in_turn(contributors, narrowest_first) {
        for (vs, condition) in &group {
            let other = taker(*condition, &cover, catch_all).filter(|taker| taker.meta.id != vs.meta.id);
            findings.extend(other.map(|taker| shadowed(*condition, host, (taker, vs))));
        }
        for (vs, (rule, condition)) in group {
            if condition.condition.takes_all() {
                catch_all = catch_all.or(Some(vs));
            } else {
                cover.insert(rule.written(condition), vs);
            }
        }
    }
}

/// A condition and whose it is.
type Written<'c> = (&'c Object<VirtualService>, (&'c Rule, &'c Match));

/// Conditions in the order in which they are tried, in groups that leave each other everything.
fn in_turn<'c>(contributors: &'c Contributors<'c>, narrowest_first: bool) -> Vec<Vec<Written<'c>>> {
    let groups =
        contributors.iter().map(|(vs, context)| context.conditions(vs).map(|one| (*vs, one)).collect());
    let groups: Vec<Vec<Written<'c>>> = groups.collect();
    if !narrowest_first {
        return groups;
    }
    let mut all = groups.concat();
    all.sort_by_cached_key(|(_, (_, condition))| precedence(&condition.condition));
    all.into_iter().map(|one| vec![one]).collect()
}

/// The VirtualService that leaves nothing to a condition.
fn taker<'c>(
    (rule, condition): (&Rule, &Match),
    cover: &MatchCover<'_, &'c Object<VirtualService>>,
    catch_all: Option<&'c Object<VirtualService>>,
) -> Option<&'c Object<VirtualService>> {
    if condition.condition.takes_all() {
        return catch_all;
    }
    cover.covering(rule.written(condition)).copied()
}

fn shadowed(
    (rule, condition): (&Rule, &Match),
    host: &HostPattern,
    (taker, of): (&Object<VirtualService>, &Object<VirtualService>),
) -> Finding {
    let taker = &taker.meta;
    let problem = Problem::new(format!(
        "is never reached for host {host}: {} ({}), {}, takes all its requests",
        taker.id,
        taker.place(),
        taker.comes_first(&of.meta)
    ));
    let problem = problem.remedy("write the rules of a host in one VirtualService, the narrower first");
    let spec = Path::ROOT.field("spec");
    let http = spec.field("http");
    let at = http.index(rule.index);
    let list = at.field("match");
    let at = rule.place(condition).map_or(at, |index| list.index(index));
    rule.owner.meta.finding(Severity::Warning, Sort::Shadowed, &at, problem)
}
