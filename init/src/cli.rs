//! The command line: which command, with which settings.

use std::collections::BTreeMap;
use std::ffi::OsString;

use rules::flags::{FLAGS, Flag, FlagKind, RawSettings};
use rules::invalid::{Origin, Problem};
use rules::lint;
use rules::settings::{Options, Settings};

use crate::explain;
use crate::failure::Failure;
use crate::{log, watch};

mod help;

/// What to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Command {
    /// Put the rules into the kernel.
    Install,
    /// Print them.
    DryRun,
    /// Take them out of the kernel.
    Cleanup,
    /// Compare them with the kernel's.
    Check,
    /// Walk a packet through them.
    Explain,
    /// Prove with real connections that interception works.
    Validate,
    /// Stay, and repair or report differences.
    Watch,
    /// Print how to use the program.
    Help,
    /// Print its version.
    Version,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Output {
    /// For people, or for iptables-restore.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// A command line, read.
#[derive(Debug)]
pub(crate) struct Invocation {
    /// What to do.
    pub(crate) command: Command,
    /// What to capture.
    pub(crate) settings: Settings,
    /// How to go about it.
    pub(crate) options: Options,
    /// How results are printed.
    pub(crate) output: Output,
    /// The packet to walk, for [`Command::Explain`].
    pub(crate) packet: Option<explain::flags::Request>,
    /// How to watch, for [`Command::Watch`].
    pub(crate) watch: watch::Settings,
    /// Settings that do not do what their author meant.
    pub(crate) warnings: Vec<String>,
    /// Where logs go.
    pub(crate) log: log::Settings,
}

/// The text `--help` prints.
pub(crate) fn help() -> String {
    // The table begins with what to capture, and ends with what has no flag.
    let place = |first: &Flag| FLAGS.iter().position(|flag| *flag == first).unwrap_or_default();
    let (capture, rest) = FLAGS.split_at(place(&rules::flags::DRY_RUN));
    let (way, variables) = rest.split_at(place(&rules::flags::LOOPBACK_CIDR).saturating_sub(capture.len()));
    help::text(&[
        ("Flags: what to capture", capture),
        ("Flags: how to go about it", way),
        ("Flags of explain: the packet, and whose rules", explain::flags::FLAGS),
        ("Flags of watch", watch::FLAGS),
        ("Flags of every command", &OURS),
        ("Variables without a flag", variables),
    ])
}

/// The arguments as text.
pub(crate) fn arguments(arguments: impl Iterator<Item = OsString>) -> Result<Vec<String>, Failure> {
    let text = |argument: OsString| {
        argument.into_string().map_err(|bytes| {
            Failure::Usage(vec![format!("unreadable argument `{}`: expected UTF-8", bytes.to_string_lossy())])
        })
    };
    arguments.map(text).collect()
}

/// Reads a command line, without the program's name.
pub(crate) fn parse(
    arguments: &[String],
    environment: &BTreeMap<String, String>,
) -> Result<Invocation, Failure> {
    let (named, arguments) = command(arguments)?;
    let (raw, mut problems) = RawSettings::scan(arguments, environment, &flags(named));
    let asked = [(&HELP, Command::Help), (&VERSION, Command::Version)];
    let asked = asked.into_iter().find(|(flag, _)| raw.has(flag)).map(|(_, command)| command);
    let log = log::Settings::read(&raw, &mut problems);
    let output = output(&raw, &mut problems);
    let packet =
        if named == Command::Explain && asked.is_none() { packet(&raw, &mut problems) } else { None };
    let watch = watch::Settings::read(&raw, &mut problems);
    let read = Settings::read(&raw);
    let (settings, options) = match (read, problems.is_empty()) {
        (Ok(read), true) => read,
        // Whoever asks for help gets it, whatever else stands on the line.
        (Ok(read), false) if asked.is_some() => read,
        (Ok(_), false) => return Err(problems.into()),
        (Err(more), _) => {
            problems.extend(more);
            return Err(problems.into());
        }
    };
    let command = asked.unwrap_or_else(|| variant(named, &options));
    let warnings = lint::settings(&settings, &raw);
    Ok(Invocation { command, settings, options, output, packet, watch, warnings, log })
}

/// The command named first, and the arguments behind it. `istio-iptables` is what Istio's injector calls installing.
fn command(arguments: &[String]) -> Result<(Command, &[String]), Failure> {
    let Some((first, rest)) = arguments.split_first() else { return Ok((Command::Install, arguments)) };
    match first.as_str() {
        "istio-iptables" => Ok((Command::Install, rest)),
        "check" => Ok((Command::Check, rest)),
        "explain" => Ok((Command::Explain, rest)),
        "validate" => Ok((Command::Validate, rest)),
        "watch" => Ok((Command::Watch, rest)),
        "help" => Ok((Command::Help, rest)),
        flag if flag.starts_with('-') => Ok((Command::Install, arguments)),
        other => Err(Failure::Usage(vec![format!(
            "unknown command `{}`: expected `istio-iptables`, `check`, `explain`, `validate`, `watch`, or flags alone to install",
            other.escape_debug()
        )])),
    }
}

fn variant(named: Command, options: &Options) -> Command {
    match named {
        Command::Install if options.dry_run => Command::DryRun,
        Command::Install if options.cleanup => Command::Cleanup,
        other => other,
    }
}

fn packet(raw: &RawSettings, problems: &mut Vec<Problem>) -> Option<explain::flags::Request> {
    match explain::flags::Request::read(raw) {
        Ok(request) => Some(request),
        Err(more) => {
            problems.extend(more);
            None
        }
    }
}

fn output(raw: &RawSettings, problems: &mut Vec<Problem>) -> Output {
    let Some(given) = raw.of(&OUTPUT) else { return Output::Text };
    match given.text.as_str() {
        "text" => Output::Text,
        "json" => Output::Json,
        other => {
            let invalid = rules::invalid::Invalid::new("output format", other, "`text` or `json`");
            problems.push(Problem::Invalid { origin: Origin::Flag(OUTPUT.long), invalid });
            Output::Text
        }
    }
}

/// The flags of a command.
fn flags(command: Command) -> Vec<&'static Flag> {
    let more = match command {
        Command::Explain => explain::flags::FLAGS,
        Command::Watch => watch::FLAGS,
        _ => &[],
    };
    FLAGS.iter().chain(more).chain(&OURS).copied().collect()
}

