//! The look of access log lines, from the mesh configuration.

use anyhow::{Context, anyhow};
use dataplane::{JsonFormat, LogFormat};
use resources::{AccessLogEncoding, AccessLogFormat, MeshConfig};
use serde_json::Value;
use snapshot::Format;

/// Reads `accessLogFormat` as `accessLogEncoding` says. Operators that always print `-` here are warned about.
///
/// # Errors
/// An operator is not known, or the format of JSON lines is no JSON object.
pub(crate) fn read(mesh: &MeshConfig) -> anyhow::Result<LogFormat> {
    match (mesh.access_log_encoding, &mesh.access_log_format) {
        (AccessLogEncoding::Text, None) => Ok(LogFormat::default()),
        (AccessLogEncoding::Json, None) => Ok(LogFormat::default_json()),
        (AccessLogEncoding::Text, Some(format)) => Ok(LogFormat::text(&parse(&format.text, &format.place)?)),
        (AccessLogEncoding::Json, Some(format)) => json(format),
    }
}

fn parse(text: &str, place: &str) -> anyhow::Result<Format> {
    let format = Format::parse(text).map_err(|wrong| {
        anyhow!(
            "{place}: MeshConfig: accessLogFormat: `{text}` {wrong} (docs/access-log.md lists what there is)"
        )
    })?;
    for operator in format.unavailable() {
        tracing::warn!(
            "{place}: MeshConfig: accessLogFormat: %{operator}% always prints `-` here: Envoy has it, Postern does not"
        );
    }
    Ok(format)
}

fn json(AccessLogFormat { text, place }: &AccessLogFormat) -> anyhow::Result<LogFormat> {
    let object: serde_json::Map<String, Value> = serde_json::from_str(text).with_context(|| {
        format!(
            "{place}: MeshConfig: accessLogFormat: is no JSON object (found `{text}`; expected something like \
             {{\"status\": \"%RESPONSE_CODE%\"}}, or accessLogEncoding TEXT)"
        )
    })?;
    Ok(LogFormat::json(members(object, place)?))
}

fn members(object: serde_json::Map<String, Value>, place: &str) -> anyhow::Result<Vec<(String, JsonFormat)>> {
    object.into_iter().map(|(key, value)| Ok((key, json_value(value, place)?))).collect()
}

fn json_value(value: Value, place: &str) -> anyhow::Result<JsonFormat> {
    Ok(match value {
        Value::String(text) => JsonFormat::Text(parse(&text, place)?),
        Value::Array(values) => {
            let values = values.into_iter().map(|value| json_value(value, place));
            JsonFormat::List(values.collect::<anyhow::Result<_>>()?)
        }
        Value::Object(object) => JsonFormat::Object(members(object, place)?),
        literal => JsonFormat::Literal(literal.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(encoding: AccessLogEncoding, format: &str) -> Result<LogFormat, String> {
        let access_log_format =
            Some(AccessLogFormat { text: format.to_owned(), place: "mesh.yaml:3:18".to_owned() });
        let mesh = MeshConfig { access_log_encoding: encoding, access_log_format, ..MeshConfig::default() };
        super::read(&mesh).map_err(|error| error.to_string())
    }

    #[test]
    fn formats_that_cannot_be_followed_are_refused_with_place_and_operator() {
        let wrong = read(AccessLogEncoding::Text, "%NOPE%").unwrap_err();
        assert_eq!(
            wrong,
            "mesh.yaml:3:18: MeshConfig: accessLogFormat: `%NOPE%` has the unknown operator `%NOPE%` \
             (docs/access-log.md lists what there is)"
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
