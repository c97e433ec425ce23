//! A walk and its steps, and how they are printed.

use std::{borrow::Cow, fmt};

use serde::Serialize;

use crate::HostPattern;

/// The walk of a request and where it ends.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Explanation {
    /// Decisions in the order they are made.
    pub steps: Vec<Step>,
    /// What the client gets, with Envoy's flag and detail where it is an answer of the proxy's own.
    pub verdict: String,
}

/// One decision.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Step {
    /// What is decided: `listener`, `filter chain`, `virtual host`, `route`, `cluster`, …
    pub stage: &'static str,
    /// What was chosen; `None` when nothing fitted.
    pub chosen: Option<String>,
    /// Why, and what follows from it.
    pub because: Vec<String>,
    /// Candidates looked at before, or instead, in the order they were.
    pub rejected: Vec<Rejected>,
}

/// A Gateway that is for other proxies.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ForeignGateway {
    /// `Gateway namespace/name`.
    pub name: String,
    /// The ports its servers declare.
    pub ports: Vec<u16>,
    /// Why it is not for this one.
    pub because: String,
}

/// A VirtualService that a gateway takes no rules from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UnservedRules {
    /// `VirtualService namespace/name`.
    pub name: String,
    /// The hosts that it has rules for.
    pub hosts: Vec<HostPattern>,
    /// Why they do not count.
    pub because: Cow<'static, str>,
}

/// Services that a Sidecar resource keeps from the workload.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HiddenServices {
    /// `Sidecar namespace/name`.
    pub sidecar: String,
    /// What follows the bare names of services beside the workload: `.prod.svc.cluster.local`.
    pub beside: String,
    /// Their full names, sorted.
    pub hosts: Vec<String>,
}

impl HiddenServices {
    /// The service that a call by this name, as people write it, would be for.
    pub fn called(&self, name: &str) -> Option<Rejected> {
        let is_called = |host: &&String| match host.strip_prefix(name) {
            Some(rest) => {
                rest.is_empty() || rest == self.beside || rest.starts_with('.') && name.contains('.')
            }
            None => false,
        };
        let host = self.hosts.iter().find(is_called)?;
        let because = format!("{} does not import it (`egress[].hosts`)", self.sidecar);
        Some(Rejected { name: host.clone(), because })
    }
}

/// A candidate that was not taken.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Rejected {
    /// Its name.
    pub name: String,
    /// Why not.
    pub because: String,
}

impl Step {
    pub(super) fn chosen(stage: &'static str, name: impl Into<String>, because: impl Into<String>) -> Self {
        Self { stage, chosen: Some(name.into()), because: vec![because.into()], rejected: Vec::new() }
    }

    pub(super) fn nothing(stage: &'static str, because: impl Into<String>) -> Self {
        Self { stage, chosen: None, because: vec![because.into()], rejected: Vec::new() }
    }
}

impl fmt::Display for Explanation {
    /// A block for each step, the verdict last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            let chosen = step.chosen.as_deref().unwrap_or(if step.stage == "action" { "" } else { "none" });
            writeln!(f, "{}", format!("{:<14}{chosen}", step.stage).trim_end())?;
            for reason in &step.because {
                writeln!(f, "{:14}{reason}", "")?;
            }
            for rejected in &step.rejected {
                writeln!(f, "{:14}not {}: {}", "", rejected.name, rejected.because)?;
            }
        }
        writeln!(f, "verdict: {}", self.verdict)
    }
}
