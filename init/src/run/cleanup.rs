//! Takes away what is ours, by what is in the kernel, whatever flags are given.

use anyhow::{Context, Result, bail};
use rules::parse::Found;
use rules::ruleset::Family;
use rules::settings::{Options, Settings};
use rules::{nft, transaction};

use crate::facts::passthrough_v6;
use crate::iptables::lock::Locking;
use crate::iptables::{Flavour, Restore};
use crate::netlink::Routing;
use crate::{backend, namespace, nftables, privileges};

/// Removes rules from every iptables that holds some, then addresses and routes. Goes on when one step fails, and
/// reports all failures at the end.
pub(super) fn cleanup(settings: &Settings, options: &Options) -> Result<String> {
    privileges::require_net_admin()?;
    privileges::keep_needed(false);
    let _lock = namespace::lock(options.lock_wait)?;
    let mut failures = Vec::new();
    let mut removed = false;
    for (flavour, state) in backend::holders() {
        for found in state.iter().flatten().filter(|found| found.holds_own()) {
            removed = true;
            match remove(flavour, found, options) {
                Ok(()) => tracing::info!(family = %found.family, ?flavour, "rules removed"),
                Err(error) => failures.push(format!("{error:#}")),
            }
        }
    }
    match remove_native() {
        Ok(some) => removed |= some,
        Err(error) => failures.push(format!("{error:#}")),
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

fn remove(flavour: Flavour, found: &Found, options: &Options) -> Result<()> {
    let document = transaction::remove(found);
    tracing::debug!(family = %found.family, "restore document:\n{document}");
    Restore::start(flavour, found.family, &document, &Locking::new(options))?.finish()
}

fn remove_native() -> Result<bool> {
    if !nftables::holds_own()? {
        return Ok(false);
    }
    nftables::run(&nft::removal())?;
    tracing::info!("nftables tables removed");
    Ok(true)
}

fn remove_routes(settings: &Settings) -> Result<bool> {
    let routing = Routing::open()?;
    let mut removed = routing.remove_loopback_address(passthrough_v6())?;
    for family in Family::BOTH {
        let rules =
            routing.remove_marked_delivery(family, settings.tproxy_mark, settings.tproxy_route_table)?;
        removed |= rules > 0;
    }
    if removed {
        tracing::info!("addresses and routes removed");
    }
    Ok(removed)
}
