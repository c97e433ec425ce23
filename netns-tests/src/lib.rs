//! Throw-away pods in network namespaces, and the scenarios that need a real kernel.
#![forbid(unsafe_code)]
