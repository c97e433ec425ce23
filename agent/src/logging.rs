//! Log lines on stderr, as text or JSON.

use std::io::{self, IsTerminal, Write, stderr};

use tracing_subscriber::{EnvFilter, filter::LevelFilter, fmt};

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
    // A lone word that is no level would be taken for the name of a module, and nothing would be logged.
    let is_directive = |part: &str| part.contains('=') || part.trim().parse::<LevelFilter>().is_ok();
    if let Some(wrong) = levels.split(',').find(|part| !is_directive(part)) {
        return Err(format!(
            "invalid log level `{wrong}` in {origin}: expected error, warn, info, debug or trace, or `module=level`"
        ));
    }
    let filter = EnvFilter::try_new(&levels).map_err(|error| {
        format!("invalid `{levels}` in {origin}: {error}; expected a level such as `debug`, or a list such as `info,dataplane=debug`")
    })?;
    let coloured =
        stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let log = fmt().with_env_filter(filter).with_writer(|| Lenient).with_target(false).with_ansi(coloured);
    match options.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

/// Standard error, for as long as anybody reads it: a log nobody takes must not end the proxy.
struct Lenient;

impl Write for Lenient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        _ = stderr().write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
