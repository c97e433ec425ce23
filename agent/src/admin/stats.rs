//! `/stats`: the metrics in Envoy's other forms, `?format=text|json|prometheus`, `?filter=`, `?usedonly`.

use http::StatusCode;
use hyper::body::Bytes;
use regex::Regex;
use serde_json::{Value, json};

use super::{last_line, query::Query};
use crate::interface::{Answer, exposition, json as json_answer, text};

/// The metrics, written for Prometheus, in the form that a query asks for.
pub(super) fn answer(metrics: Bytes, query: &Query, default: &str) -> Answer {
    let format = query.get("format").unwrap_or(default);
    if !["text", "json", "prometheus"].contains(&format) {
        return text(StatusCode::BAD_REQUEST, "usage: /stats?format=(json|prometheus|text)\n\n");
    }
    let filter = match query.get("filter").map(Regex::new).transpose() {
        Ok(filter) => filter,
        Err(error) => {
            return text(StatusCode::BAD_REQUEST, format!("Invalid re2 regex: {}\n", last_line(&error)));
        }
    };
    let used_only = query.has("usedonly");
    let is_wanted = |sample: &Sample<'_>| {
        filter.as_ref().is_none_or(|filter| filter.is_match(sample.name))
            && !(used_only && sample.value == "0")
    };
    let lines = std::str::from_utf8(&metrics).unwrap_or_default().lines();
    let samples = lines.filter_map(Sample::of).filter(is_wanted);
    match format {
        "json" => {
            let stats: Vec<Value> =
                samples.map(|sample| json!({"name": sample.series, "value": sample.number()})).collect();
            json_answer(&json!({"stats": stats}))
        }
        "prometheus" if filter.is_none() && !used_only => exposition(metrics),
        "prometheus" => exposition(
            samples.map(|sample| format!("{} {}\n", sample.series, sample.value)).collect::<String>(),
        ),
        _ => {
            let lines = samples.map(|sample| format!("{}: {}\n", sample.series, sample.value));
            text(StatusCode::OK, lines.collect::<String>())
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
    use http_body_util::BodyExt;

    use super::*;

    fn ask(query: &str) -> (u16, String) {
        let metrics = "# TYPE a counter\na{b=\"c d\"} 3\na{b=\"e\"} 0\nother 1.5\n".into();
        let answer = answer(metrics, &Query::parse(Some(query)), "text");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let status = answer.status().as_u16();
        let body = runtime.block_on(answer.into_body().collect()).unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[test]
    fn metrics_come_in_every_form() {
        assert_eq!(ask("").1, "a{b=\"c d\"}: 3\na{b=\"e\"}: 0\nother: 1.5\n");
        assert_eq!(ask("usedonly&filter=^a$").1, "a{b=\"c d\"}: 3\n");
        assert_eq!(ask("format=prometheus&filter=oth").1, "other 1.5\n");
        assert!(ask("format=prometheus").1.starts_with("# TYPE a counter\n"));
        let json: Value = serde_json::from_str(&ask("format=json&usedonly").1).unwrap();
        let stats = json!([{"name": "a{b=\"c d\"}", "value": 3}, {"name": "other", "value": 1.5}]);
        assert_eq!(json["stats"], stats);
    }

    #[test]
    fn wrong_questions_are_told_as_by_envoy() {
        let (status, said) = ask("format=xml");
        assert!(status == 400 && said.starts_with("usage: /stats?format=("), "{said}");
        let (status, said) = ask("filter=(");
        assert!(status == 400 && said.starts_with("Invalid re2 regex: "), "{said}");
    }
}
