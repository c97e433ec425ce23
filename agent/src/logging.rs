//! Log lines on stderr, as text or JSON.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::{EnvFilter, fmt};

use crate::cli::{LogFormat, LogOptions};

/// Starts logging. `RUST_LOG` sets the levels unless `--log-level` is given; colours only on a terminal, and not with
/// `NO_COLOR` set to anything.
pub(crate) fn init(options: &LogOptions) {
    let filter = match &options.log_level {
        Some(level) => EnvFilter::new(level.as_str()),
        None => EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")),
    };
    let coloured =
        stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let log = fmt().with_env_filter(filter).with_writer(stderr).with_target(false).with_ansi(coloured);
    match options.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}
