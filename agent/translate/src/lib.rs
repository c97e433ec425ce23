//! Resources to snapshot and findings, as a pure function.
#![forbid(unsafe_code)]
