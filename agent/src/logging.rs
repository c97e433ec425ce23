//! Log lines on stderr, as text or JSON.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::{EnvFilter, fmt};

use crate::cli::{LogFormat, LogOptions};

/// Starts logging. `RUST_LOG` sets the levels unless `--log-level` is given; colours only on a terminal, and not with
/// `NO_COLOR` set to anything.
///
/// # Errors
/// The levels cannot be understood: a whole sentence for the user.
pub(crate) fn init(options: &LogOptions) -> Result<(), String> {
    let (origin, levels) = match (&options.log_level, std::env::var("RUST_LOG")) {
        (Some(level), _) => ("--log-level", level.clone()),
        (None, Ok(level)) if !level.is_empty() => ("RUST_LOG", level),
        (None, _) => ("default", "info".to_owned()),
    };
    let filter = EnvFilter::try_new(&levels).map_err(|error| {
        format!("invalid `{levels}` in {origin}: {error}; expected a level such as `debug`, or a list such as `info,dataplane=debug`")
    })?;
    let coloured =
        stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let log = fmt().with_env_filter(filter).with_writer(stderr).with_target(false).with_ansi(coloured);
    match options.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}
