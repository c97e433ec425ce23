//! What the data plane needs to know, and the pure look-ups over it.
//!
//! A [`Snapshot`] is made whole by translation, published whole, and never changed: the data plane reads it, the
//! admin interface dumps it, `explain` walks it. Nothing here opens a socket, reads a clock or draws a number; where
//! a look-up needs either, it is an argument.
#![forbid(unsafe_code)]

mod access_logging;
mod address;
mod chain_index;
mod cluster;
mod dump;
mod elsewhere;
mod explain;
mod filter_chain;
mod format;
mod hosts;
mod http_settings;
mod listener;
mod live;
mod metrics;
mod names;
mod own_ports;
mod path;
mod peer_authentication;
mod request;
mod route;
mod snapshot;
mod tls;
mod workload;

pub use access_logging::{AccessLogging, LogFacts, LogFilter, LogFilterError, Logged};
pub use address::{Address, UnixPath};
pub use cluster::{
    Cluster, Connections, Discovery, Dns, DnsName, DnsResolution, DynamicDns, Endpoint, EndpointGroup,
    EndpointLevel, EndpointPlan, HashFunction, HashKey, HashPolicy, Http2KeepAlive, Keepalive, Limits,
    LoadBalancer, Locality, LocalityEndpoints, OutlierDetection, PolicyLevel, PolicySource, PolicySources,
    ProxyProtocol, RetryBudget, ServiceName, SlowStart, SourceAddresses, Tunnel, TunnelMethod,
    UpstreamProtocol,
};
pub use dump::{DumpVersion, address as address_json, cluster_lines, cluster_statuses, config_dump};
pub use elsewhere::Elsewhere;
pub use explain::{
    Entry, Explanation, ForeignGateway, HiddenServices, Question, Rejected, Spoken, Step, UnservedRules,
    explain,
};
pub use filter_chain::{
    Application, ConnectionFacts, FilterChain, FilterChainMatch, ForwardClientCert, HttpConnections,
    Inspection, NetworkFilter, TcpProxy, Transport,
};
pub use format::{
    CertificatePart, Format, FormatError, GrpcStatusForm, Holder, Moment, Operator, Piece, Span,
};
pub use hosts::{HostName, HostPattern, HostTable, ParseHostPatternError, split_port};
pub use http_settings::{
    ClientCertDetails, ClientLimits, HttpSettings, HttpSettingsId, ProxyHeaders, ServerHeader, Underscores,
};
pub use listener::{Binding, Direction, Listener};
pub use live::{EndpointCounts, LiveCluster, LiveClusters, LiveEndpoint};
pub use metrics::{LabelRule, Metric, MetricRule, MetricRules, SideRules};
pub use names::NameTable;
pub use own_ports::OwnPorts;
pub use path::{EscapedSlashes, InvalidPath, Normalized, PathNormalization, normalize_path};
pub use peer_authentication::{PeerAuthentication, PeerMode, PeerRule};
pub use request::{RequestHead, is_grpc};
pub use route::{
    AbortStatus, CameBy, ClusterTarget, CorsPolicy, CorsVerdict, Edits, Fault, Forward, HeaderEdits,
    HeaderMatch, HttpsPorts, Mirror, Mismatch, NoRoute, PathMatch, PathRewrite, PathText, Pattern,
    QueryMatch, Redirect, RedirectPort, RequestOverrides, RetryCondition, RetryOn, RetryPolicy, Rewrite,
    Route, RouteAction, RouteConfig, RouteList, RouteMatch, SearchPattern, Share, TextMatch, TimeLimit,
    TimeLimitOf, VirtualHost, WeightedClusters, after_envoy_prefix, match_route,
};
pub use snapshot::{ClusterId, Draft, ListenerId, RouteConfigId, Snapshot};
pub use tls::{
    AlternativeName, Authority, Certificate, CertificateFacts, CipherSuite, ClientCertificates, Credential,
    CrlBundle, KeyExchange, NameMatch, PeerRules, SecretEntry, SecretKind, ServerCheck, ServerNameSource,
    Speaks, TlsContext, TlsContextId, TlsParameters, TlsVersion, TrustBundle, UpstreamTls, UpstreamTlsUse,
    Validity, Within, X509Error,
};
pub use workload::{KnownWorkload, Workload, Workloads};
