//! An ejection in words, for the log.

use std::fmt;

use super::{AttemptResult, Cause, Ejection};

impl Cause {
    /// What has come in a row.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Consecutive5xx => "consecutive errors",
            Self::ConsecutiveGatewayFailure => "consecutive gateway errors (502, 503, 504)",
            Self::ConsecutiveLocalOriginFailure => "consecutive failures to connect or to be answered",
        }
    }
}

impl fmt::Display for Ejection {
    /// The cause and what came last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, the last ", self.cause.as_str())?;
        match self.result {
            AttemptResult::Answered(status) => write!(f, "an answer of {status}"),
            AttemptResult::TimedOut => f.write_str("an answer that did not come in time"),
            AttemptResult::Connected | AttemptResult::Opened | AttemptResult::LocalFailure => {
                f.write_str("a connection that did not come about or broke before an answer")
            }
        }
    }
}
