//! Puts the rules into the kernel: compare, write, read again, compare again.

use anyhow::{Result, bail};
use rules::diff::Difference;
use rules::nft::{self, encode};
use rules::parse::Found;
use rules::settings::Options;

use super::iptables::Writer;
use super::routes::Routes;
use super::survey::warn_of_shadows;
use super::{Plan, choose_backend, explanation, readable};
use crate::backend::{self, Backend, BackendKind, Look};
use crate::iptables::lock::Locking;
use crate::nftables;
use crate::stop::Stop;

/// Makes the kernel hold exactly the wanted rules; changes nothing when it does already.
/// Returns what is in force now: without IPv6, should that have turned out to be unusable.
pub(super) fn apply(plan: Plan, options: &Options, stop: &Stop) -> Result<Plan> {
    let backend = settled_backend(options, Look::Quick, stop)?;
    if !backend.untried {
        return apply_by(backend, plan, options, stop);
    }
    // Programs that have not been tried yet may turn out not to work; what does is then found by trying.
    apply_by(backend, plan.clone(), options, stop).or_else(|error| {
        if stop.is_asked()? {
            return Err(error);
        }
        tracing::debug!("looking more closely after: {error:#}");
        apply_by(settled_backend(options, Look::Close, stop)?, plan, options, stop)
    })
}

/// What is to hold the rules, and what it holds once whoever has the lock of iptables is done with changing it.
fn settled_backend(options: &Options, look: Look, stop: &Stop) -> Result<Backend> {
    let locking = Locking::new(options);
    if locking.is_held() && backend::choose(options, look)?.kind.takes_lock() {
        locking.wait_until_free(stop)?;
    }
    choose_backend(options, look)
}

fn apply_by(backend: Backend, plan: Plan, options: &Options, stop: &Stop) -> Result<Plan> {
    let Backend { kind, untried, .. } = backend;
    let (plan, found) = readable(plan.held_by(kind), backend.state)?;
    let differences = plan.differences(&found);
    let routes = Routes::put_in_place(&plan)?;
    if differences.is_empty() && !options.force_apply {
        routes.remove_stale(&plan)?;
        tracing::info!("the kernel holds exactly these rules already: nothing written");
        warn_of_shadows(&plan, &found);
        return Ok(plan);
    }
    if found.iter().any(Found::holds_own) && !differences.is_empty() && !options.reconcile {
        routes.take_back();
        bail!(
            "rules of ours differ, and --reconcile=false forbids to replace them: {}",
            explanation(&differences)
        );
    }
    let written = match kind {
        BackendKind::Iptables(flavour) => {
            Writer::new(&plan, options, flavour, &found, untried).write(&differences, stop)
        }
        BackendKind::Nftables => write_natively(&plan, &found),
    };
    let now = written.inspect_err(|_| routes.take_back())?;
    routes.remove_stale(&plan)?;
    warn_of_shadows(&plan, &now);
    for found in now.iter().filter(|found| !found.tables.is_empty()) {
        tracing::info!("{} rules in the kernel:\n{found}", found.family);
    }
    Ok(plan)
}

/// Replaces whatever our tables held, all in one transaction, and returns what they hold then.
fn write_natively(plan: &Plan, before: &[Found; 2]) -> Result<[Found; 2]> {
    let [v4, _] = before;
    let standing: Vec<_> = v4.tables.keys().copied().collect();
    nftables::run(&encode::replace(&nft::layout(&plan.program), &standing)?)?;
    tracing::info!("rules written by nftables");
    let now =
        nftables::look().map_err(|unusable| anyhow::anyhow!("cannot read the rules again: {unusable}"))?;
    confirmed(plan, now.ours)
}

/// What was read after writing, if it is what was written.
pub(super) fn confirmed(plan: &Plan, now: [Found; 2]) -> Result<[Found; 2]> {
    let differences: Vec<Difference> = plan.differences(&now);
    if !differences.is_empty() {
        bail!("the kernel does not hold what was written: {}", explanation(&differences));
    }
    Ok(now)
}
