//! Supervises and runs the proxy: sidecar and gateway.
#![forbid(unsafe_code)]

fn main() {}
