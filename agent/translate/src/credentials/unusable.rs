//! Why a certificate or authority cannot be used, and what that costs.

use resources::{Problem, Rule, Severity};

/// Why a server or rule has not got the certificate it should have.
#[derive(Clone, Debug)]
pub(crate) struct Unusable {
    pub(crate) rule: Rule,
    /// Field of the `tls` settings.
    pub(crate) field: &'static str,
    pub(crate) problem: Problem,
}

impl Unusable {
    pub(super) fn invalid(field: &'static str, problem: Problem) -> Self {
        Self { rule: Rule::Invalid, field, problem }
    }

    /// What is doubted serves; what cannot be used does not.
    pub(crate) fn severity(&self) -> Severity {
        if self.rule == Rule::Certificate { Severity::Warning } else { Severity::Error }
    }

    /// Whether the credential is not there, other than there and wrong.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self.rule, Rule::UnknownReference | Rule::Unreadable)
    }

    /// Says what becomes of those who wanted it.
    pub(super) fn costing(mut self, what_stays: Option<&str>) -> Self {
        let message = &self.problem.message;
        self.problem.message = match what_stays {
            Some(what) => format!("{message}: the last good {what} stays in force"),
            None => format!("{message}: TLS handshakes that need it are refused"),
        };
        self
    }
}
