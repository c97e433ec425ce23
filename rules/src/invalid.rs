//! A value that cannot be read, and where it stood.

use std::fmt;

/// One value that cannot be read: what it should have been, the text found, and what would be good.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Invalid {
    /// The kind of value, such as `port`.
    pub what: &'static str,
    /// The text found.
    pub item: String,
    /// What would be accepted, with an example.
    pub expected: &'static str,
}

impl Invalid {
    /// A value of kind `what` was expected where `item` stands.
    pub fn new(what: &'static str, item: &str, expected: &'static str) -> Self {
        Self { what, item: item.to_owned(), expected }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid {} `{}`: expected {}", self.what, self.item.escape_debug(), self.expected)
    }
}

impl std::error::Error for Invalid {}

/// Where a setting came from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Origin {
    /// A command-line flag, by its long name.
    Flag(&'static str),
    /// An environment variable.
    Variable(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(long) => write!(f, "--{long}"),
            Self::Variable(name) => write!(f, "variable {name}"),
        }
    }
}

/// One thing wrong with the command line or the environment. Its text is one line for the operator.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Problem {
    /// A value does not read as its flag needs it.
    #[error(
        "invalid {} `{}` in {origin}: expected {}",
        .invalid.what, .invalid.item.escape_debug(), .invalid.expected
    )]
    Invalid {
        /// The flag or variable that holds the value.
        origin: Origin,
        /// What is wrong with it.
        invalid: Invalid,
    },
    /// Something that the command cannot do without was not given.
    #[error("missing {what}: expected {expected}")]
    Missing {
        /// What is missing, with the flag that gives it.
        what: &'static str,
        /// How it is given.
        expected: &'static str,
    },
    /// Flags that exclude each other.
    #[error("both {one} and {other} are given: expected only one of them")]
    Both {
        /// One flag.
        one: &'static str,
        /// The other.
        other: &'static str,
    },
    /// The argument is no flag of the command.
    #[error("unknown flag `{}`: see --help for the flags of this command", .0.escape_debug())]
    UnknownFlag(String),
    /// An argument that belongs to no flag.
    #[error(
        "unexpected argument `{}`: expected a flag (a boolean takes its value only with `=`, as in --dry-run=true)",
        .0.escape_debug()
    )]
    UnexpectedArgument(String),
    /// The flag stands last, without its value.
    #[error("missing value after {0}: expected `{0} VALUE`, where an empty value is written ''")]
    MissingValue(String),
    /// The value is itself a flag: an empty value got lost before it.
    #[error(
        "flag `{}` found where the value of {flag} belongs: an empty value must be passed as an argument of its own, as in {flag} ''",
        .value.escape_debug()
    )]
    SwallowedFlag {
        /// The flag that lacks its value.
        flag: String,
        /// The argument found instead.
        value: String,
    },
    /// More items than one rule can hold.
    #[error(
        "too many items ({count}) in {origin}: expected at most {limit}, because all of them become one rule"
    )]
    TooMany {
        /// The flag or variable that holds the list.
        origin: Origin,
        /// Items found.
        count: usize,
        /// Items accepted.
        limit: usize,
    },
    /// A user or group name that the system does not know.
    #[error("unknown {kind} `{}` in {origin}: expected a numeric id, or a name from {database}", .name.escape_debug())]
    UnknownOwner {
        /// `user` or `group`.
        kind: &'static str,
        /// The name.
        name: String,
        /// The setting it stands in.
        origin: Origin,
        /// The file that was searched.
        database: &'static str,
    },
}
