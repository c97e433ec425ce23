//! What traffic to capture, as data: interception settings to netfilter rules, without touching the kernel.
//!
//! The way through: [`flags`] scans the command line and environment into text, [`settings`] makes types of it,
//! [`build`] makes a rule program of those, [`render`] makes restore documents of that. On the way back, [`parse`] reads
//! what iptables says the kernel holds, and [`legacy`] what legacy tables hold without it, [`diff`] compares, and [`transaction`] writes the document that makes one into the other.
//! [`simulate`] walks a packet through either, so that what is explained is what is installed; [`nft`] renders the same
//! program without iptables, and [`lint`] tells what reads well and does something else.
#![forbid(unsafe_code)]

pub mod build;
mod bytes;
pub mod diff;
mod extension;
pub mod flags;
pub mod invalid;
pub mod legacy;
pub mod lint;
pub mod nft;
pub mod packet;
pub mod parse;
pub mod ports;
pub mod program;
pub mod purpose;
pub mod render;
pub mod ruleset;
pub mod settings;
pub mod simulate;
pub mod transaction;
mod transition;
