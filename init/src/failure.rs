//! Why a command did not succeed, and the exit code that says so.

use rules::invalid::Problem;

/// Why a command did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line or the environment is wrong; nothing was touched. Exit code 2.
    Usage(Vec<String>),
    /// Something could not be done. Exit code 1.
    Failed(anyhow::Error),
    /// `check` found a difference, which is printed as the result. Exit code 3.
    Differs(String),
    /// `validate` found interception broken, which is printed as the result. Exit code 126, which Istio's CNI repair
    /// looks for.
    NotIntercepted(String),
}

impl Failure {
    /// The exit code of the process.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::Differs(_) => 3,
            Self::NotIntercepted(_) => 126,
        }
    }

    /// The messages, one line each.
    pub(crate) fn lines(&self) -> Vec<String> {
        match self {
            Self::Usage(problems) => problems.clone(),
            Self::Failed(error) => vec![format!("{error:#}")],
            Self::Differs(text) | Self::NotIntercepted(text) => text.lines().map(str::to_owned).collect(),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Vec<Problem>> for Failure {
    fn from(problems: Vec<Problem>) -> Self {
        Self::Usage(problems.iter().map(ToString::to_string).collect())
    }
}
