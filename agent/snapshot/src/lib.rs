//! What the data plane needs to know, and the pure look-ups over it.
#![forbid(unsafe_code)]
