//! Who is at the other side of a call, as numbers that are cheap to count by.

use std::{cell::RefCell, collections::HashMap, sync::Arc};

use foldhash::fast::RandomState;
use snapshot::{KnownWorkload, Workload};

use crate::bounds;

/// The other side of a call.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Peer {
    /// What it is called, as far as it is known.
    pub workload: Option<Arc<Workload>>,
    /// The SPIFFE identity that it has proved; empty when that is none, `None` without mutual TLS.
    pub principal: Option<Arc<str>>,
}

impl Peer {
    /// What is known of a workload, which is spoken to in mutual TLS or not.
    pub(crate) fn of(known: &KnownWorkload, is_mutual: bool) -> Self {
        Self {
            workload: Some(Arc::clone(&known.workload)),
            principal: is_mutual.then(|| Arc::clone(&known.principal)),
        }
    }

    /// One of whom nothing is known but what its certificate says, and what it says itself: that counts only for the
    /// namespace it has proved to be of.
    pub(crate) fn of_principal(principal: Arc<str>, introduced: Option<&Arc<Workload>>) -> Self {
        let in_namespace = |namespace: &str| match introduced {
            Some(workload) if workload.namespace == namespace => Arc::clone(workload),
            _ => Arc::new(Workload { namespace: namespace.to_owned(), ..Workload::default() }),
        };
        Self { workload: namespace_of(&principal).map(in_namespace), principal: Some(principal) }
    }
}

/// The namespace in `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
fn namespace_of(principal: &str) -> Option<&str> {
    let mut parts = principal.strip_prefix("spiffe://")?.split('/');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(_), Some("ns"), Some(namespace), Some("sa")) => Some(namespace),
        _ => None,
    }
}

/// A peer as one worker counts it.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub(crate) struct PeerId(u32);

/// The peers that one worker has met. The first is nobody.
#[derive(Debug)]
pub(crate) struct Peers(RefCell<Known>);

#[derive(Debug)]
struct Known {
    list: Vec<Peer>,
    ids: HashMap<Peer, PeerId, RandomState>,
    /// How many peers an identity has said to be.
    introductions: HashMap<Arc<str>, usize, RandomState>,
}

impl Default for Peers {
    fn default() -> Self {
        let ids = HashMap::from_iter([(Peer::default(), PeerId::default())]);
        let list = vec![Peer::default()];
        Self(RefCell::new(Known { list, ids, introductions: HashMap::default() }))
    }
}

impl Peers {
    /// The number of a peer.
    pub(crate) fn id(&self, peer: Peer) -> PeerId {
        self.0.borrow_mut().id(peer)
    }

    /// The number of a peer of whom nothing is known but what [`Peer::of_principal`] takes. One that has said to be too
    /// many is believed no more than its certificate.
    pub(crate) fn id_of_principal(&self, principal: Arc<str>, introduced: Option<&Arc<Workload>>) -> PeerId {
        let known = &mut *self.0.borrow_mut();
        let peer = Peer::of_principal(Arc::clone(&principal), introduced);
        let plain = Peer::of_principal(Arc::clone(&principal), None);
        if peer == plain || known.ids.contains_key(&peer) {
            return known.id(peer);
        }
        let said = known.introductions.get(&principal).copied().unwrap_or_default();
        if said >= bounds::INTRODUCTIONS {
            return known.id(plain);
        }
        let id = known.id(peer);
        // Whoever found no place takes none here either.
        if id != PeerId::default() {
            known.introductions.insert(principal, said + 1);
        }
        id
    }

    /// Who has a number.
    pub(crate) fn get(&self, id: PeerId) -> Peer {
        self.0.borrow().list[id.0 as usize].clone()
    }
}

impl Known {
    fn id(&mut self, peer: Peer) -> PeerId {
        if let Some(id) = self.ids.get(&peer) {
            return *id;
        }
        let Ok(next) = u32::try_from(self.list.len()) else { return PeerId::default() };
        if self.list.len() >= bounds::PEERS {
            return PeerId::default();
        }
        self.list.push(peer.clone());
        self.ids.insert(peer, PeerId(next));
        PeerId(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_peers_is_bounded() {
        let peers = Peers::default();
        let id = |number: usize| peers.id(Peer::of_principal(number.to_string().into(), None));
        let first = id(0);
        for number in 1..bounds::PEERS + 5 {
            id(number);
        }
        assert_eq!((id(0), id(bounds::PEERS + 1)), (first, PeerId::default()));
        assert_eq!(peers.get(first).principal.as_deref(), Some("0"));
        assert_eq!(peers.get(PeerId::default()), Peer::default());
    }

    #[test]
    fn no_identity_takes_the_places_of_others_by_what_it_says() {
        let peers = Peers::default();
        let id = |account: &str, name: &str| {
            let [name, namespace] = [name, "prod"].map(str::to_owned);
            let said = Workload { name, namespace, ..Workload::default() };
            let principal = format!("spiffe://td/ns/prod/sa/{account}");
            peers.get(peers.id_of_principal(principal.into(), Some(&said.into())))
        };
        let name = |peer: Peer| peer.workload.map(|workload| workload.name.clone());
        for number in 0..bounds::PEERS {
            id("liar", &number.to_string());
        }
        assert_eq!(name(id("liar", "0")).as_deref(), Some("0"), "those that were met stay");
        let plain = id("liar", "one more");
        assert_eq!(plain.principal.as_deref(), Some("spiffe://td/ns/prod/sa/liar"));
        assert_eq!(plain.workload.map(|workload| workload.namespace.clone()).as_deref(), Some("prod"));
        assert_eq!(name(id("honest", "web")).as_deref(), Some("web"));
        assert!(peers.0.borrow().list.len() < bounds::INTRODUCTIONS + 5);
    }

    #[test]
    fn identities_tell_the_namespace() {
        let namespace = |principal: &str| {
            Peer::of_principal(principal.into(), None).workload.map(|workload| workload.namespace.clone())
        };
        assert_eq!(namespace("spiffe://cluster.local/ns/prod/sa/web").as_deref(), Some("prod"));
        for foreign in ["", "spiffe://cluster.local/web", "https://a/ns/prod/sa/web"] {
            assert_eq!(namespace(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn what_a_peer_says_counts_only_for_its_own_namespace() {
        let said = |namespace: &str| {
            let workload =
                Workload { name: "web".to_owned(), namespace: namespace.to_owned(), ..Workload::default() };
            let peer = Peer::of_principal("spiffe://td/ns/prod/sa/web".into(), Some(&workload.into()));
            peer.workload.unwrap().name.clone()
        };
        assert_eq!((said("prod").as_str(), said("bank").as_str()), ("web", ""));
    }
}
