//! Text, numbers, truth values, words of a fixed list, durations, ports.

use std::{num::NonZeroU16, ops::RangeInclusive, str::FromStr, time::Duration};

use super::{Context, Decode};
use crate::{
    Path, duration,
    finding::Problem,
    suggest::did_you_mean,
    yaml::{Node, Value},
};

impl Decode for String {
    const FORM: &'static str = "text";

    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        match &node.value {
            Value::Scalar { text, plain } if !plain || !is_other_scalar(text) => text.to_string(),
            Value::Scalar { .. } => {
                let problem = wrong_type(node, "text").remedy("put it in quotes");
                context.error(at, problem);
                Self::new()
            }
            _ => {
                context.error(at, wrong_type(node, "text"));
                Self::new()
            }
        }
    }
}

/// Whether plain text is null, a truth value or a number to YAML, which the Kubernetes API refuses as text.
pub(crate) fn is_other_scalar(text: &str) -> bool {
    let number_like = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'));
    matches!(
        text,
        "" | "~" | "null" | "Null" | "NULL" | "true" | "True" | "TRUE" | "false" | "False" | "FALSE"
    ) || (number_like && (text.parse::<f64>().is_ok() || integer(text).is_some()))
}

impl Decode for bool {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        match &node.value {
            Value::Scalar { text, plain: true } if matches!(&**text, "true" | "True" | "TRUE") => true,
            Value::Scalar { text, plain: true } if matches!(&**text, "false" | "False" | "FALSE") => false,
            _ => {
                context.error(at, wrong_type(node, "`true` or `false`"));
                false
            }
        }
    }
}

impl Decode for u32 {
    const FORM: &'static str = "a whole number";

    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        whole_number(node, 0..=Self::MAX.into(), at, context).try_into().unwrap_or_default()
    }
}

impl Decode for u64 {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        whole_number(node, 0..=i64::MAX, at, context).unsigned_abs()
    }
}

impl Decode for i32 {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        whole_number(node, Self::MIN.into()..=Self::MAX.into(), at, context).try_into().unwrap_or_default()
    }
}

/// A port as a resource may hold it, 0 standing for "not read".
#[derive(Clone, Copy, Default)]
pub(crate) struct PortNumber(Option<NonZeroU16>);

impl PortNumber {
    pub(crate) fn get(self) -> u16 {
        self.0.map_or(0, NonZeroU16::get)
    }
}

impl Decode for PortNumber {
    const FORM: &'static str = "a port, 1–65535";

    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        let number = whole_number(node, 1..=u16::MAX.into(), at, context);
        Self(u16::try_from(number).ok().and_then(NonZeroU16::new))
    }
}

impl Decode for f64 {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        let number = match &node.value {
            Value::Scalar { text, plain: true } => text.parse().ok().filter(|n: &Self| n.is_finite()),
            _ => None,
        };
        number.unwrap_or_else(|| {
            context.error(at, wrong_type(node, "a number"));
            0.0
        })
    }
}

impl Decode for Duration {
    const FORM: &'static str = "a duration such as `1.5s`";

    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        let Some(text) = node.text() else {
            context.error(at, wrong_type(node, Self::FORM));
            return Self::ZERO;
        };
        duration::parse(text).unwrap_or_else(|wrong| {
            let problem = Problem::new(wrong).found(text).expected("such as `1h`, `1.5s` or `250ms`");
            let no_unit = text.parse::<u64>().is_ok();
            context.error(at, problem.perhaps_remedy(no_unit.then(|| format!("did you mean `{text}s`?"))));
            Self::ZERO
        })
    }
}

/// A number that limits something; zero means that nothing is limited.
#[derive(Clone, Copy, Default)]
pub(crate) struct Limit(Option<u32>);

impl Limit {
    pub(crate) fn get(self) -> Option<u32> {
        self.0
    }
}

impl Decode for Limit {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        let number = whole_number(node, 0..=i32::MAX.into(), at, context);
        Self(u32::try_from(number).ok().filter(|number| *number > 0))
    }
}

