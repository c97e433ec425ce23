//! Addresses and routes that the rules rely on.

use anyhow::Result;
use rules::ruleset::Family;

use super::Plan;
use crate::facts::passthrough_v6;
use crate::netlink::Routing;

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
        if !ipv6 && !plan.needs_routes() {
            return Ok(());
        }
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
