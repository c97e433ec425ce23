//! What VirtualServices promise, as clients and endpoints see it.

mod actions;
mod budgets;
mod connections;
mod counts;
mod delegates;
mod destinations;
mod faults;
mod fields;
mod headers;
mod latecomers;
mod matching;
mod mirrors;
mod origins;
mod repeats;
mod retries;
mod sidecars;
mod tries;
mod upgrades;
mod world;
