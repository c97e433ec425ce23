//! Log lines on stderr, as text or JSON.

use std::{
    io::{self, IsTerminal, Write, stderr},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    },
    time::{Duration, Instant},
};

use tracing_subscriber::{
    EnvFilter, Registry, filter::LevelFilter, fmt, layer::SubscriberExt, reload, util::SubscriberInitExt,
};

use crate::cli::{LogFormat, LogOptions};

use crate::bounds;

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
    remember(&in_force(&levels));
    // Set once, by the one program there is.
    _ = FILTER.set(handle);
    let coloured =
        stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let log = fmt::layer()
        .log_internal_errors(false)
        .with_writer(|| Lenient)
        .with_target(false)
        .with_ansi(coloured);
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
    handle.reload(filter).map_err(|error| error.to_string())?;
    remember(&in_force(levels));
    Ok(())
}

/// The levels in force.
pub(crate) fn levels() -> String {
    LEVELS.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn remember(levels: &str) {
    *LEVELS.lock().unwrap_or_else(PoisonError::into_inner) = levels.to_owned();
}

static LEVELS: Mutex<String> = Mutex::new(String::new());

static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// The levels that hold where these are written.
fn in_force(written: &str) -> String {
    let mut parts: Vec<_> = written.split(',').map(str::trim).collect();
    // Clients that break HTTP/2 are told of in the access log; its crate warns of each, as often as clients like.
    if !parts.iter().any(|part| part.starts_with("h2=")) {
        parts.push("h2=error");
    }
    parts.join(",")
}

fn parse(levels: &str, origin: &str) -> Result<EnvFilter, String> {
    // A lone word that is no level would be taken for the name of a module, and nothing would be logged.
    let is_directive = |part: &str| part.contains('=') || part.trim().parse::<LevelFilter>().is_ok();
    if let Some(wrong) = levels.split(',').find(|part| !is_directive(part)) {
        return Err(format!(
            "invalid log level `{wrong}` in {origin}: expected error, warn, info, debug or trace, or `module=level`"
        ));
    }
    EnvFilter::try_new(in_force(levels)).map_err(|error| {
        format!("invalid `{levels}` in {origin}: {error}; expected a level such as `debug`, or a list such as `info,dataplane=debug`")
    })
}

/// From now on a thread of its own writes the lines, so that nobody who logs waits for whoever reads them: a worker
/// that waited would serve nobody.
///
/// # Errors
/// The thread cannot be started.
pub(crate) fn write_behind() -> io::Result<()> {
    // Set once, by the one proxy there is.
    _ = BEHIND.set(Behind::start(stderr())?);
    Ok(())
}

/// Waits until what was logged so far is written, for a second at most.
pub(crate) fn finish() {
    _ = BEHIND.get().map(Behind::finish);
}

static BEHIND: OnceLock<Behind> = OnceLock::new();

/// Lines on their way to a thread that writes them.
struct Behind {
    queue: SyncSender<Line>,
    lost: Arc<AtomicU64>,
}

enum Line {
    Text(Box<[u8]>),
    /// Says that everything before it is written.
    Last(Sender<()>),
}

const LAST_WRITE: Duration = Duration::from_secs(1);

impl Behind {
    fn start(output: impl Write + Send + 'static) -> io::Result<Self> {
        let (queue, lines) = sync_channel(bounds::LOG_LINES);
        let lost = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&lost);
        let write = move || write_lines(lines, output, &counted);
        std::thread::Builder::new().name("log".to_owned()).spawn(write)?;
        Ok(Self { queue, lost })
    }

    fn push(&self, text: &[u8]) {
        if self.queue.try_send(Line::Text(text.into())).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn finish(&self) {
        let end = Instant::now() + LAST_WRITE;
        let (done, written) = channel();
        while self.queue.try_send(Line::Last(done.clone())).is_err() {
            if Instant::now() > end {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        _ = written.recv_timeout(end.saturating_duration_since(Instant::now()));
    }
}

fn write_lines(lines: Receiver<Line>, mut output: impl Write, lost: &AtomicU64) {
    for line in lines {
        match line {
            // A log that nobody takes must not end the proxy.
            Line::Text(text) => _ = output.write_all(&text),
            Line::Last(done) => _ = done.send(()),
        }
        let lost = lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            tracing::warn!(lost, "lines of this log are lost, because nobody read it in time");
        }
    }
}

/// Standard error, for as long as anybody reads it: a log nobody takes must not end the proxy.
struct Lenient;

impl Write for Lenient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match BEHIND.get() {
            Some(behind) => behind.push(bytes),
            None => _ = stderr().write_all(bytes),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_http2_alone_are_logged_unless_others_are_asked_for() {
        assert_eq!(in_force("debug,dataplane=trace"), "debug,dataplane=trace,h2=error");
        assert_eq!(in_force("info, h2=debug"), "info,h2=debug");
        assert_eq!(parse("info", "level").unwrap().to_string(), "h2=error,info");
    }

    /// Says when it is written to, and waits until it is let go on.
    struct Stuck(Sender<Vec<u8>>, Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            _ = self.0.send(bytes.to_vec());
            _ = self.1.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_beyond_the_queue_are_lost_and_counted() {
        let (said, written) = channel();
        let (go_on, stuck) = channel();
        let behind = Behind::start(Stuck(said, stuck)).unwrap();
        behind.push(b"first");
        assert_eq!(written.recv().unwrap(), b"first");
        for _ in 0..bounds::LOG_LINES + 3 {
            behind.push(b"line");
        }
        assert_eq!(behind.lost.load(Ordering::Relaxed), 3);
        drop(go_on);
        behind.finish();
        assert_eq!(behind.lost.load(Ordering::Relaxed), 0, "it is told");
        assert_eq!(written.try_iter().count(), bounds::LOG_LINES);
    }
}
