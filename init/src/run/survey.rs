//! The wanted rules beside what the kernel holds, and `check`.

use std::fmt::Write;

use anyhow::Result;
use rules::diff::Difference;
use rules::lint;
use rules::parse::Found;
use rules::settings::{Options, Settings};

use super::{Plan, readable, routes};
use crate::backend::{self, Backend, BackendKind, Look};
use crate::cli::Output;
use crate::failure::Failure;
use crate::{facts, json, privileges, sockets};

/// Compares, and changes nothing.
pub(super) fn check(mut settings: Settings, options: &Options, output: Output) -> Result<String, Failure> {
    facts::resolve_owners(&mut settings, options)?;
    privileges::require_net_admin()?;
    let survey = Survey::make(Plan::make(settings, options)?, options)?;
    warn_of_shadows(&survey.plan, &survey.found);
    sockets::warn_of_shared_user(&survey.plan.settings);
    let text = match output {
        Output::Text => survey.explanation(),
        Output::Json => json::check(&survey.rules, &survey.routes, survey.rival),
    };
    if survey.is_exact() { Ok(text) } else { Err(Failure::Differs(text)) }
}

/// The wanted rules beside what the kernel holds.
pub(super) struct Survey {
    /// The wanted rules.
    pub(super) plan: Plan,
    found: [Found; 2],
    rules: Vec<Difference>,
    /// Differences in addresses and routes, one line each.
    routes: Vec<String>,
    /// What else holds chains of ours.
    rival: Option<BackendKind>,
}

impl Survey {
    /// Looks at the kernel.
    pub(super) fn make(plan: Plan, options: &Options) -> Result<Self> {
        let backend = backend::choose(options, Look::Close)?;
        warn_of_rival(&backend);
        let rival = backend.rival;
        let (plan, found) = readable(plan.held_by(backend.kind), backend.state)?;
        let rules = plan.differences(&found);
        let routes = routes::differences(&plan)?;
        Ok(Self { plan, found, rules, routes, rival })
    }

    /// Whether what holds our rules holds what is wanted.
    pub(super) fn is_in_sync(&self) -> bool {
        self.rules.is_empty() && self.routes.is_empty()
    }

    /// Whether it does, and nothing else holds rules of ours.
    pub(super) fn is_exact(&self) -> bool {
        self.is_in_sync() && self.rival.is_none()
    }

    /// The result for people.
    pub(super) fn explanation(&self) -> String {
        let rival = self.rival.map(|rival| format!("{rival} holds chains of ours as well: {REMEDY}\n"));
        if self.is_in_sync() {
            return rival.unwrap_or_else(|| "the kernel holds exactly these rules\n".to_owned());
        }
        let mut text = explanation(&self.rules);
        text.extend(rival);
        for line in &self.routes {
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}

/// The differences for people: `-` wanted but not found, `+` found but not wanted.
pub(super) fn explanation(differences: &[Difference]) -> String {
    let mut text = String::from(
        "the kernel's rules differ from what these flags ask for (- wanted, + found); give the flags that they were \
         installed with, or install anew:\n",
    );
    for difference in differences {
        write!(text, "{difference}").expect("writing to a String cannot fail");
    }
    text
}

/// Rules of others that end the walk before ours are met.
pub(super) fn warn_of_shadows(plan: &Plan, found: &[Found; 2]) {
    for found in found {
        for shadow in lint::shadows(&plan.rule_set(found.family), found) {
            tracing::warn!(
                family = %found.family, table = %shadow.table, chain = %shadow.chain, rule = shadow.rule.text,
                "a rule of others stands before ours: packets that meet it are not captured"
            );
        }
    }
}

/// What to do about two kinds of rules.
const REMEDY: &str = "packets meet both kinds; run --cleanup once, then install again";

/// Two kinds of rules with chains of ours capture a packet twice over, and only one of them is kept up to date.
pub(super) fn warn_of_rival(backend: &Backend) {
    if let Some(rival) = backend.rival {
        tracing::warn!(
            chosen = %backend.kind, other = %rival,
            "another kind of rules holds chains of ours as well: {REMEDY}"
        );
    }
}