/// A duration where zero has no meaning: at least one millisecond.
#[derive(Clone, Copy, Default)]
pub(crate) struct Interval(Duration);

impl Interval {
    pub(crate) fn get(self) -> Duration {
        self.0
    }
}

impl Decode for Interval {
    const FORM: &'static str = Duration::FORM;

    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        let refused_before = std::mem::replace(&mut context.refused, false);
        let duration = Duration::decode(node, at, context);
        if duration.is_zero() && !context.refused {
            let problem = Problem::new("is too short").found(node.describe());
            context.error(at, problem.expected("at least `1ms`"));
        }
        context.refused |= refused_before;
        Self(duration)
    }
}

/// Reads a word of a fixed list; the remedy names the nearest one.
pub(crate) fn word<T: FromStr + Default>(
    node: &Node<'_>,
    words: &[&'static str],
    at: &Path<'_>,
    context: &mut Context<'_>,
) -> T {
    let parsed = node.text().and_then(|text| text.parse().ok());
    parsed.unwrap_or_else(|| {
        context.error(at, unknown_word(node, words));
        T::default()
    })
}

/// Reads a word of a fixed list, given with what each stands for.
pub(crate) fn word_of<T: Copy + Default>(
    node: &Node<'_>,
    words: &[(&'static str, T)],
    at: &Path<'_>,
    context: &mut Context<'_>,
) -> T {
    let found = node.text().and_then(|text| words.iter().find(|(word, _)| *word == text));
    found.map(|(_, value)| *value).unwrap_or_else(|| {
        let names: Vec<&'static str> = words.iter().map(|(word, _)| *word).collect();
        context.error(at, unknown_word(node, &names));
        T::default()
    })
}

fn unknown_word(node: &Node<'_>, words: &[&'static str]) -> Problem {
    let found = node.describe();
    let problem = Problem::new("is not a known word").found(&found).expected(one_of(words));
    problem.perhaps_remedy(did_you_mean(&found, words.iter().copied()))
}

/// The words as a sentence has them: `a`, `b` or `c`.
pub(crate) fn one_of(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => format!("`{only}`"),
        [first @ .., last] => {
            let first: Vec<_> = first.iter().map(|word| format!("`{word}`")).collect();
            format!("{} or `{last}`", first.join(", "))
        }
    }
}

/// Reads a whole number of a range; another one is a mistake.
pub(crate) fn whole_number(
    node: &Node<'_>,
    range: RangeInclusive<i64>,
    at: &Path<'_>,
    context: &mut Context<'_>,
) -> i64 {
    let expected = || format!("a whole number, {}–{}", range.start(), range.end());
    match &node.value {
        Value::Scalar { text, plain: true } if integer(text).is_some_and(|n| range.contains(&n)) => {
            integer(text).unwrap_or_default()
        }
        Value::Scalar { text, plain: true } if integer(text).is_some() => {
            context.error(at, Problem::new("is out of range").found(text).expected(expected()));
            0
        }
        Value::Scalar { text, plain: false } if integer(text).is_some() => {
            context.error(at, wrong_type(node, &expected()).remedy("remove the quotes"));
            0
        }
        _ => {
            context.error(at, wrong_type(node, &expected()));
            0
        }
    }
}

/// Decimal, `0x` and `0o` numbers, as YAML 1.2 and JSON write them.
fn integer(text: &str) -> Option<i64> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let unsigned = match digits.split_at_checked(2) {
        Some(("0x", hex)) => i64::from_str_radix(hex, 16),
        Some(("0o", octal)) => i64::from_str_radix(octal, 8),
        _ if digits.starts_with(|c: char| c.is_ascii_digit()) => digits.parse(),
        _ => return None,
    };
    unsigned.ok().map(|n| if negative { -n } else { n })
}

fn wrong_type(node: &Node<'_>, expected: &str) -> Problem {
    Problem::new("has the wrong type").found(node.describe()).expected(expected)
}
