//! The program as a gateway between clients and endpoints: what Services, ServiceEntries and DestinationRules promise
//! of clusters, from the YAML to the bytes.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod balance;
mod gateway;
mod limits;
mod opaque;
mod outliers;
mod peers;
#[path = "../ports/mod.rs"]
mod ports;
mod protocols;
mod services;
mod time;
