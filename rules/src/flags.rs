//! Every flag of istio-iptables as one table, and the scanner that reads a command line against such a table.
//!
//! The parsing rules are a contract with Istio's injector: `-x VALUE`, `-xVALUE`, `--long VALUE`, `--long=VALUE`; an
//! empty argument is a value; a boolean takes its value only with `=`; the last of several wins.

use std::collections::BTreeMap;

use crate::invalid::{Origin, Problem};

pub use table::*;

mod table;

/// One flag: how it is spelled, where its default comes from, what it means.
#[derive(Debug, Eq, PartialEq)]
pub struct Flag {
    /// The long name without dashes; empty for a setting that only the environment can give.
    pub long: &'static str,
    /// The one-letter name.
    pub short: Option<char>,
    /// Environment variables that supply a default; a later one wins over an earlier one.
    pub variables: &'static [&'static str],
    /// What follows the flag.
    pub kind: FlagKind,
    /// The default, as `--help` prints it; empty for none.
    pub default: &'static str,
    /// One line for `--help`.
    pub help: &'static str,
}

/// What follows a flag.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FlagKind {
    /// A value, called this in `--help`.
    Value(&'static str),
    /// Items between commas, called this in `--help`. Unlike a value, an empty list says something.
    List(&'static str),
    /// One of these words. Such a flag may share its letter with a other flag that can never mean them.
    Word(&'static [&'static str]),
    /// Nothing, or `=true`, `=false`.
    Switch,
    /// A value; read and forgotten.
    Ignored,
}

impl Flag {
    /// The flag with its dashes, or the variable's name when there is no flag.
    pub fn name(&self) -> String {
        if self.long.is_empty() { self.key().to_owned() } else { format!("--{}", self.long) }
    }

    fn key(&self) -> &'static str {
        if self.long.is_empty() { self.variables.first().copied().unwrap_or_default() } else { self.long }
    }
}

/// The text of one setting and where it was found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RawSetting {
    /// The text, not yet read.
    pub text: String,
    /// Where it stood.
    pub origin: Origin,
}

/// What a command line and an environment say, as text.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RawSettings {
    values: BTreeMap<&'static str, RawSetting>,
}

impl RawSettings {
    /// Reads `arguments` (without the program's name) and `environment` against `flags`. Every problem is collected.
    pub fn scan(
        arguments: &[String],
        environment: &BTreeMap<String, String>,
        flags: &[&'static Flag],
    ) -> (Self, Vec<Problem>) {
        let mut raw = Self::default();
        for flag in flags {
            raw.take_variables(flag, environment);
        }
        let mut scanner = Scanner { flags, rest: arguments.iter(), raw, problems: Vec::new() };
        while let Some(argument) = scanner.rest.next() {
            scanner.argument(argument);
        }
        (scanner.raw, scanner.problems)
    }

    /// What was said about `flag`, if anything.
    pub fn of(&self, flag: &Flag) -> Option<&RawSetting> {
        self.values.get(flag.key())
    }

    /// Whether `flag` stood on the command line or in the environment.
    pub fn has(&self, flag: &Flag) -> bool {
        self.of(flag).is_some()
    }

    fn take_variables(&mut self, flag: &'static Flag, environment: &BTreeMap<String, String>) {
        let set = flag.variables.iter().filter_map(|name| Some((*name, environment.get(*name)?)));
        for (name, text) in set {
            if text.is_empty() && !matches!(flag.kind, FlagKind::List(_)) {
                continue;
            }
            self.values.insert(flag.key(), RawSetting { text: text.clone(), origin: Origin::Variable(name) });
        }
    }
}

struct Scanner<'a> {
    flags: &'a [&'static Flag],
    rest: std::slice::Iter<'a, String>,
    raw: RawSettings,
    problems: Vec<Problem>,
}

