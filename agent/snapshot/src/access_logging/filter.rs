//! Filters of access logs: the part of CEL that judges how a call has ended.
//!
//! Comparisons of attributes with numbers, texts and truth values, joined by `&&`, `||`, `!` and parentheses. What a
//! call does not have, such as the status of an opaque connection, makes a comparison fail as an error in CEL does: it
//! decides nothing, and a filter that nothing decides lets nothing pass.

mod parser;

use std::cmp::Ordering;

pub use self::parser::LogFilterError;

/// A condition on how a call has ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogFilter(Expression);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Expression {
    Any(Vec<Self>),
    All(Vec<Self>),
    Not(Box<Self>),
    Compare(Attribute, Comparison, Literal),
    /// An attribute that is true or false by itself.
    Holds(Attribute),
}

/// What is known of a call that has ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogFacts<'f> {
    /// Status of the answer; `None` for opaque connections and where there was none.
    pub status: Option<u16>,
    /// Status of a gRPC call.
    pub grpc_status: Option<u8>,
    /// Why the answer is what it is; empty for opaque connections.
    pub details: &'f str,
    /// Bytes of the bodies, or of the connection.
    pub received: u64,
    /// The same the other way.
    pub sent: u64,
    /// Whether the client has shown a certificate.
    pub is_mutual_tls: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Attribute {
    Status,
    GrpcStatus,
    Details,
    Received,
    Sent,
    MutualTls,
}

impl Attribute {
    const NAMES: [(&'static str, Self); 6] = [
        ("response.code", Self::Status),
        ("response.grpc_status", Self::GrpcStatus),
        ("response.code_details", Self::Details),
        ("request.size", Self::Received),
        ("response.size", Self::Sent),
        ("connection.mtls", Self::MutualTls),
    ];

    fn value<'f>(self, facts: &LogFacts<'f>) -> Option<Value<'f>> {
        Some(match self {
            Self::Status => Value::Number(facts.status?.into()),
            Self::GrpcStatus => Value::Number(facts.grpc_status?.into()),
            Self::Details if facts.details.is_empty() => return None,
            Self::Details => Value::Text(facts.details),
            Self::Received => Value::Number(facts.received),
            Self::Sent => Value::Number(facts.sent),
            Self::MutualTls => Value::Truth(facts.is_mutual_tls),
        })
    }
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Value<'v> {
    Number(u64),
    Text(&'v str),
    Truth(bool),
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Literal {
    Number(u64),
    Text(String),
    Truth(bool),
}

impl Literal {
    fn value(&self) -> Value<'_> {
        match self {
            Self::Number(number) => Value::Number(*number),
            Self::Text(text) => Value::Text(text),
            Self::Truth(truth) => Value::Truth(*truth),
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Comparison {
    Equal,
    Unequal,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

impl Comparison {
    const SIGNS: [(&'static str, Self); 6] = [
        ("==", Self::Equal),
        ("!=", Self::Unequal),
        ("<=", Self::AtMost),
        (">=", Self::AtLeast),
        ("<", Self::Less),
        (">", Self::Greater),
    ];

    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::Unequal => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::AtMost => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::AtLeast => order.is_ge(),
        }
    }

    /// The same with both sides exchanged.
    fn turned(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::AtMost => Self::AtLeast,
            Self::Greater => Self::Less,
            Self::AtLeast => Self::AtMost,
            Self::Equal | Self::Unequal => self,
        }
    }
}

impl LogFilter {
    /// Reads an expression.
    ///
    /// # Errors
    /// It is none, or has a part that is not supported.
    pub fn parse(text: &str) -> Result<Self, LogFilterError> {
        parser::parse(text).map(Self)
    }

    /// Whether a call passes.
    pub fn passes(&self, facts: &LogFacts<'_>) -> bool {
        self.0.decide(facts) == Some(true)
    }
}

impl Expression {
    /// `None` where something is missing that would have decided.
    fn decide(&self, facts: &LogFacts<'_>) -> Option<bool> {
        let first = |parts: &[Self], wanted: bool| {
            let mut all = Some(!wanted);
            for part in parts {
                match part.decide(facts) {
                    Some(decided) if decided == wanted => return Some(wanted),
                    Some(_) => {}
                    None => all = None,
                }
            }
            all
        };
        match self {
            Self::Any(parts) => first(parts, true),
            Self::All(parts) => first(parts, false),
            Self::Not(negated) => Some(!negated.decide(facts)?),
            Self::Compare(attribute, comparison, literal) => {
                Some(comparison.holds(attribute.value(facts)?.cmp(&literal.value())))
            }
            Self::Holds(attribute) => Some(attribute.value(facts)? == Value::Truth(true)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BAD: LogFacts<'_> = LogFacts {
        status: Some(503),
        grpc_status: None,
        details: "a",
        received: 7,
        sent: 0,
        is_mutual_tls: true,
    };

    fn passes(text: &str, facts: &LogFacts<'_>) -> bool {
        LogFilter::parse(text).unwrap_or_else(|error| panic!("{text} {error}")).passes(facts)
    }

    #[test]
    fn the_usual_filters_are_understood() {
        let good = LogFacts { status: Some(200), ..BAD };
        for text in
            ["response.code >= 400", "400<=response.code", " response.code>=500 && response.code < 600 "]
        {
            assert!(passes(text, &BAD) && !passes(text, &good), "{text}");
        }
        assert!(passes("response.code == 200 || response.code == 503", &good));
        assert!(passes("!(response.code == 200) && connection.mtls", &BAD));
        assert!(passes("response.code_details != 'via_upstream'", &BAD));
        assert!(passes("connection.mtls == true && request.size > 6 && response.size == 0", &BAD));
        assert!(!passes("response.code == 200 || response.code == 503 && connection.mtls == false", &BAD));
    }

    #[test]
    fn what_is_missing_decides_nothing() {
        let opaque = LogFacts { status: None, ..BAD };
        for text in ["response.code >= 400", "response.code != 200", "!(response.code == 200)"] {
            assert!(!passes(text, &opaque), "{text}");
        }
        assert!(passes("response.code == 200 || connection.mtls", &opaque));
        assert!(passes("!(response.code == 200 && !connection.mtls)", &opaque));
        assert!(!passes("response.grpc_status != 0", &BAD));
    }
}
