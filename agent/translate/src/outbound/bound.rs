//! Listeners in the making: what several services want of one address, and who gets it.

use std::collections::BTreeMap;

use ipnet::IpNet;
use resources::{Finding, Problem, Rule};
use snapshot::{FilterChain, FilterChainMatch, HostPattern, NetworkFilter, Transport};

use super::at::At;
use crate::{
    draft::chain,
    registry::{KnownPort, KnownService},
};

/// Connections to serve, and how.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// Destinations; empty is any.
    pub(super) subnets: Vec<IpNet>,
    /// Server names; `None` asks for no TLS, an empty list for TLS with any name or none.
    pub(super) names: Option<Vec<HostPattern>>,
    pub(super) filter: NetworkFilter,
}

impl Part {
    /// All connections.
    pub(super) fn all(filter: NetworkFilter) -> Self {
        Self { subnets: Vec::new(), names: None, filter }
    }
}

/// Chains of the services that are reached at one address.
pub(super) struct Bound<'o, 's> {
    at: At<'s>,
    pub(super) chains: Vec<FilterChain>,
    /// Serves what no chain takes.
    pub(super) rest: Option<FilterChain>,
    claims: BTreeMap<Claim, &'o KnownService<'s>>,
}

/// Network and server name; where both are absent, everything.
type Claim = (Option<IpNet>, Option<HostPattern>);

impl<'o, 's> Bound<'o, 's> {
    pub(super) fn new(at: At<'s>) -> Self {
        Self { at, chains: Vec::new(), rest: None, claims: BTreeMap::new() }
    }

    /// Who has all connections that no server name and no network takes.
    pub(super) fn owner(&self) -> Option<&'o KnownService<'s>> {
        self.claims.get(&(None, None)).copied()
    }

    /// Adds what of `part` no earlier service has; what it has is a finding.
    pub(super) fn add(
        &mut self,
        mut part: Part,
        (service, port): (&'o KnownService<'s>, &KnownPort<'_>),
        findings: &mut Vec<Finding>,
    ) -> bool {
        let mut conflicts = Vec::new();
        let networks: Vec<Option<IpNet>> = optional(&part.subnets);
        match &mut part.names {
            Some(names) if !names.is_empty() => names.retain(|name| {
                let owner = networks.iter().find_map(|net| self.other(&(*net, Some(name.clone())), service));
                conflicts.extend(owner.map(|owner| (format!("server name {name} at {}", self.at), owner)));
                owner.is_none()
            }),
            _ if part.subnets.is_empty() => {
                if let Some(owner) = self.other(&(None, None), service) {
                    conflicts.push((self.at.to_string(), owner));
                }
            }
            _ => part.subnets.retain(|net| {
                let owner = self.other(&(Some(*net), None), service);
                conflicts.extend(owner.map(|owner| (format!("{net} on {}", self.at.port_in_words()), owner)));
                owner.is_none()
            }),
        }
        let nothing_left = match &part.names {
            Some(names) if !names.is_empty() || !conflicts.is_empty() => names.is_empty(),
            _ => !conflicts.is_empty() && part.subnets.is_empty(),
        };
        findings.extend(
            conflicts.into_iter().map(|(what, owner)| conflict((service, port), (self.at, &what), owner)),
        );
        if !nothing_left {
            self.claim(&part, service);
            self.push(part);
        }
        !nothing_left
    }

    fn other(&self, claim: &Claim, service: &KnownService<'_>) -> Option<&'o KnownService<'s>> {
        self.claims.get(claim).copied().filter(|owner| !std::ptr::eq(*owner, service))
    }

    fn claim(&mut self, part: &Part, service: &'o KnownService<'s>) {
        for net in optional(&part.subnets) {
            for name in optional(part.names.as_deref().unwrap_or_default()) {
                self.claims.entry((net, name)).or_insert(service);
            }
        }
    }

    fn push(&mut self, part: Part) {
        let chain = chain(self.at.name(), part.filter);
        let (names, transport) = match part.names {
            None => (Vec::new(), None),
            Some(names) => (names, Some(Transport::Tls)),
        };
        if part.subnets.is_empty() && transport.is_none() {
            self.rest.get_or_insert(chain);
            return;
        }
        let matches = FilterChainMatch {
            destination_subnets: part.subnets,
            server_names: names,
            transport,
            ..chain.matches
        };
        self.chains.push(FilterChain { matches, ..chain });
    }
}

/// Each item, or nothing once when there is none.
fn optional<T: Clone>(items: &[T]) -> Vec<Option<T>> {
    if items.is_empty() { vec![None] } else { items.iter().cloned().map(Some).collect() }
}

/// Says that a service lost what it wanted to an older one.
pub(super) fn conflict(
    (service, port): (&KnownService<'_>, &KnownPort<'_>),
    (at, what): (At<'_>, &str),
    owner: &KnownService<'_>,
) -> Finding {
    let owner = owner.meta();
    let problem = Problem::new(format!("claims {what}, which {} ({}) has already", owner.id, owner.place()));
    let problem = problem.remedy(match at {
        At::Unix(_) => "name one such service in `hosts` of the Sidecar's listener",
        At::Captured(_) | At::Dialled(_) => "give each service an address of its own",
    });
    service.port_finding(port.index, Rule::Conflict, problem)
}
