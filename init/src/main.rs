//! Installs, checks, explains and removes the interception rules of a pod.
#![forbid(unsafe_code)]

fn main() {}
