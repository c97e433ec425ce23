//! Supervises and runs the proxy: sidecar and gateway.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage, 3 `validate` has findings. They are decided here and nowhere else.
#![forbid(unsafe_code)]

mod admin;
mod admin_client;
mod agent_port;
mod ask;
mod bootstrap;
mod bounds;
mod cli;
mod config;
mod control;
mod explain;
mod findings;
mod interface;
mod log_format;
mod logging;
mod mesh;
mod metrics;
mod name_server;
mod offline;
mod options;
mod overload;
mod probes;
mod proxy_config;
mod readiness;
mod status;
mod validate;

use std::{
    io::{self, Write, stderr},
    process::ExitCode,
};

use cli::{Cli, Command, Role};
use options::ProxyOptions;

fn main() -> ExitCode {
    match Cli::read() {
        Ok(cli) => run(cli),
        Err(code) => code,
    }
}

fn run(cli: Cli) -> ExitCode {
    if let Err(wrong) = logging::init(&cli.log) {
        // There is no log to say it in.
        _ = writeln!(stderr(), "error: {wrong}");
        return ExitCode::from(WRONG_USAGE);
    }
    match cli.command {
        Command::Proxy { role } => proxy(role),
        Command::Validate(args) => match validate::run(&args) {
            Ok(false) => ExitCode::SUCCESS,
            Ok(true) => ExitCode::from(HAS_FINDINGS),
            Err(error) => failed(&error),
        },
        Command::Config(args) => done(config::run(&args)),
        Command::Explain(args) => done(explain::run(&args)),
        Command::Wait(args) => done(ask::wait(&args)),
        Command::Request(args) => done(ask::request(&args)),
    }
}

fn proxy(role: Role) -> ExitCode {
    let options = match ProxyOptions::resolve(role) {
        Ok(options) => options,
        Err(wrong) => {
            tracing::error!("{wrong}");
            return ExitCode::from(WRONG_USAGE);
        }
    };
    if let Err(error) = logging::write_behind() {
        tracing::error!(%error, "cannot start the thread that writes the log");
        return ExitCode::FAILURE;
    }
    let code = done(bootstrap::run(options));
    logging::finish();
    code
}

fn done(result: anyhow::Result<()>) -> ExitCode {
    result.map_or_else(|error| failed(&error), |()| ExitCode::SUCCESS)
}

fn failed(error: &anyhow::Error) -> ExitCode {
    // Whoever reads our output may have seen enough.
    let is_unread = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    };
    if !error.chain().any(is_unread) {
        tracing::error!("{error:#}");
    }
    ExitCode::FAILURE
}

const WRONG_USAGE: u8 = 2;
const HAS_FINDINGS: u8 = 3;