static OURS: [&Flag; 5] = [&OUTPUT, &log::LEVEL, &log::FORMAT, &HELP, &VERSION];

const PLAIN: Flag =
    Flag { long: "", short: None, variables: &[], kind: FlagKind::Switch, default: "", help: "" };

/// `-o` is also the letter of the outbound ports to leave alone; `text` and `json` are no ports.
static OUTPUT: Flag = Flag {
    long: "output",
    short: Some('o'),
    kind: FlagKind::Word(&["text", "json"]),
    default: "text",
    help: "how results are printed",
    ..PLAIN
};

static HELP: Flag = Flag { long: "help", short: Some('h'), help: "print this text", ..PLAIN };
static VERSION: Flag = Flag { long: "version", short: Some('V'), help: "print the version", ..PLAIN };

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<Invocation, Failure> {
        let arguments: Vec<_> = arguments.iter().map(|text| (*text).to_owned()).collect();
        parse(&arguments, &BTreeMap::new())
    }

    fn command_of(arguments: &[&str]) -> Command {
        read(arguments).unwrap().command
    }

    #[test]
    fn flags_alone_install() {
        assert_eq!(command_of(&[]), Command::Install);
        assert_eq!(command_of(&["-p", "15001"]), Command::Install);
        assert_eq!(command_of(&["istio-iptables", "-p", "15001"]), Command::Install);
    }

    #[test]
    fn flags_choose_the_variant_of_install() {
        assert_eq!(command_of(&["--dry-run"]), Command::DryRun);
        assert_eq!(command_of(&["istio-iptables", "--cleanup"]), Command::Cleanup);
        assert_eq!(command_of(&["--cleanup-only=true"]), Command::Cleanup);
        assert_eq!(command_of(&["check", "--dry-run"]), Command::Check);
    }

    #[test]
    fn an_unknown_command_is_wrong_usage() {
        let Err(Failure::Usage(lines)) = read(&["frobnicate"]) else { panic!("not refused") };
        assert!(lines[0].contains("unknown command `frobnicate`"), "{lines:?}");
    }

    #[test]
    fn the_letter_o_means_ports_unless_it_names_a_format() {
        let invocation = read(&["-o", "3306", "-o", "json"]).unwrap();
        assert_eq!(invocation.output, Output::Json);
        assert_eq!(invocation.settings.outbound_exclude_ports[0].to_string(), "3306");
        assert!(matches!(read(&["-o", "yaml"]), Err(Failure::Usage(_))));
        assert!(matches!(read(&["--output", "yaml"]), Err(Failure::Usage(_))));
    }

    #[test]
    fn help_is_given_whatever_else_stands_there() {
        assert_eq!(command_of(&["--help", "--nope"]), Command::Help);
        assert_eq!(command_of(&["-V"]), Command::Version);
    }

    #[test]
    fn problems_of_all_kinds_come_together() {
        let Err(Failure::Usage(lines)) = read(&["--nope", "-p", "0", "--log-format", "xml"]) else {
            panic!("not refused")
        };
        assert_eq!(lines.len(), 3, "{lines:?}");
    }

    #[test]
    fn help_names_every_flag() {
        let text = help();
        for flag in flags(Command::Explain).iter().filter(|flag| flag.kind != FlagKind::Ignored) {
            assert!(text.contains(&flag.name()), "{}", flag.name());
        }
        assert!(text.contains("-p, --envoy-port PORT"));
    }
}
