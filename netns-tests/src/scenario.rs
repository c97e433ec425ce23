//! Proves that a fact about interception holds, and that it holds because of its rules.

use anyhow::{Context, Result, bail, ensure};

use crate::pod::Pod;
use crate::rule::{Removed, Rule};

/// Proves three times over that `observe` is true because of `rules` in `pod` and of nothing else:
/// it holds and the first rule counts packets; without the rules it fails; with them back it holds again.
///
/// `rules` are all the rules that bring the fact about, the one that fires first at the head. `prepare` is run
/// afresh before each observation (it usually starts the agent), so that no connection outlives a rule.
///
/// # Errors
/// When one of the three is otherwise, or `prepare` fails.
pub fn holds_only_by<A>(
    rules: &[Rule],
    pod: &Pod,
    mut prepare: impl FnMut() -> Result<A>,
    mut observe: impl FnMut(&A) -> Result<()>,
) -> Result<()> {
    let first = rules.first().context("a scenario names at least one rule")?;
    let prepared = prepare()?;
    fires(first, pod, || observe(&prepared)).context("with every rule in place")?;
    drop(prepared);

    let removed = rules.iter().map(|rule| pod.take_out(rule)).collect::<Result<Vec<Removed>>>()?;
    let prepared = prepare()?;
    if observe(&prepared).is_ok() {
        bail!(
            "holds without {:?}: the scenario does not test it",
            rules.iter().map(|r| r.line).collect::<Vec<_>>()
        );
    }
    drop(prepared);

    for rule in removed.iter().rev() {
        pod.put_back(rule)?;
    }
    observe(&prepare()?).context("with the rules back in place")
}

/// Runs `observe` and proves that `rule` matched a packet meanwhile. For facts that hold without the rule as well.
///
/// # Errors
/// What `observe` says, or that the counter did not move.
pub fn fires<T>(rule: &Rule, pod: &Pod, observe: impl FnOnce() -> Result<T>) -> Result<T> {
    let before = pod.packets(rule)?;
    let observed = observe()?;
    let after = pod.packets(rule)?;
    ensure!(after > before, "the counter of `{}` stands at {after}: another rule did the work", rule.line);
    Ok(observed)
}
