//! Addresses and routes that the rules rely on.

use anyhow::Result;
use rules::ruleset::Family;

use super::Plan;
use crate::facts::{addresses, passthrough_v6};
use crate::netlink::{Delivery, Routing, route_command, rule_command};

/// What was added for this run, so that it can be taken back.
pub(super) struct Routes {
    routing: Option<Routing>,
    address_added: bool,
    delivery_added: Vec<Family>,
    mark: u32,
    table: u32,
}

impl Routes {
    /// Adds what is missing. Nothing is left behind when something cannot be added.
    pub(super) fn put_in_place(plan: &Plan) -> Result<Self> {
        let mut routes = Self {
            routing: None,
            address_added: false,
            delivery_added: Vec::new(),
            mark: plan.settings.tproxy_mark,
            table: plan.settings.tproxy_route_table,
        };
        routes.add(plan).inspect_err(|_| routes.take_back())?;
        Ok(routes)
    }

    fn add(&mut self, plan: &Plan) -> Result<()> {
        let ipv6 = plan.families().contains(&Family::V6);
        let routing = self.routing.insert(Routing::open()?);
        if ipv6 {
            self.address_added = routing.add_loopback_address(passthrough_v6())?;
        }
        if plan.needs_routes() {
            for &family in plan.families() {
                if routing.add_marked_delivery(family, self.mark, self.table)? {
                    self.delivery_added.push(family);
                }
            }
        }
        Ok(())
    }

    /// Takes away routing rules of ours that an earlier run with other flags has left.
    pub(super) fn remove_stale(&self, plan: &Plan) -> Result<()> {
        let Some(routing) = &self.routing else { return Ok(()) };
        for family in Family::BOTH {
            let removed = routing.remove_deliveries(family, |found| is_stale(plan, family, found))?;
            if removed > 0 {
                tracing::info!(%family, "routing rules of an earlier run removed");
            }
        }
        Ok(())
    }

    /// Takes back what this run has added.
    pub(super) fn take_back(&self) {
        let Some(routing) = &self.routing else { return };
        if self.address_added
            && let Err(error) = routing.remove_loopback_address(passthrough_v6())
        {
            tracing::warn!("{error:#}");
        }
        for &family in &self.delivery_added {
            if let Err(error) = routing.remove_marked_delivery(family, self.mark, self.table) {
                tracing::warn!("{error:#}");
            }
        }
    }
}

/// Ours, but for another mark, table or family than is wanted.
fn is_stale(plan: &Plan, family: Family, found: Delivery) -> bool {
    found.is_ours
        && !wanted(plan, family).is_some_and(|(mark, table)| found.mark == mark && found.table == table)
}

/// The mark and table that deliver captured packets of a family.
fn wanted(plan: &Plan, family: Family) -> Option<(u32, u32)> {
    let settings = &plan.settings;
    let needed = plan.needs_routes() && plan.families().contains(&family);
    needed.then_some((settings.tproxy_mark, settings.tproxy_route_table))
}

/// Where addresses and routes differ from what the rules need: one line each, `-` wanted, `+` found.
pub(super) fn differences(plan: &Plan) -> Result<Vec<String>> {
    let routing = Routing::open()?;
    let mut lines = Vec::new();
    let address = passthrough_v6();
    let present = || -> Result<bool> { Ok(addresses()?.iter().any(|found| found.address == address)) };
    if plan.families().contains(&Family::V6) && !present()? {
        lines.push(format!("  - ip -6 address add {address}/128 dev lo"));
    }
    for family in Family::BOTH {
        let found = routing.deliveries(family)?;
        let stale = found.iter().filter(|found| is_stale(plan, family, **found));
        lines.extend(
            stale.map(|found| format!("  + {}", rule_command(family, "add", found.mark, found.table))),
        );
        let Some((mark, table)) = wanted(plan, family) else { continue };
        if !found.iter().any(|found| found.mark == mark && found.table == table) {
            lines.push(format!("  - {}", rule_command(family, "add", mark, table)));
        }
        if !routing.delivers_locally(family, table)? {
            lines.push(format!("  - {}", route_command(family, "add", table)));
        }
    }
    Ok(lines)
}
