//! A whole data plane on loopback, with fake upstreams and clients that speak raw bytes.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod access_logging;
mod actions;
mod captured;
mod changes;
mod client_cert;
mod clients;
mod clusters;
mod dns;
mod dynamic_names;
mod envoy;
mod floods;
mod grpc_calls;
mod grpc_web;
mod handshakes;
mod heads;
mod hostile_endpoints;
mod http1;
mod http2;
mod http2_upstream;
mod log_connections;
mod mesh;
mod mirrors;
mod mutual;
mod origination;
mod outliers;
mod overload;
mod proxy_headers;
mod retries;
mod slow_clients;
mod sni;
mod strict;
mod support;
mod tls;
mod tunnel;
mod unread_answers;
