//! Workloads by their addresses: whom metrics name as the other side of a call.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

use foldhash::fast::FixedState;

/// What Istio's labels call a workload. What is empty is not known.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Workload<S = String> {
    /// Name of the Deployment or whatever else makes its pods.
    pub name: S,
    /// Its namespace.
    pub namespace: S,
    /// Label `app`.
    pub app: S,
    /// Label `version`.
    pub version: S,
    /// The service it is part of, by its labels.
    pub canonical_service: S,
    /// The revision of that.
    pub canonical_revision: S,
    /// The cluster of Kubernetes that it runs in.
    pub cluster: S,
}

impl<'s> Workload<&'s str> {
    /// The names that follow from labels, as Istio works them out.
    pub fn of_labels(name: &'s str, namespace: &'s str, labels: &'s BTreeMap<String, String>) -> Self {
        let label = |name: &str| labels.get(name).map(String::as_str).filter(|value| !value.is_empty());
        let first = |names: [&str; 3]| names.into_iter().find_map(label);
        let service = ["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"];
        let revision = ["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"];
        Self {
            name,
            namespace,
            app: label("app").unwrap_or_default(),
            version: label("version").unwrap_or_default(),
            canonical_service: first(service).unwrap_or(name),
            canonical_revision: first(revision).unwrap_or("latest"),
            cluster: "",
        }
    }

    /// The same with text of its own.
    pub fn to_owned(self) -> Workload {
        Workload {
            name: self.name.to_owned(),
            namespace: self.namespace.to_owned(),
            app: self.app.to_owned(),
            version: self.version.to_owned(),
            canonical_service: self.canonical_service.to_owned(),
            canonical_revision: self.canonical_revision.to_owned(),
            cluster: self.cluster.to_owned(),
        }
    }
}

/// The workloads that are known by their addresses.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Workloads(HashMap<IpAddr, KnownWorkload, FixedState>);

/// A workload at an address, and who it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KnownWorkload {
    /// What it is called; pods of one workload share it.
    pub workload: Arc<Workload>,
    /// Its SPIFFE identity, which mutual TLS proves.
    pub principal: Arc<str>,
}

impl Workloads {
    /// The workload at an address.
    pub fn at(&self, address: IpAddr) -> Option<&KnownWorkload> {
        self.0.get(&address.to_canonical())
    }

    /// How many addresses are known.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no address is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(IpAddr, KnownWorkload)> for Workloads {
    /// Of several at one address the first counts.
    fn from_iter<I: IntoIterator<Item = (IpAddr, KnownWorkload)>>(known: I) -> Self {
        let mut workloads = Self::default();
        for (address, known) in known {
            workloads.0.entry(address.to_canonical()).or_insert(known);
        }
        workloads
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_labels_as_in_istio() {
        let labels = [("app", "reviews"), ("version", "v2"), ("app.kubernetes.io/version", "2.0")];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let workload = Workload::of_labels("reviews-v2", "prod", &labels);
        assert_eq!((workload.app, workload.version), ("reviews", "v2"));
        assert_eq!((workload.canonical_service, workload.canonical_revision), ("reviews", "2.0"));
        let none = BTreeMap::new();
        let nameless = Workload::of_labels("pod", "prod", &none);
        assert_eq!((nameless.app, nameless.canonical_service), ("", "pod"));
        assert_eq!(nameless.canonical_revision, "latest");
    }

    #[test]
    fn the_first_at_an_address_counts_whichever_way_it_is_written() {
        let known = |name: &str| KnownWorkload {
            workload: Arc::new(Workload { name: name.to_owned(), ..Workload::default() }),
            principal: "".into(),
        };
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let workloads: Workloads =
            [(address("10.0.0.1"), known("a")), (address("10.0.0.1"), known("b"))].into_iter().collect();
        assert_eq!(workloads.at(address("::ffff:10.0.0.1")).unwrap().workload.name, "a");
        assert!(workloads.at(address("10.0.0.2")).is_none());
    }
}
