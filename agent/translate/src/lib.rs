//! Resources to snapshot and findings, as a pure function.
//!
//! [`translate`] goes through the stages in order: the services a proxy sees, their clusters, and then either the
//! gateway's listeners and route tables or the sidecar's. Equal resources give equal snapshots, in whatever order
//! they arrived; what is wrong costs only itself and becomes a [`Finding`].
#![forbid(unsafe_code)]

mod clusters;
mod credentials;
mod destinations;
mod draft;
mod gateway;
mod hosts;
mod inbound;
mod mutual_tls;
mod outbound;
mod proxy;
mod references;
mod registry;
mod review;
mod routes;
mod rules;
mod sidecar_scope;
mod visibility;

use resources::{Finding, ResourceSet};
use snapshot::Snapshot;

pub use credentials::{Credentials, certificate_paths};
pub use proxy::{CapturePorts, MeshOptions, Proxy, ProxyKind, WorkloadIdentity};
pub use review::review;

use clusters::Clusters;
use credentials::Contexts;
use destinations::Destinations;
use draft::DraftBuilder;
use mutual_tls::MutualTls;
use registry::Registry;
use rules::Rules;
use sidecar_scope::SidecarScope;

/// What the resources mean for one proxy.
#[derive(Clone, Debug)]
pub struct Translation {
    /// Everything valid.
    pub snapshot: Snapshot,
    /// Everything noticed across resources, sorted by place.
    pub findings: Vec<Finding>,
}

/// Works out what `proxy` serves when these resources are in force.
///
/// Pure: no clock, no random source, no environment.
pub fn translate(resources: &ResourceSet, credentials: &Credentials<'_>, proxy: &Proxy) -> Translation {
    let mut findings = Vec::new();
    let scope = SidecarScope::new(resources, proxy, &mut findings);
    let registry = Registry::new(resources, &scope, proxy, &mut findings);
    let mut draft = DraftBuilder::new(normalization(proxy.mesh.path_normalization));
    let rules = Rules::new(resources, proxy, &mut findings);
    let destinations = Destinations::new(resources, proxy, &mut findings);
    let mut contexts = Contexts::new(resources, credentials, proxy);
    let tls = (&mut contexts, &mut findings);
    let clusters = Clusters::new(resources, (&registry, &scope), &destinations, tls);
    match proxy.kind {
        ProxyKind::Router => {
            gateway::build(resources, (&registry, &clusters, &rules), contexts, (&mut draft, &mut findings));
        }
        ProxyKind::Sidecar => {
            outbound::build(resources, (&registry, &clusters, &rules, &scope), &mut draft, &mut findings);
            let mutual_tls = MutualTls::of(resources, proxy);
            let served = (&registry, &scope, &clusters);
            inbound::build(served, &mutual_tls, &mut contexts, (&mut draft, &mut findings));
        }
    }
    findings.extend(references::check(resources, (&registry, &rules, &destinations)));
    findings.sort_by(|a, b| (&a.place, &a.path).cmp(&(&b.place, &b.path)));
    findings.dedup();
    Translation { snapshot: draft.finish(clusters), findings }
}

fn normalization(written: resources::PathNormalization) -> snapshot::PathNormalization {
    match written {
        resources::PathNormalization::None => snapshot::PathNormalization::None,
        resources::PathNormalization::Base => snapshot::PathNormalization::Base,
        resources::PathNormalization::MergeSlashes => snapshot::PathNormalization::MergeSlashes,
        resources::PathNormalization::DecodeAndMergeSlashes => {
            snapshot::PathNormalization::DecodeAndMergeSlashes
        }
    }
}
