//! The look of access log lines, from the mesh configuration.

use anyhow::anyhow;
use dataplane::{JsonFormat, LogFormat};
use resources::{AccessLogEncoding, Finding, MeshConfig, Problem, Rule, Severity};
use serde_json::Value;
use snapshot::Format;

/// Reads `accessLogFormat` as `accessLogEncoding` says. Operators that always print `-` here are warned about.
///
/// # Errors
/// An operator is not known, or the format of JSON lines is no JSON object.
pub(crate) fn read(mesh: &MeshConfig) -> anyhow::Result<LogFormat> {
    let mut doubts = Vec::new();
    let format = Reading { doubts: &mut doubts }.of(mesh);
    doubts.into_iter().for_each(|doubt| tracing::warn!("{}", finding(mesh, doubt)));
    format.map_err(|wrong| anyhow!("{}", finding(mesh, wrong)))
}

/// The same of settings that may not end the proxy: a format that cannot be used counts as if it were not written.
pub(crate) fn read_or_default(mesh: &MeshConfig) -> LogFormat {
    read(mesh).unwrap_or_else(|wrong| {
        tracing::error!("{wrong}");
        match mesh.access_log_encoding {
            AccessLogEncoding::Text => LogFormat::default(),
            AccessLogEncoding::Json => LogFormat::default_json(),
        }
    })
}

/// What [`read`] would refuse or warn of.
pub(crate) fn check(mesh: &MeshConfig) -> Vec<Finding> {
    let mut doubts = Vec::new();
    let wrong = Reading { doubts: &mut doubts }.of(mesh).err();
    let wrong = wrong.map(|wrong| Finding { severity: Severity::Error, ..finding(mesh, wrong) });
    wrong.into_iter().chain(doubts.into_iter().map(|doubt| finding(mesh, doubt))).collect()
}

fn finding(mesh: &MeshConfig, problem: Problem) -> Finding {
    Finding {
        severity: Severity::Warning,
        rule: Rule::Invalid,
        place: mesh.access_log_format.as_ref().map(|format| format.place.clone()),
        resource: None,
        path: "MeshConfig: accessLogFormat".to_owned(),
        problem,
    }
}

/// A reading under way, with what it leaves to doubt.
struct Reading<'d> {
    doubts: &'d mut Vec<Problem>,
}

impl Reading<'_> {
    fn of(&mut self, mesh: &MeshConfig) -> Result<LogFormat, Problem> {
        match (mesh.access_log_encoding, &mesh.access_log_format) {
            (AccessLogEncoding::Text, None) => Ok(LogFormat::default()),
            (AccessLogEncoding::Json, None) => Ok(LogFormat::default_json()),
            (AccessLogEncoding::Text, Some(format)) => Ok(LogFormat::text(&self.text(&format.text)?)),
            (AccessLogEncoding::Json, Some(format)) => self.json(&format.text),
        }
    }

    fn text(&mut self, text: &str) -> Result<Format, Problem> {
        let format = Format::parse(text).map_err(|wrong| {
            Problem::new(wrong.to_string()).found(text).remedy("docs/access-log.md lists what there is")
        })?;
        self.doubts.extend(format.unavailable().map(|operator| {
            let problem = Problem::new(format!("%{operator}% always prints `-` here"));
            problem.remedy("remove it: Envoy has it, Postern does not")
        }));
        Ok(format)
    }

    fn json(&mut self, text: &str) -> Result<LogFormat, Problem> {
        let object: serde_json::Map<String, Value> = serde_json::from_str(text).map_err(|wrong| {
            let problem = Problem::new(format!("is no JSON object: {wrong}")).found(text);
            problem.expected("something like {\"status\": \"%RESPONSE_CODE%\"}, or accessLogEncoding TEXT")
        })?;
        Ok(LogFormat::json(self.members(object)?))
    }

    fn members(
        &mut self,
        object: serde_json::Map<String, Value>,
    ) -> Result<Vec<(String, JsonFormat)>, Problem> {
        object.into_iter().map(|(key, value)| Ok((key, self.value(value)?))).collect()
    }

    fn value(&mut self, value: Value) -> Result<JsonFormat, Problem> {
        Ok(match value {
            Value::String(text) => JsonFormat::Text(self.text(&text)?),
            Value::Array(values) => {
                let values = values.into_iter().map(|value| self.value(value));
                JsonFormat::List(values.collect::<Result<_, _>>()?)
            }
            Value::Object(object) => JsonFormat::Object(self.members(object)?),
            literal => JsonFormat::Literal(literal.to_string()),
        })
    }
}

