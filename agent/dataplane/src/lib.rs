//! Sockets and bytes: accepts connections and serves them as the snapshot says.
//!
//! One thread per worker, each with a runtime, listening sockets, upstream connections and counters of its own;
//! nothing is shared on the path of a request. A [`DataPlane`] starts the workers, gives each new snapshot to all of
//! them, and drains them at the end.

// What the fuzz targets import, for the test that compiles them.
#[cfg(test)]
extern crate self as dataplane;
#[cfg(test)]
extern crate self as libfuzzer_sys;

mod accept;
mod access_log;
mod addresses;
mod alarm;
mod balance;
pub mod bounds;
mod breakers;
mod buffer;
mod cluster;
mod connection;
mod dns;
mod failure;
mod free_list;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod handshakes;
mod health;
mod http;
mod inspect;
mod linger;
mod live;
mod log_limit;
mod loopback;
mod origin;
mod overload;
mod pipe;
mod plane;
mod proxy_protocol;
mod relay;
mod shared;
mod sockets;
mod strftime;
mod sys;
mod tcp;
mod telemetry;
mod timer;
mod tls;
mod transport;
mod untaken;
mod upgrades;
mod upstream;
mod uuid;
mod view;
mod watched;
mod worker;
mod wrong_tls;

pub use access_log::{AccessLog, JsonFormat, LogFormat};
pub use breakers::{Breaker, Breakers, ClusterState};
pub use dns::{NameFamilies, NameSettings, UnresolvedName};
pub use health::Ejections;
pub use http::{PeerMetadata, shown_to_routes};
pub use loopback::LoopbackAnswers;
pub use overload::{Overload, Pressure};
pub use plane::{DataPlane, DrainTime, Published, TelemetryReader};
pub use sockets::{BindError, listen};
pub use sys::{original_destination, release_memory, trim_memory};
pub use telemetry::{
    ConnectionKey, ConnectionMeasures, Histogram, Peer, RequestKey, RequestMeasures, ResponseCode, RouteKey,
    RouteMeasures, Telemetry,
};
pub use tls::{CertificateError, ContextError, check_authority, check_certificate, connect_unverified};
pub use upgrades::{Upgrades, UpgradesError};
pub use worker::{Counts, HeadLimits, InboundCapture, OriginalDestination, Settings};
