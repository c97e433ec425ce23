//! The rules of one VirtualService, and what was made of them, kept from one translation to the next.

use std::{cell::RefCell, collections::HashMap, sync::Arc};

use foldhash::fast::FixedState;
use resources::{DefaultExportTo, Delegate, Finding, GatewayRef, Object, VirtualService};
use snapshot::{RetryPolicy, RouteList};

use super::{
    Rule,
    delegates::{self, Missing},
};

/// What the rules of a VirtualService come to.
///
/// It is used again as long as the resources it was made of are the same ones in memory; holding them makes sure that
/// nothing else takes their place there.
#[derive(Debug)]
pub(crate) struct Prepared {
    vs: Arc<Object<VirtualService>>,
    /// For every rule that delegates, to whom.
    delegates: Vec<Followed>,
    rules: Vec<Rule>,
    findings: Vec<Finding>,
    made: RefCell<Made>,
}

type Followed = Result<Arc<Object<VirtualService>>, Missing>;

/// What was made of the rules with some dependencies.
#[derive(Debug, Default)]
struct Made {
    routes: Vec<RoutesAt>,
    /// Made in an earlier translation and not asked for in this one yet.
    earlier: Vec<RoutesAt>,
    references: Option<Vec<Finding>>,
}

/// The routes for one gateway and port; `None` when no rule is for them.
#[derive(Debug)]
struct RoutesAt {
    gateway: GatewayRef,
    port: u16,
    routes: Option<RouteList>,
}

/// What no longer holds of what was made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Outdated {
    /// The findings about what the rules name.
    References,
    /// Those and the routes.
    Everything,
}

/// VirtualServices that rules may be left to.
pub(super) struct Known<'r> {
    /// By namespace and name.
    pub(super) by_name: HashMap<(&'r str, &'r str), &'r Arc<Object<VirtualService>>, FixedState>,
    /// Who sees those that do not say it.
    pub(super) defaults: &'r DefaultExportTo,
}

impl Prepared {
    /// The rules of `vs`: those prepared `before`, when nothing they follow from has changed.
    pub(super) fn new(
        vs: &Arc<Object<VirtualService>>,
        known: &Known<'_>,
        before: Option<Self>,
        default_retries: Option<&Arc<RetryPolicy>>,
    ) -> Self {
        let delegating = vs.spec.http.iter().filter_map(|rule| rule.delegate.as_ref());
        let delegates: Vec<Followed> = delegating.map(|to| follow(to, vs, known)).collect();
        match before {
            Some(mut before) if Arc::ptr_eq(&before.vs, vs) && are_same(&before.delegates, &delegates) => {
                let made = before.made.get_mut();
                made.earlier = std::mem::take(&mut made.routes);
                before
            }
            _ => Self::anew(vs, delegates, default_retries),
        }
    }

    fn anew(
        vs: &Arc<Object<VirtualService>>,
        delegates: Vec<Followed>,
        default_retries: Option<&Arc<RetryPolicy>>,
    ) -> Self {
        let (mut rules, mut findings) = (Vec::with_capacity(vs.spec.http.len()), Vec::new());
        let mut followed = delegates.iter();
        for (index, http) in vs.spec.http.iter().enumerate() {
            match http.delegate.as_ref().and_then(|_| followed.next()) {
                None => rules.push(Rule::new(None, (vs, index), default_retries, &mut findings)),
                Some(Ok(delegate)) => {
                    rules.extend(delegated(delegate, (vs, index), default_retries, &mut findings));
                }
                Some(Err(missing)) => findings.push(delegates::not_followed(vs, index, *missing)),
            }
        }
        Self { vs: Arc::clone(vs), delegates, rules, findings, made: RefCell::default() }
    }

    pub(super) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    pub(super) fn findings(&self) -> &[Finding] {
        &self.findings
    }

    pub(super) fn forget(&mut self, outdated: Outdated) {
        let made = self.made.get_mut();
        made.references = None;
        if outdated == Outdated::Everything {
            made.earlier.clear();
        }
    }

    /// The routes for a gateway and port, made when they are asked for the first time.
    pub(crate) fn routes(
        &self,
        (gateway, port): (&GatewayRef, u16),
        make: impl FnOnce(&[Rule]) -> Option<RouteList>,
    ) -> Option<RouteList> {
        let is_asked = |at: &RoutesAt| at.port == port && at.gateway == *gateway;
        let made = &mut *self.made.borrow_mut();
        if let Some(known) = made.routes.iter().find(|at| is_asked(at)) {
            return known.routes.clone();
        }
        let routes = match made.earlier.iter().position(is_asked) {
            Some(known) => made.earlier.swap_remove(known).routes,
            None => make(&self.rules),
        };
        made.routes.push(RoutesAt { gateway: gateway.clone(), port, routes: routes.clone() });
        routes
    }

    /// Findings about what the rules name, made once.
    pub(crate) fn references(&self, check: impl FnOnce() -> Vec<Finding>) -> Vec<Finding> {
        self.made.borrow_mut().references.get_or_insert_with(check).clone()
    }
}

fn follow(to: &Delegate, vs: &Object<VirtualService>, known: &Known<'_>) -> Followed {
    let find = |namespace: &str, name: &str| known.by_name.get(&(namespace, name)).copied();
    delegates::find(to, (vs.meta.namespace(), known.defaults), find).cloned()
}

fn are_same(before: &[Followed], now: &[Followed]) -> bool {
    let same = |(before, now): (&Followed, &Followed)| match (before, now) {
        (Ok(before), Ok(now)) => Arc::ptr_eq(before, now),
        (Err(before), Err(now)) => before == now,
        _ => false,
    };
    before.len() == now.len() && before.iter().zip(now).all(same)
}

/// The rules of the delegate in the place of the rule that delegates to it.
fn delegated(
    delegate: &Arc<Object<VirtualService>>,
    root: (&Object<VirtualService>, usize),
    default_retries: Option<&Arc<RetryPolicy>>,
    findings: &mut Vec<Finding>,
) -> Vec<Rule> {
    let (vs, index) = root;
    let mut rules = Vec::new();
    for (own_index, own) in delegate.spec.http.iter().enumerate() {
        match delegates::merged(&vs.spec.http[index], own) {
            Ok(merged) => {
                rules.push(Rule::new(Some(merged), (delegate, own_index), default_retries, findings));
            }
            Err(unfit) => findings.push(delegates::left_out((delegate, own_index), root, unfit)),
        }
    }
    rules
}
