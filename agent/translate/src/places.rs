//! Where workloads run: by their own labels, and by those of the Node they run on.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use resources::{Object, Pod, ResourceSet};
use snapshot::Locality;

/// The localities of Nodes, by their names.
#[derive(Debug, Default)]
pub(crate) struct Places<'s> {
    nodes: HashMap<&'s str, Locality, FixedState>,
}

impl<'s> Places<'s> {
    pub(crate) fn new(resources: &'s ResourceSet) -> Self {
        let place = |node: &'s resources::Meta| Some((node.name(), Locality::of_path(&node.locality()?)));
        Self { nodes: resources.nodes().iter().filter_map(|node| place(node)).collect() }
    }

    /// Where a Node is; empty when that is not known.
    pub(crate) fn of_node(&self, name: Option<&str>) -> Locality {
        name.and_then(|name| self.nodes.get(name)).cloned().unwrap_or_default()
    }

    /// Where a Pod is: what its labels say, as far as they do, and then its Node's.
    pub(crate) fn of_pod(&self, pod: &Object<Pod>) -> Locality {
        let own = pod.meta.locality().as_deref().map(Locality::of_path).unwrap_or_default();
        completed(own, self.of_node(pod.spec.node.as_deref()))
    }
}

/// `known` with what it leaves open as `wider` says, unless that is another place.
pub(crate) fn completed(known: Locality, wider: Locality) -> Locality {
    let parts =
        [(&known.region, &wider.region), (&known.zone, &wider.zone), (&known.sub_zone, &wider.sub_zone)];
    if parts.into_iter().all(|(known, wider)| known.is_empty() || known == wider) { wider } else { known }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_open_is_filled_in_and_nothing_else() {
        for (known, wider, found) in [
            ("", "eu/a/1", "eu/a/1"),
            ("eu", "eu/a", "eu/a"),
            ("eu/a", "eu/a/1", "eu/a/1"),
            ("/a", "eu/a", "eu/a"),
            ("eu/b", "eu/a/1", "eu/b"),
            ("us", "eu/a", "us"),
            ("eu/a", "eu", "eu/a"),
            ("eu/a", "", "eu/a"),
        ] {
            let of = Locality::of_path;
            assert_eq!(completed(of(known), of(wider)), of(found), "{known} {wider}");
        }
    }
}
