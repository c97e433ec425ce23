//! Translation of whole configurations, shown on the scenarios of `golden/`.
#![expect(clippy::unwrap_used, reason = "a scenario that cannot be read should stop")]

mod again;
mod bad_input;
mod cluster_text;
mod golden;
mod istio_dumps;
mod kept_tls;
mod last_good;
mod missing_names;
mod names;
mod order;
mod review;
mod robust;
mod route_text;
mod support;
