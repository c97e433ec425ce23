//! Matches as written to conditions that requests are tested with.

use std::collections::BTreeMap;

use resources::{HttpMatch, StringMatch};
use snapshot::{HeaderMatch, PathMatch, PathText, Pattern, QueryMatch, RouteMatch, TextMatch};

/// An expression that reading let through and the compiler did not: it is too large.
pub(super) struct BadPattern {
    /// Field of the match.
    pub(super) field: &'static str,
    pub(super) source: String,
    pub(super) why: String,
}

/// The condition of a match, without what is known before any request comes.
pub(super) fn condition(written: &HttpMatch) -> Result<RouteMatch, BadPattern> {
    let text = |field, condition: &Option<StringMatch>| {
        condition
            .as_ref()
            .map(|condition| text_match(condition).map_err(|bad| bad.in_field(field)))
            .transpose()
    };
    let mut headers = header_matches(&written.headers, false).map_err(|bad| bad.in_field("headers"))?;
    let without =
        header_matches(&written.without_headers, true).map_err(|bad| bad.in_field("withoutHeaders"))?;
    headers.extend(without);
    headers.sort_by(|a, b| (&a.name, a.invert).cmp(&(&b.name, b.invert)));
    Ok(RouteMatch {
        path: path_match(written).map_err(|bad| bad.in_field("uri"))?,
        scheme: text("scheme", &written.scheme)?,
        method: text("method", &written.method)?,
        authority: text("authority", &written.authority)?,
        headers,
        query_params: query_matches(&written.query_params).map_err(|bad| bad.in_field("queryParams"))?,
    })
}

fn path_match(written: &HttpMatch) -> Result<PathMatch, Bad> {
    let text = |text: &String| PathText { text: text.clone(), ignore_case: written.ignore_uri_case };
    Ok(match &written.uri {
        Some(StringMatch::Exact(path)) => PathMatch::Exact(text(path)),
        Some(StringMatch::Prefix(prefix)) => PathMatch::Prefix(text(prefix)),
        Some(StringMatch::Regex(source)) => PathMatch::Regex(pattern(source)?),
        Some(StringMatch::Present) | None => PathMatch::Any,
    })
}

fn header_matches(written: &BTreeMap<String, StringMatch>, invert: bool) -> Result<Vec<HeaderMatch>, Bad> {
    let header = |(name, condition): (&String, &StringMatch)| {
        // Istio takes the expression `*` for any value.
        let any = matches!(condition, StringMatch::Regex(source) if source == "*");
        let condition = if any { TextMatch::Present } else { text_match(condition)? };
        Ok(HeaderMatch { name: name.to_ascii_lowercase(), condition, invert })
    };
    written.iter().map(header).collect()
}

fn query_matches(written: &BTreeMap<String, StringMatch>) -> Result<Vec<QueryMatch>, Bad> {
    let param = |(name, condition): (&String, &StringMatch)| {
        Ok(QueryMatch { name: name.clone(), condition: text_match(condition)? })
    };
    written.iter().map(param).collect()
}

/// A condition on text; fails for an expression that cannot be compiled.
pub(super) fn text_match(written: &StringMatch) -> Result<TextMatch, Bad> {
    Ok(match written {
        StringMatch::Present => TextMatch::Present,
        StringMatch::Exact(text) => TextMatch::Exact(text.clone()),
        StringMatch::Prefix(text) => TextMatch::Prefix(text.clone()),
        StringMatch::Regex(source) => TextMatch::Regex(pattern(source)?),
    })
}

fn pattern(source: &str) -> Result<Pattern, Bad> {
    Pattern::new(source).map_err(|why| Bad { source: source.to_owned(), why })
}

/// A [`BadPattern`] whose field is not told yet.
pub(super) struct Bad {
    pub(super) source: String,
    pub(super) why: String,
}

impl Bad {
    fn in_field(self, field: &'static str) -> BadPattern {
        BadPattern { field, source: self.source, why: self.why }
    }
}
