//! Reads lines of the agent's access log in Istio's default text format.

use anyhow::{Context, Result, ensure};

/// What one access log line says about a request. A field without a value reads `-`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AccessLogLine {
    /// `METHOD PATH PROTOCOL`.
    pub request: String,
    /// Status code sent to the client.
    pub status: u16,
    /// Envoy's response flags, such as `UF`, `NR`.
    pub flags: String,
    /// `via_upstream`, `route_not_found`, …
    pub details: String,
    /// The Host that was asked for.
    pub authority: String,
    /// The endpoint chosen.
    pub upstream_host: String,
    /// The cluster chosen, such as `outbound|80||reviews.default.svc.cluster.local`.
    pub cluster: String,
    /// The proxy's own end of the upstream connection.
    pub upstream_local: String,
    /// Where the client's connection was going: the original destination of a captured connection.
    pub downstream_local: String,
    /// The client.
    pub downstream_remote: String,
    /// The route's name.
    pub route: String,
}

impl AccessLogLine {
    /// Reads one line.
    ///
    /// # Errors
    /// When it has not the 22 fields of the default format, or its status is no number.
    pub fn parse(line: &str) -> Result<Self> {
        let fields = split(line);
        ensure!(
            fields.len() == FIELDS,
            "{} fields instead of {FIELDS} in the access log line {line}",
            fields.len()
        );
        let field = |index: usize| fields[index].to_string();
        let status = fields[2].parse().with_context(|| format!("status `{}` in {line}", fields[2]))?;
        Ok(Self {
            request: field(1),
            status,
            flags: field(3),
            details: field(4),
            authority: field(14),
            upstream_host: field(15),
            cluster: field(16),
            upstream_local: field(17),
            downstream_local: field(18),
            downstream_remote: field(19),
            route: field(21),
        })
    }
}

const FIELDS: usize = 22;

/// Splits at blanks; what is bracketed or quoted at the beginning of a field is one field, without its marks.
fn split(line: &str) -> Vec<&str> {
    let mut fields = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() {
        let end = match rest.as_bytes()[0] {
            b'"' => Some(('"', 1)),
            b'[' if fields.is_empty() => Some((']', 1)),
            _ => None,
        };
        let (field, after) = match end {
            Some((mark, skip)) => rest[skip..].split_once(mark).unwrap_or((&rest[skip..], "")),
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        fields.push(field);
        rest = after.trim_start();
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_line_is_read_field_by_field() {
        let line = AccessLogLine::parse(
            "[2026-01-02T03:04:05.678Z] \"GET /a b HTTP/1.1\" 200 - via_upstream - \"-\" 0 84 3 2 \"-\" \"curl/8\" \
             \"-\" \"reviews\" \"[fd77::3]:8080\" outbound|80||reviews [fd77::2]:40002 [fd96::10]:80 \
             [fd77::2]:40000 - default\n",
        )
        .unwrap();
        assert_eq!(line.request, "GET /a b HTTP/1.1");
        assert_eq!((line.status, line.flags.as_str(), line.authority.as_str()), (200, "-", "reviews"));
        assert_eq!(line.upstream_host, "[fd77::3]:8080");
        assert_eq!(line.cluster, "outbound|80||reviews");
        assert_eq!((line.downstream_local.as_str(), line.route.as_str()), ("[fd96::10]:80", "default"));
    }

    #[test]
    fn another_format_is_an_error() {
        assert!(AccessLogLine::parse("GET / 200").is_err());
        assert!(AccessLogLine::parse("").is_err());
    }
}
