//! The retry policy of one request: its route's, or that and what the application asks for.

use std::{ops::Deref, rc::Rc};

use snapshot::{RequestOverrides, RetryPolicy};

/// Whose policy counts.
#[derive(Clone, Debug)]
pub(super) enum Retries<'v> {
    OfRoute(&'v RetryPolicy),
    /// The route's, and what the application asked for.
    Asked(Rc<RetryPolicy>),
}

impl<'v> Retries<'v> {
    pub(super) fn of(
        of_route: Option<&'v RetryPolicy>,
        overrides: Option<&RequestOverrides>,
    ) -> Option<Self> {
        match overrides.filter(|overrides| overrides.changes_retries()) {
            None => of_route.map(Self::OfRoute),
            Some(overrides) => Some(Self::Asked(Rc::new(overrides.applied_to(of_route)))),
        }
    }
}

impl Deref for Retries<'_> {
    type Target = RetryPolicy;

    fn deref(&self) -> &RetryPolicy {
        match self {
            Self::OfRoute(policy) => policy,
            Self::Asked(policy) => policy,
        }
    }
}