#[cfg(test)]
mod tests {
    use resources::{AccessLogFormat, Place};

    use super::*;

    fn read(encoding: AccessLogEncoding, format: &str) -> Result<LogFormat, String> {
        let access_log_format = Some(AccessLogFormat {
            text: format.to_owned(),
            place: Place { file: "mesh.yaml".into(), line: 3, column: 18 },
        });
        let mesh = MeshConfig { access_log_encoding: encoding, access_log_format, ..MeshConfig::default() };
        super::read(&mesh).map_err(|error| error.to_string())
    }

    #[test]
    fn formats_that_cannot_be_followed_are_refused_with_place_and_operator() {
        let wrong = read(AccessLogEncoding::Text, "%NOPE%").unwrap_err();
        assert_eq!(
            wrong,
            "mesh.yaml:3:18: MeshConfig: accessLogFormat: has the unknown operator `%NOPE%` \
             (found `%NOPE%`; docs/access-log.md lists what there is)"
        );
        let wrong = read(AccessLogEncoding::Json, r#"{"a": {"b": ["%REQ()%"]}}"#).unwrap_err();
        assert!(wrong.contains("has an argument that `%REQ%` does not take"), "{wrong}");
        for text in ["%PROTOCOL%", r#"["a"]"#] {
            let wrong = read(AccessLogEncoding::Json, text).unwrap_err();
            assert!(wrong.contains("is no JSON object"), "{wrong}");
        }
    }

    #[test]
    fn json_may_hold_objects_lists_and_literals() {
        let nested = r#"{"a": {"b": ["%PROTOCOL%", 1, true, null]}}"#;
        let parsed = JsonFormat::Text(Format::parse("%PROTOCOL%").unwrap());
        let literals = ["1", "true", "null"].map(|text| JsonFormat::Literal(text.to_owned()));
        let list = JsonFormat::List([parsed].into_iter().chain(literals).collect());
        let object = JsonFormat::Object(vec![("b".to_owned(), list)]);
        assert_eq!(
            read(AccessLogEncoding::Json, nested).unwrap(),
            LogFormat::json(vec![("a".to_owned(), object)])
        );
    }

    #[test]
    fn the_documented_operators_are_those_there_are() {
        let text = include_str!("../../docs/access-log.md");
        let (there, missing) = text.split_once("## What always prints").unwrap();
        let operators = |text: &str| -> Vec<String> {
            text.split('`')
                .filter(|word| word.starts_with('%') && word.len() > 1)
                .map(str::to_owned)
                .collect()
        };
        for written in operators(there) {
            let format = Format::parse(&written).unwrap_or_else(|wrong| panic!("{written} {wrong}"));
            assert_eq!(format.unavailable().next(), None, "{written}");
        }
        for written in operators(missing) {
            assert_eq!(Format::parse(&written).unwrap().unavailable().count(), 1, "{written}");
        }
        assert!(operators(there).len() > 30 && operators(missing).len() > 8);
    }

    #[test]
    fn the_defaults_are_istios() {
        assert_eq!(super::read(&MeshConfig::default()).unwrap(), LogFormat::default());
        let mesh = MeshConfig { access_log_encoding: AccessLogEncoding::Json, ..MeshConfig::default() };
        assert_eq!(super::read(&mesh).unwrap(), LogFormat::default_json());
    }
}
