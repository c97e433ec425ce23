//! Supervises and runs the proxy: sidecar and gateway.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage. They are decided here and nowhere else.
#![forbid(unsafe_code)]

mod admin;
mod bootstrap;
mod cli;
mod logging;
mod options;
mod status;

use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    logging::init(&cli.log);
    let Command::Proxy { role } = cli.command;
    let options = match options::ProxyOptions::resolve(role) {
        Ok(options) => options,
        Err(wrong) => {
            tracing::error!("{wrong}");
            return ExitCode::from(WRONG_USAGE);
        }
    };
    match bootstrap::run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

const WRONG_USAGE: u8 = 2;
