//! The HTTP rules of VirtualServices, made ready once to become routes of any table.

mod actions;
mod delegates;
mod headers;
mod matches;
mod prepared;
mod retries;

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::FixedState;
use resources::{
    Finding, HttpMatch, HttpRoute, Object, Path, Problem, ResourceId, ResourceSet, Rule as Sort, Severity,
    VirtualService,
};
use snapshot::{CorsPolicy, Fault, HeaderEdits, RetryPolicy, RouteMatch};

use crate::{proxy::Proxy, visibility};
use prepared::Known;

pub(crate) use actions::{path_rewrite, redirect};
pub(crate) use prepared::{Outdated, Prepared};
pub(crate) use retries::{default_retries, inbound_retries};

/// The rules of every VirtualService that a proxy sees.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    by_owner: HashMap<ResourceId, Prepared, FixedState>,
}

/// A rule without what depends on the table it stands in.
#[derive(Debug)]
pub(crate) struct Rule {
    /// What the rule that delegates and this one come to together; `None` where nobody delegates.
    merged: Option<Box<HttpRoute>>,
    /// The VirtualService it is written in: destinations are relative to its namespace.
    pub(crate) owner: Arc<Object<VirtualService>>,
    /// Position in the owner's `spec.http`.
    pub(crate) index: usize,
    /// Requests it is for, any one of these; a rule without conditions has one that takes everything.
    pub(crate) matches: Vec<Match>,
    /// New `Host`, from `rewrite` or from a change of that header.
    pub(crate) authority: Option<String>,
    pub(crate) headers: Option<Box<HeaderEdits>>,
    /// For each destination.
    pub(crate) destination_headers: Vec<headers::Changes>,
    pub(crate) cors: Option<Box<CorsPolicy>>,
    pub(crate) fault: Option<Box<Fault>>,
    pub(crate) retries: Option<Arc<RetryPolicy>>,
}

/// One match of a rule.
#[derive(Debug)]
pub(crate) struct Match {
    /// Position in the rule's `match`; `None` when the rule has none.
    pub(crate) index: Option<usize>,
    pub(crate) condition: RouteMatch,
    /// Name of its route, for the access log.
    pub(crate) name: Option<String>,
    /// What its requests are counted under.
    pub(crate) stat_prefix: Option<Arc<str>>,
}

impl Rules {
    /// Prepares the rules anew but for those of `before` whose VirtualServices are still the same.
    pub(crate) fn new(
        resources: &ResourceSet,
        mut before: Self,
        proxy: &Proxy,
        findings: &mut Vec<Finding>,
    ) -> Self {
        let all = resources.virtual_services().iter();
        let known = Known {
            by_name: all.map(|vs| ((vs.meta.namespace(), vs.meta.name()), vs)).collect(),
            defaults: &proxy.mesh.defaults.export_to,
        };
        let visible = resources
            .virtual_services()
            .iter()
            .filter(|vs| !vs.spec.is_delegate() && visibility::virtual_service(vs, proxy).is_some());
        let default_retries = default_retries(&proxy.mesh);
        let mut by_owner = HashMap::default();
        for vs in visible {
            let earlier = before.by_owner.remove(&vs.meta.id);
            let prepared = Prepared::new(vs, &known, earlier, default_retries.as_ref());
            findings.extend_from_slice(prepared.findings());
            by_owner.insert(vs.meta.id.clone(), prepared);
        }
        findings.extend(delegates::unused(resources));
        Self { by_owner }
    }

    /// The rules of a VirtualService in the order in which they are tried.
    pub(crate) fn of(&self, vs: &Object<VirtualService>) -> &[Rule] {
        self.prepared(vs).map_or(&[], Prepared::rules)
    }

    /// The rules of a VirtualService with what has been made of them; `None` when it has no rules of its own here.
    pub(crate) fn prepared(&self, vs: &Object<VirtualService>) -> Option<&Prepared> {
        self.by_owner.get(&vs.meta.id)
    }

    /// Forgets what was made of the rules with other dependencies.
    pub(crate) fn forget(&mut self, outdated: Outdated) {
        self.by_owner.values_mut().for_each(|prepared| prepared.forget(outdated));
    }
}

