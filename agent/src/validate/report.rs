//! Findings as people, editors and CI systems read them.

use std::io::{self, Write};

use clap::ValueEnum;
use resources::{Finding, Severity};
use serde_json::{Value, json};

/// How findings are printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Format {
    /// A line each and a sum at the end, for people.
    Text,
    /// A list of objects.
    Json,
    /// `FILE:LINE:COLUMN: error: …`, as compilers write it and editors jump to.
    Gcc,
    /// Workflow commands, which GitHub shows at the line.
    Github,
    /// SARIF 2.1.0, which code scanning services take.
    Sarif,
}

/// Prints findings about `files` files.
///
/// # Errors
/// `out` cannot be written.
pub(crate) fn print(
    findings: &[Finding],
    files: usize,
    format: Format,
    out: &mut impl Write,
) -> io::Result<()> {
    match format {
        Format::Text => text(findings, files, out),
        Format::Json => write_json(findings, out),
        Format::Gcc => findings.iter().try_for_each(|finding| {
            writeln!(out, "{}: {}: {}", place(finding), finding.severity, without_place(finding))
        }),
        Format::Github => findings.iter().try_for_each(|finding| writeln!(out, "{}", command(finding))),
        Format::Sarif => write_json(&sarif(findings), out),
    }
}

fn text(findings: &[Finding], files: usize, out: &mut impl Write) -> io::Result<()> {
    for finding in findings {
        writeln!(out, "{}: {finding}", finding.severity)?;
    }
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    writeln!(
        out,
        "{}: {}, {}",
        counted(files, "file"),
        counted(errors, "error"),
        counted(warnings, "warning")
    )
}

fn counted(count: usize, of: &str) -> String {
    if count == 1 { format!("1 {of}") } else { format!("{count} {of}s") }
}

fn write_json(value: &(impl serde::Serialize + ?Sized), out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}

/// `file:line:column`; what is about no file is about the input as a whole.
fn place(finding: &Finding) -> String {
    finding.place.as_ref().map_or_else(|| "input".to_owned(), ToString::to_string)
}

fn without_place(finding: &Finding) -> String {
    Finding { place: None, ..finding.clone() }.to_string()
}

/// The rule's name, as JSON has it.
fn rule(finding: &Finding) -> String {
    match serde_json::to_value(finding.rule) {
        Ok(Value::String(name)) => name,
        _ => String::new(),
    }
}

/// `::error file=a.yaml,line=3,col=7,title=invalid::…` with everything escaped that would end a field.
fn command(finding: &Finding) -> String {
    let data = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    let at = finding.place.as_ref().map_or_else(String::new, |place| {
        let line = match place.line {
            0 => String::new(),
            line => format!("line={line},col={},", place.column),
        };
        format!("file={},{line}", property(&place.file))
    });
    format!("::{} {at}title={}::{}", finding.severity, rule(finding), data(&without_place(finding)))
}

fn sarif(findings: &[Finding]) -> Value {
    let result = |finding: &Finding| {
        let mut result = json!({
            "ruleId": rule(finding),
            "level": finding.severity.to_string(),
            "message": {"text": without_place(finding)},
        });
        if let Some(place) = &finding.place {
            let mut location = json!({"artifactLocation": {"uri": place.file}});
            if place.line > 0 {
                location["region"] = json!({"startLine": place.line, "startColumn": place.column});
            }
            result["locations"] = json!([{"physicalLocation": location}]);
        }
        result
    };
    let mut rules: Vec<_> = findings.iter().map(rule).collect();
    rules.sort();
    rules.dedup();
    let rules: Vec<_> = rules.into_iter().map(|id| json!({"id": id})).collect();
    let driver = json!({"name": "postern-agent", "version": env!("CARGO_PKG_VERSION"), "rules": rules});
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": driver},
            "results": findings.iter().map(result).collect::<Vec<_>>(),
        }],
    })
}

#[cfg(test)]
mod tests {
    use resources::{Files, ReadDefaults};

    use super::*;

    fn printed(format: Format) -> String {
        let mut files = Files::new(ReadDefaults::default());
        files.replace_file("a,b.yaml", "kind: Deployment\n");
        let (_, findings) = files.resources();
        let mut out = Vec::new();
        print(&findings, 1, format, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn people_get_a_line_and_a_sum() {
        let text = printed(Format::Text);
        assert!(
            text.starts_with("warning: a,b.yaml:1:1: ") && text.ends_with("1 file: 0 errors, 1 warning\n"),
            "{text}"
        );
    }

    #[test]
    fn editors_get_the_place_first() {
        let text = printed(Format::Gcc);
        assert!(text.starts_with("a,b.yaml:1:1: warning: ") && text.lines().count() == 1, "{text}");
    }

    #[test]
    fn workflow_commands_escape_what_would_end_a_field() {
        let text = printed(Format::Github);
        assert!(text.starts_with("::warning file=a%2Cb.yaml,line=1,col=1,title="), "{text}");
    }

    #[test]
    fn sarif_names_rule_level_and_region() {
        let sarif: Value = serde_json::from_str(&printed(Format::Sarif)).unwrap();
        let result = &sarif["runs"][0]["results"][0];
        let region = &result["locations"][0]["physicalLocation"]["region"];
        assert_eq!((&result["level"], &region["startLine"]), (&json!("warning"), &json!(1)));
        assert_eq!(result["ruleId"], sarif["runs"][0]["tool"]["driver"]["rules"][0]["id"]);
    }

    #[test]
    fn json_is_a_list_of_findings() {
        let findings: Value = serde_json::from_str(&printed(Format::Json)).unwrap();
        assert_eq!(findings[0]["severity"], "warning");
    }
}
