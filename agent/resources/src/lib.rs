//! Istio and Kubernetes resources as users write them, with the place each came from.
#![forbid(unsafe_code)]
