//! TLS that is passed on unopened: the `tls` rules of VirtualServices, each with chains for its server names.

use std::collections::BTreeSet;

use resources::{Finding, Object, Path, Rule, Severity, TlsMatch, VirtualService};
use snapshot::{FilterChain, HostPattern};

use super::{
    Gateway,
    address::Address,
    servers::SelectedServer,
    tls::{Owner, Taken, taken_by, tls_chain, without_rules},
};
use crate::{draft::tcp, hosts::pattern};

/// A match of a `tls` rule, and where it is written.
struct Written<'v> {
    vs: &'v Object<VirtualService>,
    rule: usize,
    index: usize,
    matches: &'v TlsMatch,
}

impl Gateway<'_, '_> {
    /// A chain for each match that is for the server, with the server names that nobody has taken before.
    pub(super) fn passthrough_chains<'s>(
        &self,
        server: &'s SelectedServer<'s>,
        address: Address<'_>,
        taken: &mut Taken<'s>,
        findings: &mut Vec<Finding>,
    ) -> Vec<FilterChain> {
        let mut chains = Vec::new();
        for written in matches(server) {
            let Written { vs, rule, .. } = written;
            let Some(names) = written.names(server, address, taken, findings) else { continue };
            let route = vs.spec.tls[rule].route.iter().map(|(to, weight)| (to, *weight));
            let Some(clusters) = self.context(server).destinations(route, vs) else { continue };
            chains.push(tls_chain(address.server_table_name(server), names, None, tcp(clusters)));
        }
        if chains.is_empty() {
            findings.push(without_rules(server, "tls"));
        }
        chains
    }
}

/// The matches for a server, in the order in which they count.
fn matches<'s>(server: &'s SelectedServer<'s>) -> Vec<Written<'s>> {
    let mut seen = BTreeSet::new();
    let distinct = server.attached.iter().map(|attached| attached.vs).filter(|vs| seen.insert(&vs.meta.id));
    let mut written = Vec::new();
    for vs in distinct {
        for (rule, route) in vs.spec.tls.iter().enumerate() {
            let fitting = route.matches.iter().enumerate().filter(|(_, matches)| server.fits(&matches.l4));
            written.extend(fitting.map(|(index, matches)| Written { vs, rule, index, matches }));
        }
    }
    written
}

impl<'s> Written<'s> {
    /// The server names that are this match's own; empty stands for every name and for none, `None` says that all are
    /// taken.
    fn names(
        &self,
        server: &'s SelectedServer<'s>,
        address: Address<'_>,
        taken: &mut Taken<'s>,
        findings: &mut Vec<Finding>,
    ) -> Option<Vec<HostPattern>> {
        let mut names = Vec::new();
        for (index, host) in self.matches.sni_hosts.iter().enumerate() {
            let Some(name) = pattern(host) else { continue };
            match taken.take(&name, Owner { server, rules: Some(self.vs) }) {
                None => names.push(name),
                Some(_) if names.contains(&name) => {}
                Some(first) => findings.push(self.taken_name(index, (first, server), address)),
            }
        }
        match names.as_slice() {
            [] => None,
            [HostPattern::Any] => Some(Vec::new()),
            _ => Some(names),
        }
    }

    fn taken_name(
        &self,
        index: usize,
        (first, server): (Owner<'_>, &SelectedServer<'_>),
        address: Address<'_>,
    ) -> Finding {
        let spec = Path::ROOT.field("spec");
        let tls = spec.field("tls");
        let rule = tls.index(self.rule);
        let list = rule.field("match");
        let at = list.index(self.index);
        let names = at.field("sniHosts");
        let problem = taken_by(first, server, address, "the name is left out here");
        let problem = problem.found(&self.matches.sni_hosts[index]).remedy("give each name to one rule");
        self.vs.meta.finding(Severity::Warning, Rule::Conflict, &names.index(index), problem)
    }
}
