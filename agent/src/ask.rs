//! `postern-agent request` and `postern-agent wait`: short calls to the agent beside us.

use std::{
    io::{Write, stdout},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use clap::Args;
use http::{Method, StatusCode};

use crate::{
    admin_client::{self, Interface},
    cli,
};

#[derive(Args, Debug)]
pub(crate) struct RequestArgs {
    /// GET or POST.
    #[arg(value_parser = ["GET", "POST"], ignore_case = true)]
    method: String,
    /// Path of the admin interface, such as `/ready` or `/config_dump`.
    path: String,
    /// Admin interface of the agent.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:15000")]
    admin: String,
}

#[derive(Args, Debug)]
pub(crate) struct WaitArgs {
    /// How long to wait before giving up.
    #[arg(long, value_name = "DURATION", value_parser = cli::duration, default_value = "60s")]
    timeout: Duration,
    /// Readiness interface of the agent.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:15021")]
    status: String,
}

/// Prints what the admin interface answers.
///
/// # Errors
/// Nobody answers, or with another status than 200.
pub(crate) fn request(args: &RequestArgs) -> anyhow::Result<()> {
    let method = if args.method.eq_ignore_ascii_case("POST") { Method::POST } else { Method::GET };
    let path = if args.path.starts_with('/') { args.path.clone() } else { format!("/{}", args.path) };
    let (status, body) = admin_client::call(Interface::admin(&args.admin), method, &path, String::new())?;
    stdout().lock().write_all(&body).context("cannot write to stdout")?;
    if status != StatusCode::OK {
        bail!("{} answered {path} with {status}", args.admin);
    }
    Ok(())
}

/// Returns when the proxy is ready, for postStart hooks: the application then starts behind a proxy that serves.
///
/// # Errors
/// The time is over.
pub(crate) fn wait(args: &WaitArgs) -> anyhow::Result<()> {
    let end = Instant::now() + args.timeout;
    loop {
        let Err(error) = admin_client::get(Interface::readiness(&args.status), "/healthz/ready") else {
            return Ok(());
        };
        if Instant::now() + PAUSE > end {
            return Err(error).with_context(|| format!("the proxy was not ready within {:?}", args.timeout));
        }
        sleep(PAUSE);
    }
}

const PAUSE: Duration = Duration::from_millis(100);
