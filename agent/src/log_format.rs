//! The look of access log lines, from the mesh configuration.

use anyhow::{Context, bail};
use dataplane::LogFormat;
use resources::{AccessLogEncoding, MeshConfig};
use serde_json::Value;
use snapshot::Format;

/// Reads `accessLogFormat` as `accessLogEncoding` says.
///
/// # Errors
/// An operator is not known, or the format of JSON lines is no JSON object of texts.
pub(crate) fn read(mesh: &MeshConfig) -> anyhow::Result<LogFormat> {
    match (mesh.access_log_encoding, mesh.access_log_format.as_deref()) {
        (AccessLogEncoding::Text, None) => Ok(LogFormat::default()),
        (AccessLogEncoding::Json, None) => Ok(LogFormat::default_json()),
        (AccessLogEncoding::Text, Some(format)) => Ok(LogFormat::text(&parse(format)?)),
        (AccessLogEncoding::Json, Some(format)) => json(format),
    }
}

fn parse(format: &str) -> anyhow::Result<Format> {
    match Format::parse(format) {
        Ok(format) => Ok(format),
        Err(wrong) => bail!("accessLogFormat `{format}` {wrong}"),
    }
}

fn json(text: &str) -> anyhow::Result<LogFormat> {
    const EXPECTED: &str = "accessLogFormat for accessLogEncoding JSON is no JSON object of texts; \
                            expected something like {\"status\": \"%RESPONSE_CODE%\"}";
    let object: serde_json::Map<String, Value> = serde_json::from_str(text).context(EXPECTED)?;
    let value = |(key, value): (String, Value)| match value.as_str() {
        Some(format) => Ok((key, parse(format)?)),
        None => bail!("{EXPECTED}: `{key}` is {value}"),
    };
    let values: Vec<_> = object.into_iter().map(value).collect::<anyhow::Result<_>>()?;
    Ok(LogFormat::json(&values))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(encoding: AccessLogEncoding, format: &str) -> Result<LogFormat, String> {
        let access_log_format = Some(format.to_owned());
        let mesh = MeshConfig { access_log_encoding: encoding, access_log_format, ..MeshConfig::default() };
        super::read(&mesh).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn formats_that_cannot_be_followed_are_refused_with_the_operator() {
        let wrong = read(AccessLogEncoding::Text, "%NOPE%").unwrap_err();
        assert_eq!(wrong, "accessLogFormat `%NOPE%` has the unknown operator `%NOPE%`");
        let wrong = read(AccessLogEncoding::Json, r#"{"a": "%REQ()%"}"#).unwrap_err();
        assert!(wrong.contains("has an argument that `%REQ%` does not take"), "{wrong}");
        for text in ["%PROTOCOL%", r#"{"a": 1}"#] {
            let wrong = read(AccessLogEncoding::Json, text).unwrap_err();
            assert!(wrong.contains("is no JSON object of texts"), "{wrong}");
        }
    }

    #[test]
    fn the_defaults_are_istios() {
        assert_eq!(super::read(&MeshConfig::default()).unwrap(), LogFormat::default());
        let mesh = MeshConfig { access_log_encoding: AccessLogEncoding::Json, ..MeshConfig::default() };
        assert_eq!(super::read(&mesh).unwrap(), LogFormat::default_json());
        assert!(read(AccessLogEncoding::Json, r#"{"a": "%PROTOCOL%"}"#).is_ok());
    }
}
