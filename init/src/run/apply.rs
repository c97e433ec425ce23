//! Puts the rules into the kernel: compare, write one transaction per family, read again, compare again.

use anyhow::{Result, bail};
use rules::diff::Difference;
use rules::parse::Found;
use rules::ruleset::Family;
use rules::settings::Options;
use rules::transaction;

use super::routes::Routes;
use super::survey::warn_of_shadows;
use super::{Plan, choose_backend, explanation, readable};
use crate::iptables::lock::Locking;
use crate::iptables::{self, Flavour, Restore};

/// Makes the kernel hold exactly the wanted rules; changes nothing when it does already.
/// Returns what is in force now: without IPv6, should that have turned out to be unusable.
pub(super) fn apply(plan: Plan, options: &Options) -> Result<Plan> {
    let backend = choose_backend(options)?;
    let flavour = backend.flavour;
    let (plan, found) = readable(plan, backend.state)?;
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
    let writer = Writer { plan: &plan, options, flavour, before: &found, locking: Locking::new(options) };
    writer.write(&differences).inspect_err(|_| routes.take_back())?;
    routes.remove_stale(&plan)?;
    let now = writer.verify()?;
    warn_of_shadows(&plan, &now);
    for found in now.iter().filter(|found| !found.tables.is_empty()) {
        tracing::info!("{} rules in the kernel:\n{found}", found.family);
    }
    Ok(plan)
}

struct Writer<'a> {
    plan: &'a Plan,
    options: &'a Options,
    flavour: Flavour,
    before: &'a [Found; 2],
    locking: Locking,
}

impl Writer<'_> {
    /// Writes both families side by side. Whatever fails, both are put back to what they were.
    fn write(&self, differences: &[Difference]) -> Result<()> {
        let differs = |family| differences.iter().any(|difference| difference.family == family);
        let concerned = self.before.iter().filter(|found| self.options.force_apply || differs(found.family));
        let documents: Vec<_> = concerned
            .map(|found| (found.family, transaction::replace(&self.plan.program, found.family, found)))
            .filter(|(_, document)| !document.is_empty())
            .collect();
        let started: Vec<_> =
            documents.iter().map(|(family, document)| self.start(*family, document)).collect();
        let finished: Vec<_> = started.into_iter().map(|restore| restore.and_then(Restore::finish)).collect();
        let failed = finished
            .into_iter()
            .filter_map(Result::err)
            .reduce(|first, next| first.context(next.to_string()));
        if let Some(error) = failed {
            return Err(self.put_back(error));
        }
        for (family, _) in &documents {
            tracing::info!(%family, "rules written");
        }
        Ok(())
    }

    fn start<'d>(&'d self, family: Family, document: &'d str) -> Result<Restore<'d>> {
        tracing::debug!(%family, "restore document:\n{document}");
        Restore::start(self.flavour, family, document, &self.locking)
    }

    /// The rules as they were, and the error that made it necessary. Reading again tells what has been written at all.
    fn put_back(&self, error: anyhow::Error) -> anyhow::Error {
        let mut reasons = Vec::new();
        for (now, before) in iptables::save(self.flavour).iter().zip(self.before) {
            let Ok(now) = now else { continue };
            if now == before {
                continue;
            }
            let document = transaction::revert(&self.plan.program, now, before);
            match self.start(now.family, &document).and_then(Restore::finish) {
                Ok(()) => tracing::warn!(family = %now.family, "rules put back to what they were"),
                Err(failed) => reasons.push(format!("{}: {failed:#}", now.family)),
            }
        }
        if reasons.is_empty() {
            return error;
        }
        error.context(format!("rules could not be put back ({}), after", reasons.join("; ")))
    }

    /// Reads what the kernel made of it.
    fn verify(&self) -> Result<[Found; 2]> {
        let [v4, v6] = iptables::save(self.flavour);
        let v4 = v4.map_err(|unusable| anyhow::anyhow!("cannot read the IPv4 rules again: {unusable}"))?;
        let v6 = match v6 {
            Ok(found) => found,
            Err(_) if self.plan.families().len() == 1 => Found::nothing(Family::V6),
            Err(unusable) => bail!("cannot read the IPv6 rules again: {unusable}"),
        };
        let found = [v4, v6];
        let differences = self.plan.differences(&found);
        if !differences.is_empty() {
            bail!("the kernel does not hold what was written: {}", explanation(&differences));
        }
        Ok(found)
    }
}
