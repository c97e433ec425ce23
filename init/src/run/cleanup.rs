//! Takes away what is ours, by what is in the kernel, whatever flags are given.

use anyhow::{Context, Error, Result, bail};
use rules::nft::encode;
use rules::parse::Found;
use rules::ruleset::Family;
use rules::settings::{Options, Settings};
use rules::transaction;

use crate::backend::BackendKind;
use crate::facts::passthrough_v6;
use crate::iptables::lock::Locking;
use crate::iptables::{Flavour, Restore};
use crate::netlink::{Delivery, Routing, Selector};
use crate::stop::Stop;
use crate::{backend, namespace, nftables, privileges};

/// Removes rules from everything that holds some, then addresses and routes. Goes on when one step fails, and
/// reports all failures at the end.
pub(super) fn cleanup(settings: &Settings, options: &Options) -> Result<String> {
    privileges::require_net_admin()?;
    privileges::keep_needed(false);
    let stop = Stop::listen()?;
    let _lock = namespace::lock(options.lock_wait, &stop)?;
    let mut failures = Vec::new();
    let locked =
        wait_for_lock(options, &stop)?.inspect(|error| failures.push(format!("{error:#}"))).is_some();
    let mut removed = false;
    for (kind, state) in backend::holders() {
        removed = true;
        if locked && kind.takes_lock() {
            continue;
        }
        let results = match kind {
            BackendKind::Nftables => vec![nftables::run(&encode::remove())],
            BackendKind::Iptables(flavour) => {
                let holding = state.iter().flatten().filter(|found| found.holds_own());
                holding.map(|found| remove(flavour, found, options)).collect()
            }
        };
        for result in results {
            match result {
                Ok(()) => tracing::info!(backend = %kind, "rules removed"),
                Err(error) => failures.push(format!("{error:#}")),
            }
        }
    }
    match remove_routes(settings) {
        Ok(some) => removed |= some,
        Err(error) => failures.push(format!("{error:#}")),
    }
    if !failures.is_empty() {
        bail!("not everything could be removed: {}", failures.join("; "));
    }
    if !removed {
        backend::require_one().context("cannot look for rules")?;
        tracing::info!("nothing of ours found: nothing removed");
    }
    Ok(String::new())
}

/// Waits for who may be changing rules of ours just now; returns why they cannot be removed if that takes too long.
///
/// # Errors
/// Somebody has asked us to stop meanwhile.
fn wait_for_lock(options: &Options, stop: &Stop) -> Result<Option<Error>> {
    let locking = Locking::new(options);
    if !locking.is_held() || !backend::holders().iter().any(|(kind, _)| kind.takes_lock()) {
        return Ok(None);
    }
    match locking.wait_until_free(stop) {
        Err(error) if stop.is_asked()? => Err(error),
        waited => Ok(waited.err()),
    }
}

fn remove(flavour: Flavour, found: &Found, options: &Options) -> Result<()> {
    let document = transaction::remove(found);
    tracing::debug!(family = %found.family, "restore document:\n{document}");
    Restore::start(flavour, found.family, &document, &Locking::new(options))?.finish()
}

fn remove_routes(settings: &Settings) -> Result<bool> {
    let routing = Routing::open()?;
    let mut removed = routing.remove_loopback_address(passthrough_v6())?;
    for family in Family::BOTH {
        // Those of Istio's own program have no origin, only what the flags say.
        let istio = (Selector::Mark(settings.tproxy_mark), settings.tproxy_route_table);
        let which = |found: Delivery| found.is_ours || (found.select, found.table) == istio;
        removed |= routing.remove_deliveries(family, which)? > 0;
    }
    if removed {
        tracing::info!("addresses and routes removed");
    }
    Ok(removed)
}
