//! Where logs go: standard error, as text or JSON lines.

use std::io::IsTerminal;

use rules::flags::{self, Flag, FlagKind, RawSetting, RawSettings};
use rules::invalid::{Invalid, Origin, Problem};
use rules::settings::switch;
use tracing_subscriber::EnvFilter;

/// How much is logged, and how.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Settings {
    level: String,
    json: bool,
}

/// `--log-level`.
pub(crate) static LEVEL: Flag = Flag {
    long: "log-level",
    short: None,
    variables: &["RUST_LOG"],
    kind: FlagKind::Value("LEVEL"),
    default: "info",
    help: "how much is logged: error, warn, info, debug, trace",
};

/// `--log-format`.
pub(crate) static FORMAT: Flag = Flag {
    long: "log-format",
    short: None,
    variables: &[],
    kind: FlagKind::Value("FORMAT"),
    default: "text",
    help: "how it is logged: text or json",
};

impl Settings {
    /// Reads both flags, and Istio's `--log_as_json`.
    pub(crate) fn read(raw: &RawSettings, problems: &mut Vec<Problem>) -> Self {
        let mut refuse = |flag: &Flag, what, expected| {
            if let Some(given) = raw.of(flag) {
                let invalid = Invalid::new(what, &given.text, expected);
                problems.push(Problem::Invalid { origin: given.origin.clone(), invalid });
            }
        };
        // RUST_LOG may be meant for other programs as well, and name their parts; a flag is meant for us.
        let by_flag = matches!(raw.of(&LEVEL), Some(RawSetting { origin: Origin::Flag(_), .. }));
        let is_filter = |text: &str| if by_flag { is_level(text) } else { EnvFilter::try_new(text).is_ok() };
        let text = |flag: &Flag| raw.of(flag).map_or(flag.default, |given| &given.text).to_owned();
        let level = text(&LEVEL);
        if !is_filter(&level) {
            refuse(&LEVEL, "log level", "error, warn, info, debug or trace");
        }
        let format = text(&FORMAT);
        if !["text", "json"].contains(&format.as_str()) {
            refuse(&FORMAT, "log format", "`text` or `json`");
        }
        let as_json = raw.of(&flags::LOG_AS_JSON).is_some_and(|given| switch(&given.text) == Ok(true));
        Self { level, json: format == "json" || as_json }
    }

    /// Starts logging. A second start changes nothing.
    pub(crate) fn start(&self) {
        let stderr = std::io::stderr;
        let colours =
            stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let logs = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(&self.level))
            .with_writer(stderr)
            // It would be told on standard error as well, and end the process.
            .log_internal_errors(false)
            .with_target(false);
        let started = if self.json { logs.json().try_init() } else { logs.with_ansi(colours).try_init() };
        if let Err(error) = started {
            tracing::debug!(%error, "logging had been started before");
        }
    }
}

/// A level, or directives such as `info,postern_init=debug`. A single word that is no level would name a part of the
/// program, and silence everything else.
fn is_level(text: &str) -> bool {
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    levels.contains(&text) || (text.contains('=') && EnvFilter::try_new(text).is_ok())
}
