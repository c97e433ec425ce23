//! `explain`: one packet through the rules, told rule by rule.

use std::fmt::Write;

use rules::lint;
use rules::packet::Packet;
use rules::parse::{Counters, Found};
use rules::render::Dialect;
use rules::ruleset::{Family, Rule, RuleSet};
use rules::settings::Settings;
use rules::simulate::{LocalDelivery, Outcome, Verdict, Visit, Walk, simulate};
use serde_json::{Value, json};

use crate::cli::Output;

pub(crate) mod flags;

/// The rules a packet is walked through, and what comes with them.
pub(crate) struct Subject {
    /// The rules of the packet's family.
    pub(crate) rules: RuleSet,
    /// The words in which they are told.
    pub(crate) dialect: Dialect,
    /// What the kernel holds, when the rules are the kernel's own.
    pub(crate) found: Option<Found>,
    /// The routing rule of TPROXY, when there is one.
    pub(crate) delivery: Option<LocalDelivery>,
    /// Why there are no rules for this family.
    pub(crate) no_rules: Option<String>,
    /// Who the proxy is.
    pub(crate) settings: Settings,
}

impl Subject {
    /// What is printed about `packet`.
    pub(crate) fn explain(&self, packet: &Packet, output: Output) -> String {
        let walk = simulate(packet, &self.rules, self.delivery.as_slice());
        match output {
            Output::Text => self.text(packet, &walk),
            Output::Json => format!("{:#}\n", self.json(packet, &walk)),
        }
    }

    fn text(&self, packet: &Packet, walk: &Walk<'_>) -> String {
        let mut text = format!("packet: {packet}\n");
        let line = |text: &mut String, content: std::fmt::Arguments<'_>| {
            writeln!(text, "{content}").expect("writing to a String cannot fail");
        };
        if let Some(reason) = &self.no_rules {
            line(&mut text, format_args!("no {} rules: {reason}", self.rules.family));
        }
        for visit in &walk.visits {
            let purpose = visit.rule.purpose.map_or_else(String::new, |purpose| format!(" ({purpose})"));
            let counted = self
                .counters(visit)
                .map_or_else(String::new, |counters| format!(" [{} packets]", counters.packets));
            line(
                &mut text,
                format_args!(
                    "{:7} {:indent$}{} {}: {}{purpose}{counted}",
                    word(visit.outcome),
                    "",
                    self.dialect.place(visit.table, visit.chain),
                    visit.number,
                    self.dialect.rule(visit.rule, self.rules.family),
                    indent = visit.depth * 2,
                ),
            );
        }
        for note in lint::walk(&self.settings, packet, walk) {
            line(&mut text, format_args!("note: {note}"));
        }
        line(&mut text, format_args!("verdict: {walk}"));
        text
    }

    fn json(&self, packet: &Packet, walk: &Walk<'_>) -> Value {
        let visits: Vec<_> = walk.visits.iter().map(|visit| self.visit(visit)).collect();
        json!({
            "packet": packet.to_string(),
            "visits": visits,
            "verdict": verdict(walk),
            "zone": walk.zone,
            "mark": walk.mark,
            "connectionMark": walk.connection_mark,
            "deliveredByTable": walk.delivered_by,
            "certain": walk.certain,
            "noRules": self.no_rules,
            "notes": lint::walk(&self.settings, packet, walk),
        })
    }

    fn visit(&self, visit: &Visit<'_>) -> Value {
        let counters = self.counters(visit);
        json!({
            "table": self.dialect.table(visit.table),
            "chain": self.dialect.chain(visit.chain),
            "number": visit.number,
            "depth": visit.depth,
            "rule": self.dialect.rule(visit.rule, self.rules.family),
            "outcome": word(visit.outcome),
            "purpose": visit.rule.purpose.map(|purpose| purpose.clause()),
            "packets": counters.map(|counters| counters.packets),
            "bytes": counters.map(|counters| counters.bytes),
        })
    }

    fn counters(&self, visit: &Visit<'_>) -> Option<Counters> {
        let chain = self.found.as_ref()?.chain(visit.table, visit.chain)?;
        chain.rules.get(visit.number.checked_sub(1)?)?.counters
    }
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Met => "met",
        Outcome::Passed => "passed",
        Outcome::Unknown => "unclear",
    }
}

fn verdict(walk: &Walk<'_>) -> Value {
    let (target, port, mark) = match &walk.verdict {
        Verdict::Redirect(port) => ("REDIRECT", Some(port.number()), None),
        Verdict::Tproxy { port, mark } | Verdict::TproxyRedirected { port, mark, .. } => {
            ("TPROXY", Some(port.number()), Some(*mark))
        }
        Verdict::Return => ("RETURN", None, None),
        Verdict::Accept => ("ACCEPT", None, None),
        Verdict::Drop => ("DROP", None, None),
        Verdict::Other(_) => ("OTHER", None, None),
    };
    json!({ "text": walk.to_string(), "target": target, "port": port, "mark": mark })
}

/// Tells the kernel's rules what they are for, as far as they are among the planned ones.
pub(crate) fn annotate(rules: &mut RuleSet, planned: &RuleSet) {
    for (table, contents) in &mut rules.tables {
        for chain in &mut contents.chains {
            let known: Vec<(Rule, _)> = planned
                .rules(*table, &chain.name)
                .iter()
                .map(|rule| (rule.canonical(), rule.purpose))
                .collect();
            for rule in &mut chain.rules {
                let canonical = rule.canonical();
                rule.purpose =
                    known.iter().find(|(known, _)| *known == canonical).and_then(|(_, purpose)| *purpose);
            }
        }
    }
}

/// The family of a packet.
pub(crate) fn family(packet: &Packet) -> Family {
    if packet.destination.is_ipv4() { Family::V4 } else { Family::V6 }
}
