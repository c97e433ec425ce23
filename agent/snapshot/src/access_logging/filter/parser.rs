//! Reads the text of a filter.

use std::fmt;

use super::{Attribute, Comparison, Expression, Literal};

/// The whole of `text` as one expression.
pub(super) fn parse(text: &str) -> Result<Expression, LogFilterError> {
    let mut parser = Parser { rest: text.trim_start(), depth: 0 };
    let expression = parser.any()?;
    match parser.rest {
        "" => Ok(expression),
        rest => Err(LogFilterError(rest.to_owned())),
    }
}

/// Where an expression is not understood.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogFilterError(String);

impl LogFilterError {
    /// What can be written.
    pub const EXPECTED: &'static str = "comparisons of `response.code`, `response.code_details`, `response.grpc_status`, \
        `response.size`, `request.size` and `connection.mtls` with numbers, texts, `true` and `false`, joined by `&&`, \
        `||`, `!` and parentheses";
}

impl fmt::Display for LogFilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_str() {
            "" => f.write_str("ends too early"),
            rest => write!(f, "is not understood from `{}` on", rest.chars().take(40).collect::<String>()),
        }
    }
}

impl std::error::Error for LogFilterError {}

struct Parser<'p> {
    /// Begins with no blank.
    rest: &'p str,
    depth: usize,
}

/// Parentheses and negations within each other.
const MAX_DEPTH: usize = 32;

enum Operand {
    Attribute(Attribute),
    Literal(Literal),
}

impl Parser<'_> {
    fn fail<T>(&self) -> Result<T, LogFilterError> {
        Err(LogFilterError(self.rest.to_owned()))
    }

    /// Takes a sign, if it is next.
    fn take(&mut self, sign: &str) -> bool {
        let rest = self.rest.strip_prefix(sign).map(str::trim_start);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn any(&mut self) -> Result<Expression, LogFilterError> {
        let mut parts = vec![self.all()?];
        while self.take("||") {
            parts.push(self.all()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expression::Any(parts) })
    }

    fn all(&mut self) -> Result<Expression, LogFilterError> {
        let mut parts = vec![self.one()?];
        while self.take("&&") {
            parts.push(self.one()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expression::All(parts) })
    }

    fn one(&mut self) -> Result<Expression, LogFilterError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.fail();
        }
        let one = self.negation_or_comparison();
        self.depth -= 1;
        one
    }

    fn negation_or_comparison(&mut self) -> Result<Expression, LogFilterError> {
        if self.take("!") {
            return Ok(Expression::Not(Box::new(self.one()?)));
        }
        if self.take("(") {
            let inner = self.any()?;
            return if self.take(")") { Ok(inner) } else { self.fail() };
        }
        let from = self.rest;
        let left = self.operand()?;
        let sign = Comparison::SIGNS.into_iter().find(|(sign, _)| self.take(sign));
        let (attribute, comparison, literal) = match (left, sign) {
            (Operand::Attribute(attribute @ Attribute::MutualTls), None) => {
                return Ok(Expression::Holds(attribute));
            }
            (left, Some((_, comparison))) => match (left, self.operand()?) {
                (Operand::Attribute(attribute), Operand::Literal(literal)) => {
                    (attribute, comparison, literal)
                }
                (Operand::Literal(literal), Operand::Attribute(attribute)) => {
                    (attribute, comparison.turned(), literal)
                }
                _ => return Err(LogFilterError(from.to_owned())),
            },
            (_, None) => return Err(LogFilterError(from.to_owned())),
        };
        let fits = matches!(
            (attribute, &literal),
            (Attribute::Details, Literal::Text(_))
                | (Attribute::MutualTls, Literal::Truth(_))
                | (
                    Attribute::Status | Attribute::GrpcStatus | Attribute::Received | Attribute::Sent,
                    Literal::Number(_)
                )
        );
        let compared = Expression::Compare(attribute, comparison, literal);
        if fits { Ok(compared) } else { Err(LogFilterError(from.to_owned())) }
    }

    fn operand(&mut self) -> Result<Operand, LogFilterError> {
        if let Some(quote) = self.rest.chars().next().filter(|c| matches!(c, '\'' | '"')) {
            let inner = &self.rest[1..];
            let Some(end) = inner.find(quote).filter(|end| !inner[..*end].contains('\\')) else {
                return self.fail();
            };
            let text = inner[..end].to_owned();
            self.rest = inner[end + 1..].trim_start();
            return Ok(Operand::Literal(Literal::Text(text)));
        }
        let end = self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.')));
        let word = &self.rest[..end.unwrap_or(self.rest.len())];
        let operand = match word {
            "true" => Operand::Literal(Literal::Truth(true)),
            "false" => Operand::Literal(Literal::Truth(false)),
            word => match (word.parse(), Attribute::NAMES.iter().find(|(name, _)| *name == word)) {
                (Ok(number), _) => Operand::Literal(Literal::Number(number)),
                (Err(_), Some((_, attribute))) => Operand::Attribute(*attribute),
                (Err(_), None) => return self.fail(),
            },
        };
        self.rest = self.rest[word.len()..].trim_start();
        Ok(operand)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_understood_is_told() {
        let cases = [
            ("", "ends too early"),
            ("response.code >=", "ends too early"),
            ("response.code", "is not understood from `response.code` on"),
            ("response.code >= 400 and true", "from `and true` on"),
            ("request.path == '/healthz'", "from `request.path == '/healthz'` on"),
            ("response.code == 'x'", "from `response.code == 'x'` on"),
            ("1 == 1", "from `1 == 1` on"),
            ("(connection.mtls", "ends too early"),
            ("response.code_details == 'a", "from `'a` on"),
            ("response.code_details == '\\''", "is not understood"),
            ("response.code >= -1", "from `-1` on"),
            ("é", "from `é` on"),
        ];
        for (text, wanted) in cases {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(wanted), "{text}: {error}");
        }
        assert!(parse(&"(".repeat(100_000)).is_err());
        assert!(parse(&"!".repeat(100_000)).is_err());
    }
}
