//! `/stats`: the metrics in Envoy's other forms, `?format=text|json|prometheus`, `?filter=`, `?usedonly`.

use std::sync::Arc;

use http::StatusCode;
use hyper::body::Bytes;
use regex::Regex;
use serde_json::{Value, json};

use super::{last_line, query::Query};
use crate::{
    interface::{Answer, Known, exposition, json_of, text, text_of},
    metrics::{self, Form},
};

/// The metrics in the form that a query asks for.
pub(super) async fn answer(known: &Arc<Known>, query: &Query, default: &str) -> Answer {
    let stats = match Stats::asked_for(query, default) {
        Ok(stats) => stats,
        Err(problem) => return text(StatusCode::BAD_REQUEST, problem),
    };
    let answer: fn(_) -> _ = match stats.format {
        Format::Prometheus => exposition,
        Format::Json => json_of,
        Format::Text => |body| text_of(StatusCode::OK, body),
    };
    answer(metrics::body(known, stats, Bytes::new()).await)
}

/// What is wanted of the metrics, which are written for Prometheus.
struct Stats {
    format: Format,
    filter: Option<Regex>,
    used_only: bool,
    /// Whether any was told.
    begun: bool,
}

enum Format {
    Json,
    Prometheus,
    Text,
}

impl Stats {
    /// # Errors
    /// The question is none: what to say to it.
    fn asked_for(query: &Query, default: &str) -> Result<Self, String> {
        let format = match query.get("format").unwrap_or(default) {
            "json" => Format::Json,
            "prometheus" => Format::Prometheus,
            "text" => Format::Text,
            _ => return Err("usage: /stats?format=(json|prometheus|text)\n\n".to_owned()),
        };
        let filter = query.get("filter").map(Regex::new).transpose();
        let filter = filter.map_err(|error| format!("Invalid re2 regex: {}\n", last_line(&error)))?;
        Ok(Self { format, filter, used_only: query.has("usedonly"), begun: false })
    }

    fn wants(&self, sample: &Sample<'_>) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.is_match(sample.name))
            && !(self.used_only && sample.value == "0")
    }

    fn write(&mut self, sample: &Sample<'_>, out: &mut String) {
        let Sample { series, value, .. } = sample;
        match self.format {
            Format::Json => {
                let stat = format!("{:#}", json!({"name": series, "value": sample.number()}));
                out.push_str(if self.begun { ",\n    " } else { "{\n  \"stats\": [\n    " });
                out.push_str(&stat.replace('\n', "\n    "));
            }
            Format::Prometheus => out.extend([*series, " ", *value, "\n"]),
            Format::Text => out.extend([*series, ": ", *value, "\n"]),
        }
        self.begun = true;
    }
}

impl Form for Stats {
    fn lines(&mut self, lines: String) -> String {
        if matches!(self.format, Format::Prometheus) && self.filter.is_none() && !self.used_only {
            return lines;
        }
        let mut out = String::new();
        for sample in lines.lines().filter_map(Sample::of) {
            if self.wants(&sample) {
                self.write(&sample, &mut out);
            }
        }
        out
    }

    fn end(&mut self) -> String {
        match (&self.format, self.begun) {
            (Format::Json, true) => "\n  ]\n}\n".to_owned(),
            (Format::Json, false) => "{\n  \"stats\": []\n}\n".to_owned(),
            _ => String::new(),
        }
    }
}

/// A line of the text format.
struct Sample<'m> {
    /// Name and labels.
    series: &'m str,
    name: &'m str,
    value: &'m str,
}

impl<'m> Sample<'m> {
    /// `None` for comments.
    fn of(line: &'m str) -> Option<Self> {
        let (series, value) = line.rsplit_once(' ').filter(|_| !line.starts_with('#'))?;
        let name = series.split_once('{').map_or(series, |(name, _)| name);
        Some(Self { series, name, value })
    }

    fn number(&self) -> Value {
        let whole = self.value.parse::<u64>().map(Value::from);
        whole.unwrap_or_else(|_| self.value.parse::<f64>().map_or(self.value.into(), Value::from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: [&str; 2] = ["# TYPE a counter\na{b=\"c d\"} 3\na{b=\"e\"} 0\n", "other 1.5\n"];

    fn ask(query: &str) -> String {
        let mut stats = Stats::asked_for(&Query::parse(Some(query)), "text").unwrap();
        let told: String = LINES.map(|lines| stats.lines(lines.to_owned())).concat();
        told + &stats.end()
    }

    #[test]
    fn metrics_come_in_every_form() {
        assert_eq!(ask(""), "a{b=\"c d\"}: 3\na{b=\"e\"}: 0\nother: 1.5\n");
        assert_eq!(ask("usedonly&filter=^a$"), "a{b=\"c d\"}: 3\n");
        assert_eq!(ask("format=prometheus&filter=oth"), "other 1.5\n");
        assert_eq!(ask("format=prometheus"), LINES.concat());
        let stats = json!({"stats": [{"name": "a{b=\"c d\"}", "value": 3}, {"name": "other", "value": 1.5}]});
        assert_eq!(ask("format=json&usedonly"), format!("{stats:#}\n"));
        assert_eq!(ask("format=json&filter=nothing"), format!("{:#}\n", json!({"stats": []})));
    }

    #[test]
    fn wrong_questions_are_told_as_by_envoy() {
        let problem = |query: &str| Stats::asked_for(&Query::parse(Some(query)), "text").err().unwrap();
        assert!(problem("format=xml").starts_with("usage: /stats?format=("));
        assert!(problem("filter=(").starts_with("Invalid re2 regex: "));
    }
}
