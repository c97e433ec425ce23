//! Resources to snapshot and findings, as a pure function.
//!
//! [`translate`] goes through the stages in order: the services a proxy sees, their clusters, and then either the
//! gateway's listeners and route tables or the sidecar's. Equal resources give equal snapshots, in whatever order
//! they arrived; what is wrong costs only itself and becomes a [`Finding`].
#![forbid(unsafe_code)]

mod access_logging;
mod clusters;
mod credentials;
mod destinations;
mod draft;
mod gateway;
mod hosts;
mod http_settings;
mod inbound;
mod metrics;
mod mutual_tls;
mod names;
mod outbound;
mod own_place;
mod places;
mod proxy;
mod references;
mod registry;
mod review;
mod route_dependencies;
mod routes;
mod rules;
mod sidecar_scope;
mod telemetries;
mod translator;
mod uncaptured;
mod visibility;
mod workloads;
mod wrong_tls;

use resources::{Finding, ResourceSet};
use snapshot::Snapshot;

pub use credentials::{Credentials, certificate_paths};
pub use proxy::{CapturePorts, MeshOptions, Proxy, ProxyKind, WorkloadIdentity};
pub use review::review;
pub use translator::Translator;

/// What the resources mean for one proxy.
#[derive(Clone, Debug)]
pub struct Translation {
    /// Everything valid.
    pub snapshot: Snapshot,
    /// Everything noticed across resources, sorted by place.
    pub findings: Vec<Finding>,
    /// When the same resources come to another snapshot by the time alone, in seconds since 1970: a certificate that
    /// serves in the place of another ends, or the other begins.
    pub changes_at: Option<i64>,
}

/// Works out what `proxy` serves when these resources are in force.
///
/// Pure: no clock, no random source, no environment.
pub fn translate(resources: &ResourceSet, credentials: &Credentials<'_>, proxy: &Proxy) -> Translation {
    Translator::default().translate(resources, credentials, proxy)
}
