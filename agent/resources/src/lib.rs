//! Istio and Kubernetes resources as users write them, with the place each came from.
//!
//! [`read`] turns one text into typed resources and [`Finding`]s; [`Files`] remembers the last valid version of what
//! every file held; [`ResourceSet`] is all of it in the order in which conflicts are decided. Nothing here opens a
//! file or reads a clock.
#![forbid(unsafe_code)]

// What the fuzz target imports, for the test that compiles it.
#[cfg(test)]
extern crate self as libfuzzer_sys;
#[cfg(test)]
extern crate self as resources;

mod authorization_policy;
mod certificate_files;
mod config_map;
mod cover;
mod decode;
mod destination_rule;
mod duration;
mod endpoint_slice;
mod endpoints;
mod export_to;
mod expression;
#[cfg(test)]
mod field_table;
mod files;
mod finding;
mod gateway;
mod host;
mod kind;
mod labels;
mod mesh_config;
mod meta;
mod path;
mod peer_authentication;
mod pod;
mod policy_scope;
mod read;
mod request_authentication;
#[cfg(any(test, fuzzing))]
pub mod rewrite;
mod secret;
mod service;
mod service_entry;
mod set;
mod shown;
mod sidecar;
mod suggest;
mod telemetry;
#[cfg(test)]
mod testing;
mod unix_socket;
mod virtual_service;
mod workload_entry;
mod yaml;

pub use authorization_policy::{
    Action, AuthorizationPolicy, AuthorizationRule, Condition, Operation, Source, Values,
};
pub use certificate_files::CertificateFiles;
pub use config_map::ConfigMap;
pub use cover::MatchCover;
pub use destination_rule::{
    ClientTls, ClientTlsMode, ConnectionPool, ConsistentHash, DestinationRule, Distribute, Failover,
    H2Upgrade, HashAlgorithm, HashCookie, HashKey, HttpKeepalive, HttpPool, LoadBalancer, LocalityLb,
    OutlierDetection, PortTrafficPolicy, ProxyProtocol, RetryBudget, SimpleLb, Subset, TcpKeepalive, TcpPool,
    TrafficPolicy, Tunnel, TunnelProtocol, Warmup, ZoneAwareLb,
};
pub use endpoint_slice::{AddressType, EndpointPort, EndpointSlice, SERVICE_NAME_LABEL, SliceEndpoint};
pub use endpoints::{EndpointSubset, Endpoints};
pub use files::Files;
pub use finding::{Clause, Finding, Place, Problem, Rule, Severity};
pub use gateway::{
    Gateway, HostNamespace, Protocol, Server, ServerHost, ServerPort, ServerTls, TlsCertificate, TlsMode,
    TlsVersion,
};
pub use kind::Kind;
pub use mesh_config::{
    AccessLogEncoding, AccessLogFormat, ClientCertDetails, ConnectionLimit, ConnectionSettings,
    DefaultExportTo, DefaultTrafficPolicy, EscapedSlashes, ForwardClientCertDetails, InboundTrafficPolicy,
    MeshConfig, MeshDefaults, MeshReading, MeshTls, OutboundTrafficPolicy, PathNormalization, Profile,
    ProxyConfig, ProxyHeaders, ServerHeader, Underscores,
};
pub use meta::{Labels, Meta, Object, ResourceId, Timestamp};
pub use path::Path;
pub use peer_authentication::{MutualTlsMode, PeerAuthentication};
pub use pod::{ContainerPort, Controller, Pod, locality};
pub use policy_scope::{PolicyScope, TargetRef};
pub use read::{Document, ReadDefaults, Resource, read};
pub use request_authentication::{ClaimToHeader, JwtHeader, JwtRule, RequestAuthentication};
pub use secret::{Secret, SecretBytes};
pub use service::{IpProtocol, Service, ServicePort, TargetPort};
pub use service_entry::{Location, Resolution, ServiceEntry, ServiceEntryPort};
pub use set::{Refused, ResourceSet};
pub use sidecar::{
    CaptureMode, EgressHost, EgressListener, EgressNamespace, IngressEndpoint, IngressListener, Sidecar,
    SidecarOutbound, SidecarPort,
};
pub use suggest::{did_you_mean, nearest};
pub use telemetry::{
    AccessLogger, AccessLogging, CustomTag, MetricMatch, MetricOverride, Metrics, ProviderName, TagOverride,
    Telemetry, Tracing, WorkloadMode,
};
pub use unix_socket::unix_path;
pub use virtual_service::{
    CorsPolicy, Delegate, Destination, DirectResponse, Fault, FaultAbort, FaultDelay, GRPC_STATUS,
    GatewayRef, HeaderOperations, Headers, HttpMatch, HttpRoute, L4Match, Mirror, Percent, RETRY_ON,
    Redirect, RegexRewrite, Retries, Rewrite, RouteDestination, StringMatch, TcpRoute, TlsMatch, TlsRoute,
    UnmatchedPreflights, VirtualService,
};
pub use workload_entry::{WorkloadAddress, WorkloadEntry};
