//! `validate`, and the validation that follows an installation.

use rules::ruleset::Family;
use rules::settings::Options;

use super::Plan;
use crate::facts;
use crate::failure::Failure;
use crate::probe::{self, Question};

/// Sends the probes and reports them.
pub(super) fn validate(plan: &Plan, options: &Options) -> Result<String, Failure> {
    let addresses = facts::addresses()?;
    let question = Question {
        settings: &plan.settings,
        families: plan.families(),
        rules: Family::BOTH.map(|family| plan.rule_set(family)),
        dialect: plan.dialect,
        facts: &plan.facts,
        addresses: &addresses,
        port: options.probe_port,
        timeout: options.probe_timeout,
    };
    let report = probe::validate(&question)?;
    if report.failed == 0 {
        return Ok(report.text);
    }
    Err(Failure::NotIntercepted(report.text))
}
