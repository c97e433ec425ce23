//! The routes of a virtual host, with what finds the first of them.

use std::{fmt, ops::Deref, sync::Arc};

use super::{
    Route,
    index::{PathIndex, WORTH_AN_INDEX},
};
use crate::request::RequestHead;

/// Routes in the order in which they are tried. Clones share them, so that a list that stays as it is costs the next
/// snapshot nothing.
#[derive(Clone)]
pub struct RouteList(Arc<Indexed>);

struct Indexed {
    routes: Vec<Route>,
    /// Of a long list.
    index: Option<PathIndex>,
}

impl RouteList {
    /// The first route that a request fulfils.
    pub(super) fn first(&self, request: &impl RequestHead, over_tls: bool) -> Option<&Route> {
        let Indexed { routes, index } = &*self.0;
        let matches = |route: &Route| route.matches.matches(request, over_tls);
        match index {
            Some(index) => index.first(request.path(), routes, matches),
            None => routes.iter().find(|route| matches(route)),
        }
    }

    /// Whether both are the same list in memory.
    pub fn is_shared_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl From<Vec<Route>> for RouteList {
    fn from(routes: Vec<Route>) -> Self {
        let index = (routes.len() >= WORTH_AN_INDEX).then(|| PathIndex::new(&routes));
        Self(Arc::new(Indexed { routes, index }))
    }
}

impl FromIterator<Route> for RouteList {
    fn from_iter<I: IntoIterator<Item = Route>>(routes: I) -> Self {
        routes.into_iter().collect::<Vec<_>>().into()
    }
}

impl Deref for RouteList {
    type Target = [Route];

    fn deref(&self) -> &[Route] {
        &self.0.routes
    }
}

// The index follows from the routes.
impl PartialEq for RouteList {
    fn eq(&self, other: &Self) -> bool {
        self.is_shared_with(other) || **self == **other
    }
}

impl Eq for RouteList {}

impl fmt::Debug for RouteList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
