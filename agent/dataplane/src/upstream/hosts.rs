//! An endpoint that is told by TLS whom a request is for: connections for different hosts are kept apart.

use std::rc::Rc;

use snapshot::HostName;

use super::Upstream;
use crate::bounds;

impl Upstream {
    /// This endpoint with connections for one host only, where TLS tells the endpoint the host.
    pub(super) fn for_host(self: &Rc<Self>, authority: &str) -> Option<Rc<Self>> {
        let policy = self.policy();
        let by_host = policy.tls.as_ref()?;
        if !(by_host.is_by_host() && by_host.is_spoken_to(self.speaks_mesh_tls)) {
            return None;
        }
        let host = HostName::of_authority(authority);
        // Certificates name addresses without brackets.
        let host = host.as_str().trim_start_matches('[').trim_end_matches(']');
        self.asked.set(self.asked.get() + 1);
        if let Some(known) = self.by_host.borrow().get(host) {
            known.last_asked.set(self.asked.get());
            return Some(Rc::clone(known));
        }
        let mut upstream = Self::new(self.target(), policy).counted_with(self);
        upstream.host = Some(host.into());
        let upstream = Rc::new(upstream);
        upstream.last_asked.set(self.asked.get());
        self.forget_a_host();
        let mut by_host = self.by_host.borrow_mut();
        if by_host.len() < bounds::HOSTS {
            by_host.insert(host.into(), Rc::clone(&upstream));
        }
        Some(upstream)
    }

    /// Where there are as many hosts as there may be, lets go of the one not asked for longest that nobody uses: made-up
    /// ones must not keep others from having connections.
    fn forget_a_host(&self) {
        let mut by_host = self.by_host.borrow_mut();
        if by_host.len() < bounds::HOSTS {
            return;
        }
        let unused = by_host.iter().filter(|(_, upstream)| Rc::strong_count(upstream) == 1);
        let oldest = unused.min_by_key(|(_, upstream)| upstream.last_asked.get());
        let oldest = oldest.map(|(host, _)| host.clone());
        if let Some(gone) = oldest.and_then(|host| by_host.remove(&host)) {
            gone.retire();
        }
    }
}
