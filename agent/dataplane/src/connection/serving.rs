//! What serves a connection under a view: its listener, its filter chain, and whether its HTTP goes on when they change.

use std::rc::Rc;

use snapshot::{Direction, Elsewhere, FilterChain, HttpConnections, ListenerId, NetworkFilter, RequestHead};

use super::Connection;
use crate::view::View;

/// What is done where only verifying a certificate anew can tell whether a client is let in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verification {
    /// It is verified.
    Anew,
    /// The client is let in.
    Skipped,
}

impl Connection {
    /// The listener that serves this connection under `view`: one for its original destination, or the accepting one.
    pub(super) fn serving_listener(&self, view: &View) -> Option<ListenerId> {
        let accepting = view.snapshot.bound_listener(&self.listener);
        let is_dialled = |id| view.snapshot.listener(id).binding.is_dialled();
        let captured = match self.direction {
            Direction::Outbound if accepting.is_some_and(is_dialled) => None,
            Direction::Outbound => view.snapshot.captured_listener(self.destination),
            Direction::Inbound | Direction::Gateway => None,
        };
        captured.or(accepting)
    }

    pub(super) fn filter_chain<'v>(&self, view: &'v View) -> Option<&'v FilterChain> {
        view.snapshot.select_filter_chain(&self.facts(), self.serving_listener(view)?)
    }

    /// Server names that would have been served, for a message.
    pub(super) fn served_names(&self, view: &View) -> String {
        const SHOWN: usize = 8;
        let listener = self.serving_listener(view).map(|id| view.snapshot.listener(id));
        let chains = listener.iter().flat_map(|listener| &listener.filter_chains);
        let mut names = chains.flat_map(|chain| &chain.matches.server_names);
        let shown: Vec<_> = names.by_ref().take(SHOWN).map(ToString::to_string).collect();
        match names.count() {
            0 => shown.join(","),
            more => format!("{} and {more} more", shown.join(",")),
        }
    }

    /// How a request that arrived under `view` is served, or `None` when this connection would no longer be served as
    /// HTTP. Asked for every request, worked out once per snapshot.
    pub(crate) fn http(&self, view: &View) -> Option<HttpConnections> {
        if let Some((version, http)) = self.http.get()
            && version == view.version
        {
            return Some(http);
        }
        let chain = self.filter_chain(view).filter(|_| self.refused.get() != Some(view.version))?;
        let NetworkFilter::Http(http) = chain.filter else { return None };
        if !self.lets_in(view, chain, Verification::Anew) {
            self.refused.set(Some(view.version));
            return None;
        }
        self.http.set(Some((view.version, http)));
        Some(http)
    }

    /// Whether this chain would let the client in. The chain may be another one by now, or ask for more: certificates of
    /// clients, of other authorities. What has not been verified is decided by `verification`.
    fn lets_in(&self, view: &View, chain: &FilterChain, verification: Verification) -> bool {
        match (chain.tls, self.session()) {
            (Some(context), Some(session)) => {
                let met = view.tls().is_met(context, session);
                met.unwrap_or_else(|| {
                    verification == Verification::Skipped || view.tls().accepts(context, session)
                })
            }
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    /// Whether HTTP that arrives by this connection is still served: its listener, or its chain there, may be gone, or
    /// ask clients for what this one was not asked for.
    pub(crate) fn is_served(&self) -> bool {
        self.http(&self.worker().view()).is_some()
    }

    /// Whether it may be served still, as far as that can be told for many idle connections at once: certificates are
    /// verified anew when a request comes.
    pub(crate) fn may_be_served(&self) -> bool {
        let view = self.worker().view();
        if self.refused.get() == Some(view.version) {
            return false;
        }
        let is_known = self.http.get().is_some_and(|(version, _)| version == view.version);
        let serves = |chain: &FilterChain| {
            matches!(chain.filter, NetworkFilter::Http(_))
                && self.lets_in(&view, chain, Verification::Skipped)
        };
        is_known || self.filter_chain(&view).is_some_and(serves)
    }

    /// What a request that comes now is served from: the view in force, or for a moment one of before, where a change has
    /// left the connection without a place. The client may have sent it without knowing.
    pub(crate) fn view(&self) -> Rc<View> {
        let view = self.worker().view();
        if self.http(&view).is_some() { view } else { self.former_view(&view).unwrap_or(view) }
    }

    /// Whether it is served for a moment only, and no more than what is on its way.
    pub(crate) fn is_ending(&self) -> bool {
        self.former_view(&self.worker().view()).is_some()
    }

    fn former_view(&self, present: &View) -> Option<Rc<View>> {
        // Where there is a place that asks more of clients than this one has met, or was, it is no longer served at once.
        let has_place = |view: &View| {
            matches!(self.filter_chain(view).map(|chain| &chain.filter), Some(NetworkFilter::Http(_)))
        };
        if has_place(present) || self.refused.get().is_some() {
            return None;
        }
        self.worker().former_view(|view| has_place(view).then(|| self.http(view).is_some()))
    }

    /// Whether a request asks for a host whose server name asks clients for what this one was not asked for.
    pub(crate) fn is_misdirected(&self, view: &View, authority: &str) -> bool {
        let served = || Some((self.serving_listener(view)?, self.filter_chain(view)?.tls));
        self.is_over_tls()
            && view.snapshot.tells_clients_apart()
            && served().is_some_and(|served| view.snapshot.is_misdirected(authority, &self.facts(), served))
    }

    /// The route of a request whose host is known by another server name only.
    pub(crate) fn elsewhere<'v>(&self, view: &'v View, request: &impl RequestHead) -> Option<Elsewhere<'v>> {
        if !self.is_over_tls() {
            return None;
        }
        let served = (self.serving_listener(view)?, self.filter_chain(view)?.tls);
        view.snapshot.elsewhere(request, &self.facts(), served)
    }
}
