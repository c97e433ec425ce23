//! One rule as iptables-save writes it.
//!
//! Options this crate does not know become [`Condition::Other`] and [`Target::Other`], so that a foreign rule is never
//! taken for one of ours, and never stops the reading.

use std::iter::Peekable;
use std::vec::IntoIter;

use super::words;
use crate::ports::{Port, PortRange};
use crate::ruleset::{ChainName, Condition, ConnectionState, Match, Protocol, Rule, Target};

/// Reads the text of a rule, without its chain.
pub fn rule(text: &str) -> Rule {
    let mut reader =
        Reader { words: words::split(text).into_iter().peekable(), matches: Vec::new(), module: None };
    let target = reader.read();
    Rule::new(reader.matches, target)
}

struct Reader {
    words: Peekable<IntoIter<String>>,
    matches: Vec<Match>,
    /// The match module named last: `--mark` belongs to `mark` or to `connmark`.
    module: Option<String>,
}

impl Reader {
    fn read(&mut self) -> Target {
        let mut negated = false;
        while let Some(word) = self.words.next() {
            match word.as_str() {
                "!" => {
                    negated = true;
                    continue;
                }
                "-j" | "-g" => return self.target(&word),
                "-m" => self.module(),
                option => {
                    let condition = self.condition(option);
                    self.matches.push(Match { negated, condition });
                }
            }
            negated = false;
        }
        Target::Continue
    }

    fn module(&mut self) {
        const READ: [&str; 8] =
            ["tcp", "udp", "multiport", "owner", "mark", "connmark", "conntrack", "comment"];
        let name = self.words.next().unwrap_or_default();
        if !READ.contains(&name.as_str()) {
            self.matches.push(Condition::Other(format!("-m {name}")).into());
        }
        self.module = Some(name);
    }

    fn condition(&mut self, option: &str) -> Condition {
        let values = self.values();
        let known = match values.as_slice() {
            [value] => known(option, value, self.module.as_deref()),
            _ => None,
        };
        known.unwrap_or_else(|| Condition::Other(joined(option, &values)))
    }

    /// The words up to the next option.
    fn values(&mut self) -> Vec<String> {
        let mut values = Vec::new();
        while let Some(word) = self.words.next_if(|word| word != "!" && !word.starts_with('-')) {
            values.push(word);
        }
        values
    }

    fn target(&mut self, verb: &str) -> Target {
        let name = self.words.next().unwrap_or_default();
        let options: Vec<_> = self.words.by_ref().collect();
        let other = || Target::Other(joined(&format!("{verb} {name}"), &options));
        if verb != "-j" {
            return other();
        }
        known_target(&name, &options).unwrap_or_else(other)
    }
}

fn joined(first: &str, rest: &[String]) -> String {
    std::iter::once(first).chain(rest.iter().map(String::as_str)).collect::<Vec<_>>().join(" ")
}

fn known(option: &str, value: &str, module: Option<&str>) -> Option<Condition> {
    let condition = match (option, module) {
        ("-i", _) => Condition::InInterface(value.parse().ok()?),
        ("-o", _) => Condition::OutInterface(value.parse().ok()?),
        ("-s", _) => Condition::Source(value.parse().ok()?),
        ("-d", _) => Condition::Destination(value.parse().ok()?),
        ("-p", _) => Condition::Protocol(protocol(value)?),
        ("--sport", _) => Condition::SourcePort(value.parse().ok()?),
        ("--dport", _) => Condition::DestinationPort(value.parse().ok()?),
        ("--dports", Some("multiport")) => Condition::DestinationPorts(port_list(value)?),
        ("--uid-owner", Some("owner")) => Condition::User(value.parse().ok()?),
        ("--gid-owner", Some("owner")) => Condition::Group(value.parse().ok()?),
        ("--mark", Some("mark")) => Condition::Mark(number(value)?),
        ("--mark", Some("connmark")) => Condition::ConnectionMark(number(value)?),
        ("--ctstate", Some("conntrack")) => Condition::ConnectionState(states(value)?),
        ("--comment", Some("comment")) => Condition::Comment(value.to_owned()),
        _ => return None,
    };
    Some(condition)
}

fn known_target(name: &str, options: &[String]) -> Option<Target> {
    let options: Vec<_> = options.iter().map(String::as_str).collect();
    let target = match (name, options.as_slice()) {
        ("RETURN", []) => Target::Return,
        ("ACCEPT", []) => Target::Accept,
        ("DROP", []) => Target::Drop,
        ("REDIRECT", ["--to-ports" | "--to-port", port]) => Target::Redirect(port.parse().ok()?),
        ("MARK", ["--set-xmark" | "--set-mark", mark]) => Target::SetMark(full_mark(mark)?),
        ("CT", ["--zone", zone]) => Target::Zone(u16::try_from(number(zone)?).ok()?),
        ("TPROXY", options) => tproxy(options)?,
        ("CONNMARK", ["--save-mark", masks @ ..]) if full_masks(masks) => Target::SaveMark,
        ("CONNMARK", ["--restore-mark", masks @ ..]) if full_masks(masks) => Target::RestoreMark,
        // A chain of others cannot be told from an extension by its name alone.
        (chain, []) if chain.starts_with("ISTIO_") => Target::Jump(ChainName::new(chain)),
        _ => return None,
    };
    Some(target)
}

fn tproxy(options: &[&str]) -> Option<Target> {
    let mut port: Option<Port> = None;
    let mut mark = None;
    for pair in options.chunks(2) {
        match pair {
            ["--on-port", text] => port = text.parse().ok(),
            ["--tproxy-mark", text] => mark = full_mark(text),
            // The address of the incoming interface, which is what we mean.
            ["--on-ip", "0.0.0.0" | "::"] => {}
            _ => return None,
        }
    }
    Some(Target::Tproxy { port: port?, mark: mark? })
}

fn full_masks(options: &[&str]) -> bool {
    options
        .chunks(2)
        .all(|pair| matches!(pair, ["--nfmask" | "--ctmask", mask] if number(mask) == Some(u32::MAX)))
}

/// A mark that is set or compared as a whole.
fn full_mark(text: &str) -> Option<u32> {
    match text.split_once('/') {
        Some((mark, mask)) if number(mask) == Some(u32::MAX) => number(mark),
        Some(_) => None,
        None => number(text),
    }
}

fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

fn protocol(text: &str) -> Option<Protocol> {
    match text {
        "tcp" | "6" => Some(Protocol::Tcp),
        "udp" | "17" => Some(Protocol::Udp),
        _ => None,
    }
}

fn port_list(text: &str) -> Option<Vec<PortRange>> {
    text.split(',').map(|port| port.parse().ok()).collect()
}

fn states(text: &str) -> Option<std::collections::BTreeSet<ConnectionState>> {
    let state =
        |word: &str| ConnectionState::ALL.iter().find(|(_, name)| *name == word).map(|(state, _)| *state);
    text.split(',').map(state).collect()
}