impl Scanner<'_> {
    fn argument(&mut self, argument: &str) {
        if let Some(long) = argument.strip_prefix("--").filter(|long| !long.is_empty()) {
            self.long(argument, long);
        } else if let Some(letter) = argument.strip_prefix('-').and_then(|short| short.chars().next()) {
            self.short(argument, letter);
        } else {
            self.problems.push(Problem::UnexpectedArgument(argument.to_owned()));
        }
    }

    fn long(&mut self, argument: &str, long: &str) {
        let (name, attached) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
        let found = self.flags.iter().find(|flag| !flag.long.is_empty() && flag.long == name).copied();
        let Some(flag) = found else {
            return self.problems.push(Problem::UnknownFlag(argument.to_owned()));
        };
        match (flag.kind, attached) {
            (FlagKind::Switch, value) => self.set(flag, value.unwrap_or("true")),
            (_, Some(value)) => self.set(flag, value),
            (_, None) => self.following(argument, |_| flag),
        }
    }

    fn short(&mut self, argument: &str, letter: char) {
        let named: Vec<_> = self.flags.iter().filter(|flag| flag.short == Some(letter)).copied().collect();
        let Some(&first) = named.first() else {
            return self.problems.push(Problem::UnknownFlag(argument.to_owned()));
        };
        let attached = &argument[1 + letter.len_utf8()..];
        if first.kind == FlagKind::Switch {
            return self.short_switch(argument, first, attached);
        }
        let meant = |value: &str| {
            let says = |flag: &&&Flag| matches!(flag.kind, FlagKind::Word(words) if words.contains(&value));
            let plain = |flag: &&&Flag| !matches!(flag.kind, FlagKind::Word(_));
            named.iter().find(says).or_else(|| named.iter().find(plain)).copied().unwrap_or(first)
        };
        if attached.is_empty() {
            return self.following(argument, meant);
        }
        // `-p=15001` is how pflag also spells `-p15001`.
        let value = attached.strip_prefix('=').unwrap_or(attached);
        self.set(meant(value), value);
    }

    fn short_switch(&mut self, argument: &str, flag: &'static Flag, attached: &str) {
        match (attached, attached.strip_prefix('=')) {
            ("", _) => self.set(flag, "true"),
            (_, Some(value)) => self.set(flag, value),
            (_, None) => self.problems.push(Problem::UnknownFlag(argument.to_owned())),
        }
    }

    fn following(&mut self, argument: &str, meant: impl Fn(&str) -> &'static Flag) {
        let Some(value) = self.rest.next() else {
            return self.problems.push(Problem::MissingValue(argument.to_owned()));
        };
        if self.is_flag(value) {
            self.problems.push(Problem::SwallowedFlag { flag: argument.to_owned(), value: value.clone() });
            // The swallowed flag is read as the flag it is, so that its own problems show up as well.
            return self.argument(&value.clone());
        }
        self.set(meant(value), value);
    }

    /// Whether `text` is spelled like one of our flags. No setting has a value that begins with a dash.
    fn is_flag(&self, text: &str) -> bool {
        if let Some(long) = text.strip_prefix("--") {
            let name = long.split('=').next().unwrap_or_default();
            return self.flags.iter().any(|flag| !flag.long.is_empty() && flag.long == name);
        }
        let letter = text.strip_prefix('-').and_then(|short| short.chars().next());
        letter.is_some_and(|letter| self.flags.iter().any(|flag| flag.short == Some(letter)))
    }

    fn set(&mut self, flag: &'static Flag, text: &str) {
        if flag.kind != FlagKind::Ignored {
            let given = RawSetting { text: text.to_owned(), origin: Origin::Flag(flag.long) };
            self.raw.values.insert(flag.key(), given);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(arguments: &[&str]) -> (RawSettings, Vec<Problem>) {
        let arguments: Vec<_> = arguments.iter().map(|text| (*text).to_owned()).collect();
        RawSettings::scan(&arguments, &BTreeMap::new(), FLAGS)
    }

    fn text<'g>(raw: &'g RawSettings, flag: &Flag) -> Option<&'g str> {
        raw.of(flag).map(|given| given.text.as_str())
    }

    #[test]
    fn every_spelling_of_a_value_is_read() {
        for spelling in
            [&["-p", "80"][..], &["-p80"], &["-p=80"], &["--envoy-port", "80"], &["--envoy-port=80"]]
        {
            let (raw, problems) = scan(spelling);
            assert_eq!((text(&raw, &OUTBOUND_PORT), problems.len()), (Some("80"), 0), "{spelling:?}");
        }
    }

    #[test]
    fn an_empty_argument_is_a_value() {
        let (raw, problems) = scan(&["-x", "", "-b", "*"]);
        assert!(problems.is_empty());
        assert_eq!(text(&raw, &OUTBOUND_EXCLUDE_CIDRS), Some(""));
        assert_eq!(text(&raw, &INBOUND_PORTS), Some("*"));
    }

    #[test]
    fn a_flag_in_place_of_a_value_is_refused() {
        let (_, problems) = scan(&["-x", "-b", "*"]);
        assert_eq!(problems, [Problem::SwallowedFlag { flag: "-x".to_owned(), value: "-b".to_owned() }]);
        let (_, problems) = scan(&["--istio-service-cidr", "--dry-run=true"]);
        assert!(matches!(problems[..], [Problem::SwallowedFlag { .. }]));
    }

    #[test]
    fn a_boolean_takes_its_value_only_with_an_equals_sign() {
        assert_eq!(text(&scan(&["--dry-run"]).0, &DRY_RUN), Some("true"));
        assert_eq!(text(&scan(&["-n=false"]).0, &DRY_RUN), Some("false"));
        let (raw, problems) = scan(&["--dry-run", "false"]);
        assert_eq!(text(&raw, &DRY_RUN), Some("true"));
        assert_eq!(problems, [Problem::UnexpectedArgument("false".to_owned())]);
    }

    #[test]
    fn unknown_flags_and_lost_values_are_named() {
        let (_, problems) = scan(&["--nope", "-Z", "--", "-", "-nx", "-p"]);
        let texts: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert!(texts[0].contains("unknown flag `--nope`"), "{texts:?}");
        assert!(texts[1].contains("unknown flag `-Z`"));
        assert!(texts[2].contains("unknown flag `--`"));
        assert!(texts[3].contains("unexpected argument `-`"));
        assert!(texts[4].contains("unknown flag `-nx`"));
        assert!(texts[5].contains("missing value after -p"));
    }

    #[test]
    fn the_last_of_several_wins() {
        assert_eq!(text(&scan(&["-p", "1", "-p", "2"]).0, &OUTBOUND_PORT), Some("2"));
    }

    #[test]
    fn a_later_variable_wins_and_a_flag_wins_over_both() {
        let environment = [("DROP_INVALID", "false"), ("INVALID_DROP", "true")];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let (raw, _) = RawSettings::scan(&[], &environment, FLAGS);
        assert_eq!(raw.of(&DROP_INVALID).unwrap().origin, Origin::Variable("INVALID_DROP"));
        let (raw, _) = RawSettings::scan(&["--drop-invalid=0".to_owned()], &environment, FLAGS);
        assert_eq!(text(&raw, &DROP_INVALID), Some("0"));
    }

    #[test]
    fn an_empty_variable_is_a_value_for_lists_only() {
        let environment = [("ISTIO_INBOUND_PORTS", ""), ("INBOUND_CAPTURE_PORT", ""), ("DUAL_STACK", "")];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let (raw, _) = RawSettings::scan(&[], &environment, FLAGS);
        assert!(raw.has(&INBOUND_PORTS));
        assert!(!raw.has(&INBOUND_PORT) && !raw.has(&DUAL_STACK));
    }

    #[test]
    fn log_flags_of_the_injected_container_are_accepted() {
        let (raw, problems) = scan(&["--log_output_level=default:info", "--log_as_json", "--vklog=9"]);
        assert!(problems.is_empty());
        assert!(raw.has(&LOG_AS_JSON));
    }

    #[test]
    fn names_and_letters_are_unique() {
        let mut seen = std::collections::BTreeSet::new();
        for flag in FLAGS {
            assert!(flag.long.is_empty() || seen.insert(flag.long.to_owned()), "{}", flag.long);
            assert!(flag.short.is_none_or(|letter| seen.insert(letter.to_string())), "{}", flag.long);
        }
    }
}
