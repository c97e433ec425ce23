//! `validate`, and the validation that follows an installation.

use anyhow::Result;
use rules::ruleset::Family;
use rules::settings::{InterceptionMode, Options};

use super::{Plan, Survey};
use crate::cli::Output;
use crate::failure::Failure;
use crate::probe::report::{LineStatus, Report};
use crate::probe::{self, Question};
use crate::{conntrack, facts, privileges};

/// Sends the probes, compares the rules if that is allowed, and reports.
pub(super) fn validate(plan: &Plan, options: &Options, output: Output) -> Result<String, Failure> {
    let mut report = Report::default();
    send_probes(plan, options, &mut report)?;
    compare_rules(plan, options, &mut report);
    count_invalid(plan, &mut report);
    let text = match output {
        Output::Text => report.to_string(),
        Output::Json => format!("{:#}\n", report.json()),
    };
    if report.passed() { Ok(text) } else { Err(Failure::NotIntercepted(text)) }
}

fn send_probes(plan: &Plan, options: &Options, report: &mut Report) -> Result<()> {
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
    probe::validate(&question, report)
}

/// What comes from outside cannot be sent from here, so its rules are compared instead.
fn compare_rules(plan: &Plan, options: &Options, report: &mut Report) {
    let by_tproxy = if plan.settings.mode == InterceptionMode::Tproxy { ", TPROXY included," } else { "" };
    let outside = format!("what comes from other machines{by_tproxy} cannot be sent from here");
    if privileges::require_net_admin().is_err() {
        let remedy = "compare the rules with `postern-init check`, which needs the capability NET_ADMIN";
        return report.line(LineStatus::Note, format!("{outside}: {remedy}"));
    }
    match Survey::make(plan.clone(), options) {
        Ok(survey) if survey.is_exact() => {
            report.line(
                LineStatus::Passed,
                format!("{outside}, but the kernel holds exactly the rules for it"),
            );
        }
        Ok(survey) => {
            report.line(LineStatus::Failed, format!("{outside}, and {}", survey.explanation().trim_end()));
        }
        Err(error) => report.line(LineStatus::Skipped, format!("the rules could not be compared: {error:#}")),
    }
}

/// Packets outside a connection's window are passed on untranslated, and the peer resets the connection.
fn count_invalid(plan: &Plan, report: &mut Report) {
    let Some(count) = conntrack::invalid_packets() else { return };
    let advice = match (count, plan.settings.drop_invalid) {
        (0, _) => "",
        (_, true) => "; --drop-invalid drops them",
        (_, false) => {
            "; should connections be reset at random, use --drop-invalid, or `sysctl -w \
             net.netfilter.nf_conntrack_tcp_be_liberal=1`"
        }
    };
    report.line(
        LineStatus::Note,
        format!("connection tracking has called {count} packets INVALID here so far{advice}"),
    );
}
