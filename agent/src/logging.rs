//! Log lines on stderr, as text or JSON.

use std::{
    io::{self, IsTerminal, Write, stderr},
    sync::OnceLock,
};

use tracing_subscriber::{
    EnvFilter, Registry, filter::LevelFilter, fmt, layer::SubscriberExt, reload, util::SubscriberInitExt,
};

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
    let (filter, handle) = reload::Layer::new(parse(&levels, origin)?);
    // Set once, by the one program there is.
    _ = FILTER.set(handle);
    let coloured =
        stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let log = fmt::layer().with_writer(|| Lenient).with_target(false).with_ansi(coloured);
    let registry = tracing_subscriber::registry().with(filter);
    match options.log_format {
        LogFormat::Text => registry.with(log).init(),
        LogFormat::Json => registry.with(log.json()).init(),
    }
    Ok(())
}

/// Changes what is logged from now on.
///
/// # Errors
/// The levels cannot be understood: a whole sentence for the user.
pub(crate) fn set_levels(levels: &str) -> Result<(), String> {
    let filter = parse(levels, "level")?;
    let handle = FILTER.get().ok_or("nothing is logged")?;
    handle.reload(filter).map_err(|error| error.to_string())
}

static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

fn parse(levels: &str, origin: &str) -> Result<EnvFilter, String> {
    // A lone word that is no level would be taken for the name of a module, and nothing would be logged.
    let is_directive = |part: &str| part.contains('=') || part.trim().parse::<LevelFilter>().is_ok();
    if let Some(wrong) = levels.split(',').find(|part| !is_directive(part)) {
        return Err(format!(
            "invalid log level `{wrong}` in {origin}: expected error, warn, info, debug or trace, or `module=level`"
        ));
    }
    EnvFilter::try_new(levels).map_err(|error| {
        format!("invalid `{levels}` in {origin}: {error}; expected a level such as `debug`, or a list such as `info,dataplane=debug`")
    })
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
