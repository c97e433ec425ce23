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

    /// Says that something else stays.
    pub(super) fn keeping(self, what: &str) -> Self {
        self.so(format!("the last good {what} stays in force"))
    }

    /// Says that those who wanted it do without.
    pub(super) fn refusing(self) -> Self {
        self.so("TLS handshakes that need it are refused")
    }

    /// Says so of a server that would have to let clients in whom it cannot verify.
    pub(super) fn refusing_unverified(self) -> Self {
        self.so("TLS handshakes are refused, because the clients cannot be verified without it")
    }

    fn so(mut self, consequence: impl std::fmt::Display) -> Self {
        self.problem.message = format!("{}: {consequence}", self.problem.message);
        self
    }
}
