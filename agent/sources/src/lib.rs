//! Where resources come from: watched directories.
#![forbid(unsafe_code)]