impl Rule {
    fn new(
        merged: Option<HttpRoute>,
        (owner, index): (&Arc<Object<VirtualService>>, usize),
        default_retries: Option<&Arc<RetryPolicy>>,
        findings: &mut Vec<Finding>,
    ) -> Self {
        let http = merged.as_ref().unwrap_or(&owner.spec.http[index]);
        let mut report = Report { owner, index, findings };
        let matches = prepared_matches(http, &mut report);
        let (own, destination_headers) = headers::of_rule(http, &mut report);
        let rewritten = http.rewrite.as_ref().and_then(|rewrite| rewrite.authority.clone());
        Self {
            matches,
            authority: own.authority.or(rewritten.filter(|authority| !authority.is_empty())),
            headers: (!own.edits.is_empty()).then(|| Box::new(own.edits)),
            destination_headers,
            cors: http.cors_policy.as_ref().map(|policy| Box::new(actions::cors(policy, &mut report))),
            fault: http.fault.as_ref().and_then(actions::fault).map(Box::new),
            retries: retries::of_rule(http.retries.as_ref(), default_retries),
            merged: merged.map(Box::new),
            owner: Arc::clone(owner),
            index,
        }
    }

    /// The rule as written, or as merged with what delegates to it.
    pub(crate) fn http(&self) -> &HttpRoute {
        self.merged.as_deref().unwrap_or(&self.owner.spec.http[self.index])
    }

    /// Position of a match in the owner's rule, when it is written there alone.
    pub(crate) fn place(&self, of: &Match) -> Option<usize> {
        of.index.filter(|_| self.merged.is_none())
    }

    /// The match as written, or as merged with what delegates to it.
    pub(crate) fn written(&self, of: &Match) -> Option<&HttpMatch> {
        of.index.and_then(|index| self.http().matches.get(index))
    }
}

/// Every match that can be tested. One that cannot is left out, for its request would meet what its author shut out.
fn prepared_matches(http: &HttpRoute, report: &mut Report<'_, '_>) -> Vec<Match> {
    let rule = http.name.as_deref();
    if http.matches.is_empty() {
        let name = rule.map(str::to_owned);
        return vec![Match { index: None, condition: RouteMatch::default(), name, stat_prefix: None }];
    }
    let mut prepared = Vec::with_capacity(http.matches.len());
    for (index, written) in http.matches.iter().enumerate().filter(|(_, written)| !written.reads_claims()) {
        match matches::condition(written) {
            Ok(condition) => {
                let name = joined_name(rule, written.name.as_deref());
                let stat_prefix = written.stat_prefix.as_deref().map(Arc::from);
                prepared.push(Match { index: Some(index), condition, name, stat_prefix });
            }
            Err(bad) => report.match_left_out(index, &bad),
        }
    }
    prepared
}

/// `<rule>.<match>`, or the one that has a name.
fn joined_name(rule: Option<&str>, of_match: Option<&str>) -> Option<String> {
    match (rule, of_match) {
        (Some(rule), Some(of_match)) => Some(format!("{rule}.{of_match}")),
        (name, of_match) => name.or(of_match).map(str::to_owned),
    }
}

/// Where findings about one rule go.
struct Report<'o, 'f> {
    owner: &'o Object<VirtualService>,
    index: usize,
    findings: &'f mut Vec<Finding>,
}

impl Report<'_, '_> {
    /// Reports a mistake somewhere in the rule; `at` makes the place from the rule's path.
    fn error(&mut self, at: impl FnOnce(&Path<'_>, &mut dyn FnMut(&Path<'_>)), problem: Problem) {
        self.add((Severity::Error, Sort::Invalid), at, problem);
    }

    /// The same of what has no effect here.
    fn not_supported(&mut self, at: impl FnOnce(&Path<'_>, &mut dyn FnMut(&Path<'_>)), problem: Problem) {
        self.add((Severity::Warning, Sort::NotSupported), at, problem);
    }

    fn add(
        &mut self,
        (severity, sort): (Severity, Sort),
        at: impl FnOnce(&Path<'_>, &mut dyn FnMut(&Path<'_>)),
        problem: Problem,
    ) {
        let spec = Path::ROOT.field("spec");
        let http = spec.field("http");
        let mut problem = Some(problem);
        at(&http.index(self.index), &mut |at| {
            if let Some(problem) = problem.take() {
                self.findings.push(self.owner.meta.finding(severity, sort, at, problem));
            }
        });
    }

    fn match_left_out(&mut self, index: usize, bad: &matches::BadPattern) {
        let problem = Problem::new(format!("{}: the match is left out", bad.why)).found(&bad.source);
        let place = |rule: &Path<'_>, report: &mut dyn FnMut(&Path<'_>)| {
            let list = rule.field("match");
            report(&list.index(index).field(bad.field));
        };
        self.error(place, problem.remedy("write a simpler expression"));
    }
}
