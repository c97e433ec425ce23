//! `/logging`: what is logged, in Envoy's forms.

use std::fmt::Write;

use http::StatusCode;

use super::query::Query;
use crate::{
    interface::{Answer, text},
    logging,
};

/// Parts of this program whose levels can be set by themselves.
const LOGGERS: [&str; 5] = ["dataplane", "h2", "postern_agent", "resources", "rustls"];

/// Changes what is logged while the proxy runs, if that is asked for, and tells what is logged.
pub(super) fn answer(query: &Query) -> Answer {
    let changed = match query.pairs() {
        [] => Ok(()),
        [(name, value)] => change(name, value),
        _ => Err("invalid number of parameters".to_owned()),
    };
    match changed {
        Ok(()) => text(StatusCode::OK, active(&logging::levels())),
        Err(wrong) => {
            let told = format!("error: {wrong}\n\n{USAGE}{}", active(&logging::levels()));
            text(StatusCode::BAD_REQUEST, told)
        }
    }
}

const USAGE: &str = "usage: /logging?<name>=<level> (change single level)\n\
    usage: /logging?paths=name1:level1,name2:level2,... (change multiple levels)\n\
    usage: /logging?level=<level> (change all levels; a list such as info,dataplane=debug works, too)\n\
    levels: trace debug info warning error critical off\n";

fn change(name: &str, value: &str) -> Result<(), String> {
    let changes = match name {
        "level" => return logging::set_levels(&of_all(value)),
        "paths" => value.split(',').map(|pair| pair.split_once(':').unwrap_or((pair, ""))).collect(),
        name => vec![(name, value)],
    };
    let mut levels = logging::levels();
    for (name, level) in changes {
        if !LOGGERS.contains(&name) {
            return Err("unknown logger name".to_owned());
        }
        if !LEVELS.iter().any(|(envoys, own)| [*envoys, *own].contains(&level)) {
            return Err("unknown logger level".to_owned());
        }
        levels = with(&levels, name, ours(level));
    }
    logging::set_levels(&levels)
}

/// What `level=` means: a lone level is that of every part, of those too that have another without it.
fn of_all(value: &str) -> String {
    if value.contains([',', '=']) {
        return value.split(',').map(ours).collect::<Vec<_>>().join(",");
    }
    let level = ours(value);
    format!("{level},h2={level}")
}

/// Envoy's words for levels, and ours.
const LEVELS: [(&str, &str); 7] = [
    ("trace", "trace"),
    ("debug", "debug"),
    ("info", "info"),
    ("warning", "warn"),
    ("error", "error"),
    ("critical", "error"),
    ("off", "off"),
];

fn ours(level: &str) -> &str {
    LEVELS.iter().find(|(envoys, _)| *envoys == level).map_or(level, |(_, own)| own)
}

/// The levels with that of one logger changed.
fn with(levels: &str, name: &str, level: &str) -> String {
    let is_other = |part: &&str| part.split_once('=').is_none_or(|(known, _)| known != name);
    let others = levels.split(',').filter(is_other).map(str::to_owned);
    others.chain([format!("{name}={level}")]).collect::<Vec<_>>().join(",")
}

fn active(levels: &str) -> String {
    let all = levels.split(',').rfind(|part| !part.contains('=')).unwrap_or("error");
    let mut out = "active loggers:\n".to_owned();
    for name in LOGGERS {
        let own =
            levels.split(',').filter_map(|part| part.split_once('=')).rfind(|(known, _)| *known == name);
        let level = own.map_or(all, |(_, level)| level);
        let envoys = LEVELS.iter().find(|(_, own)| *own == level).map_or(level, |(envoys, _)| envoys);
        // Writing into memory cannot fail.
        _ = writeln!(out, "  {name}: {envoys}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_level_is_that_of_every_part() {
        assert_eq!(of_all("warning,dataplane=debug"), "warn,dataplane=debug");
        let told = active(&of_all("warning"));
        assert!(LOGGERS.iter().all(|name| told.contains(&format!("  {name}: warning\n"))), "{told}");
    }

    #[test]
    fn levels_of_one_logger_change_and_are_told() {
        let levels = with(&with("info,dataplane=debug", "dataplane", "trace"), "h2", "warn");
        assert_eq!(levels, "info,dataplane=trace,h2=warn");
        let told = "active loggers:\n  dataplane: trace\n  h2: warning\n  postern_agent: info\n  resources: info\n  \
                    rustls: info\n";
        assert_eq!(active(&levels), told);
    }
}
