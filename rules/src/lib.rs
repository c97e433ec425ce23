//! What traffic to capture, as data: interception settings to netfilter rules, without touching the kernel.
#![forbid(unsafe_code)]
