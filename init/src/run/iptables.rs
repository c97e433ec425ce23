//! Writes by iptables: one transaction per family, side by side; whatever fails, both are put back.

use anyhow::{Result, bail};
use rules::diff::Difference;
use rules::parse::Found;
use rules::ruleset::Family;
use rules::settings::Options;
use rules::transaction;

use super::Plan;
use super::apply::confirmed;
use crate::backend::BackendKind;
use crate::iptables::lock::Locking;
use crate::iptables::{self, Flavour, Restore};
use crate::stop::Stop;
use crate::{legacy, nftables};

pub(super) struct Writer<'a> {
    plan: &'a Plan,
    options: &'a Options,
    flavour: Flavour,
    before: &'a [Found; 2],
    /// Whether the kernel had no table before.
    untried: bool,
    locking: Locking,
}

impl<'a> Writer<'a> {
    /// Writes by programs of this flavour over what was found `before`.
    pub(super) fn new(
        plan: &'a Plan,
        options: &'a Options,
        flavour: Flavour,
        before: &'a [Found; 2],
        untried: bool,
    ) -> Self {
        Self { plan, options, flavour, before, untried, locking: Locking::new(options) }
    }

    /// Writes both families, and returns what the kernel holds then.
    pub(super) fn write(&self, differences: &[Difference], stop: &Stop) -> Result<[Found; 2]> {
        let documents = self.documents(differences);
        // For who took it since the rules were read; what they did in between shows when reading again.
        if BackendKind::Iptables(self.flavour).takes_lock() {
            self.locking.wait_until_free(stop)?;
        }
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
        self.verify().map_err(|error| self.put_back(error))
    }

    /// The families to be written, each with its document.
    fn documents(&self, differences: &[Difference]) -> Vec<(Family, String)> {
        let differs = |family| differences.iter().any(|difference| difference.family == family);
        let concerned = self.before.iter().filter(|found| self.options.force_apply || differs(found.family));
        concerned
            .map(|found| (found.family, transaction::replace(&self.plan.program, found.family, found)))
            .filter(|(_, document)| !document.is_empty())
            .collect()
    }

    fn start<'d>(&'d self, family: Family, document: &'d str) -> Result<Restore<'d>> {
        tracing::debug!(%family, "restore document:\n{document}");
        Restore::start(self.flavour, family, document, &self.locking)
    }

    /// The rules as they were, and the error that made it necessary. Reading again tells what has been written at all.
    fn put_back(&self, error: anyhow::Error) -> anyhow::Error {
        let mut reasons = Vec::new();
        for (now, before) in iptables::save(self.flavour).into_iter().zip(self.before) {
            // What cannot be read may have been written all the same.
            let now = now.unwrap_or_else(|_| Found::holding(&self.plan.program.rule_set(before.family)));
            if now == *before {
                continue;
            }
            let document = transaction::revert(&self.plan.program, &now, before);
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

    /// Reads what the kernel made of it. Where nothing was before, asking the kernel itself may be enough, which saves
    /// starting two programs; what it says decides only if it agrees.
    fn verify(&self) -> Result<[Found; 2]> {
        if self.untried
            && let Some(now) = self.ask_the_kernel()
            && self.plan.differences(&now).is_empty()
        {
            return Ok(now);
        }
        let [v4, v6] = iptables::save(self.flavour);
        let v4 = v4.map_err(|unusable| anyhow::anyhow!("cannot read the IPv4 rules again: {unusable}"))?;
        let v6 = match v6 {
            Ok(found) => found,
            Err(_) if self.plan.families().len() == 1 => Found::nothing(Family::V6),
            Err(unusable) => bail!("cannot read the IPv6 rules again: {unusable}"),
        };
        confirmed(self.plan, [v4, v6])
    }
    fn ask_the_kernel(&self) -> Option<[Found; 2]> {
        match self.flavour {
            Flavour::Nft => nftables::look_at_iptables().ok(),
            Flavour::Legacy => legacy::look()
                .inspect_err(|error| tracing::debug!("asking iptables-legacy-save, because: {error:#}"))
                .ok(),
            Flavour::Plain => None,
        }
    }
}
