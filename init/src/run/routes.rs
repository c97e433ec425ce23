//! Addresses and routes that the rules rely on.

use anyhow::Result;
use rules::ruleset::Family;

use super::Plan;
use crate::facts::{addresses, passthrough_v6};
use crate::netlink::{Delivery, Routing, Selector, route_command, rule_command};

/// What was added for this run, so that it can be taken back.
pub(super) struct Routes {
    routing: Option<Routing>,
    address_added: bool,
    deliveries_added: Vec<(Family, Selector)>,
    table: u32,
}

impl Routes {
    /// Adds what is missing. Nothing is left behind when something cannot be added.
    pub(super) fn put_in_place(plan: &Plan) -> Result<Self> {
        let mut routes = Self {
            routing: None,
            address_added: false,
            deliveries_added: Vec::new(),
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
        for &family in plan.families() {
            for select in plan.deliveries(family) {
                if routing.add_delivery(family, select, self.table)? {
                    self.deliveries_added.push((family, select));
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
        for &(family, select) in &self.deliveries_added {
            let added = |found: Delivery| found.select == select && found.table == self.table;
            if let Err(error) = routing.remove_deliveries(family, added) {
                tracing::warn!("{error:#}");
            }
        }
    }
}

/// Ours, but for other packets, another table or family than is wanted.
fn is_stale(plan: &Plan, family: Family, found: Delivery) -> bool {
    found.is_ours
        && !(found.table == plan.settings.tproxy_route_table
            && plan.deliveries(family).contains(&found.select))
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
            stale.map(|found| format!("  + {}", rule_command(family, "add", found.select, found.table))),
        );
        let (wanted, table) = (plan.deliveries(family), plan.settings.tproxy_route_table);
        for &select in &wanted {
            if !found.iter().any(|found| found.select == select && found.table == table) {
                lines.push(format!("  - {}", rule_command(family, "add", select, table)));
            }
        }
        if !wanted.is_empty() && !routing.delivers_locally(family, table)? {
            lines.push(format!("  - {}", route_command(family, "add", table)));
        }
    }
    Ok(lines)
}
