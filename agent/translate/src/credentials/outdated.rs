//! A certificate that is out of date must not take the place of one that is good.

use resources::{Problem, Rule};
use snapshot::{Certificate, CertificateFacts, Validity};

use super::{Unusable, facts};

/// Why the certificate that serves is better than the one that was found in its place.
#[derive(Clone, Debug)]
pub(super) struct Outdated {
    pub(super) unusable: Unusable,
    /// When that changes, in seconds since 1970: one of the two begins or ends. `None` when it does not.
    pub(super) until: Option<i64>,
}

/// What keeps a certificate that was found from taking the place of the `good` one, if something does: peers refuse it
/// for its dates, and the good one they accept. When they refuse either, the one that ends later serves.
pub(super) fn outdated(
    found: &Certificate,
    good: &Certificate,
    (field, shown): (&'static str, &str),
    now: i64,
) -> Option<Outdated> {
    let (found, good) = (facts(found)?, facts(good)?);
    let is_accepted =
        |facts: &CertificateFacts| !matches!(facts.validity(now), Validity::NotYet | Validity::Expired);
    let good_is_accepted = is_accepted(&good);
    if is_accepted(&found) || (!good_is_accepted && good.not_after <= found.not_after) {
        return None;
    }
    let wrong = found.validity(now).warning().unwrap_or_default();
    let which = good.validity(now).warning().filter(|_| !good_is_accepted);
    let which = which.map_or(String::new(), |wrong| format!(", which {wrong} as well,"));
    let problem = Problem::new(format!(
        "the certificate {wrong} (valid from {} to {}): the one before it{which} stays in force (valid from {} to {})",
        found.beginning(),
        found.expiry(),
        good.beginning(),
        good.expiry(),
    ));
    let problem = problem.found(shown).expected("a certificate that is valid now");
    let problem = problem.remedy(match found.validity(now) {
        Validity::NotYet => "store another, or correct the clock; this one is served as soon as it is valid",
        _ => "renew it",
    });
    let until = [found.not_before, good.not_after].into_iter().filter(|date| *date > now).min();
    Some(Outdated { unusable: Unusable { rule: Rule::LastValid, field, problem }, until })
}
