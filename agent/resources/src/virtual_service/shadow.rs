//! Rules that no request ever reaches.

use super::VirtualService;
use crate::{
    MatchCover, Path,
    decode::Context,
    finding::{Problem, Rule},
};

/// Warns about every match that an earlier one leaves nothing to.
pub(super) fn check(vs: &VirtualService, at: &Path<'_>, context: &mut Context<'_>) {
    let http = at.field("http");
    let mut cover = MatchCover::default();
    for (rule_index, rule) in vs.http.iter().enumerate() {
        let rule_at = http.index(rule_index);
        let warn = |at: &Path<'_>, taker: &Taker, context: &mut Context<'_>| {
            let problem =
                Problem::new(format!("is never reached: {} takes all its requests", taker.named(vs)));
            context.warning(Rule::Shadowed, at, problem.remedy("put the narrower one first"));
        };
        if rule.matches.is_empty() {
            if let Some(taker) = cover.covering(None) {
                warn(&rule_at, taker, context);
            }
            cover.insert(None, Taker { rule: rule_index, index: None });
        }
        let list = rule_at.field("match");
        for (index, condition) in rule.matches.iter().enumerate() {
            match cover.covering(Some(condition)) {
                Some(taker) => warn(&list.index(index), taker, context),
                None => cover.insert(Some(condition), Taker { rule: rule_index, index: Some(index) }),
            }
        }
    }
}

/// The rule, or the match of a rule, that takes the requests.
struct Taker {
    rule: usize,
    index: Option<usize>,
}

impl Taker {
    fn named(&self, vs: &VirtualService) -> String {
        let name = vs.http[self.rule].name.as_ref().map_or(String::new(), |name| format!(" (`{name}`)"));
        match self.index {
            Some(index) => format!("spec.http[{}].match[{index}]{name}", self.rule),
            None => format!("spec.http[{}]{name}", self.rule),
        }
    }
}
