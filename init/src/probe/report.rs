//! What `validate` found: one line for each probe, and what else there is to know.

use std::fmt;

use serde_json::{Value, json};

use super::{Found, Probe};

/// What was found, in order.
#[derive(Debug, Default)]
pub(crate) struct Report {
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    status: LineStatus,
    /// The packet that was sent, if this is about one.
    probe: Option<Probe>,
    text: String,
}

/// What a line is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum LineStatus {
    /// As it must be.
    Passed,
    /// Otherwise.
    Failed,
    /// It could not be found out.
    Skipped,
    /// Something else that matters.
    Note,
}

impl LineStatus {
    fn text(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Note => "note",
        }
    }
}

impl Report {
    /// Adds something that is not about a probe.
    pub(crate) fn line(&mut self, status: LineStatus, text: impl Into<String>) {
        self.lines.push(Line { status, probe: None, text: text.into() });
    }

    /// Adds what became of a probe.
    pub(super) fn add(&mut self, probe: &Probe, found: &Found) {
        let (status, text) = match found {
            Found::AsForetold(text) => (LineStatus::Passed, text),
            Found::Otherwise(text) => (LineStatus::Failed, text),
            Found::Unsent(text) => (LineStatus::Skipped, text),
        };
        self.lines.push(Line { status, probe: Some(probe.clone()), text: text.clone() });
    }

    /// Whether nothing failed.
    pub(crate) fn passed(&self) -> bool {
        self.lines.iter().all(|line| line.status != LineStatus::Failed)
    }

    /// The same for programs.
    pub(crate) fn json(&self) -> Value {
        let lines: Vec<_> = self.lines.iter().map(Line::json).collect();
        json!({ "passed": self.passed(), "findings": lines })
    }
}

impl Line {
    fn json(&self) -> Value {
        let probe = self.probe.as_ref().map(|probe| {
            json!({
                "what": probe.what,
                "uid": probe.sender.user,
                "gid": probe.sender.group,
                "protocol": probe.protocol.to_string(),
                "destination": probe.destination.to_string(),
            })
        });
        json!({ "result": self.status.text(), "probe": probe, "text": self.text })
    }
}

impl fmt::Display for Report {
    /// One line each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Line { status, probe, text } in &self.lines {
            write!(f, "{:7} ", status.text())?;
            if let Some(Probe { what, sender, protocol, destination, .. }) = probe {
                write!(f, "{what} ({sender}, {protocol} to {destination}): ")?;
            }
            writeln!(f, "{text}")?;
        }
        Ok(())
    }
}
