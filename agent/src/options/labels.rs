//! Labels of the workload, by which resources select it.

use std::path::Path;

use resources::Labels;

use super::WrongUsage;
use crate::cli::ProxyArgs;

/// Labels from the flag, else from the environment, else from the file that Kubernetes' downward API writes.
pub(super) fn of_workload(args: &ProxyArgs) -> Result<Labels, WrongUsage> {
    if !args.labels.is_empty() {
        return args.labels.iter().map(|label| flag_label(label)).collect();
    }
    if let Ok(json) = std::env::var(METAJSON_LABELS)
        && !json.is_empty()
    {
        return json_labels(&json);
    }
    downward_api(Path::new(LABELS_FILE))
}

const METAJSON_LABELS: &str = "ISTIO_METAJSON_LABELS";
const LABELS_FILE: &str = "/etc/istio/pod/labels";

/// Reads `key=value`.
///
/// # Errors
/// There is no `=`, or nothing before it.
pub(crate) fn flag_label(label: &str) -> Result<(String, String), WrongUsage> {
    let (key, value) = label
        .split_once('=')
        .filter(|(key, _)| !key.is_empty())
        .ok_or_else(|| WrongUsage(format!("invalid label `{label}` in --labels: expected `key=value`")))?;
    Ok((key.to_owned(), value.to_owned()))
}

fn json_labels(json: &str) -> Result<Labels, WrongUsage> {
    serde_json::from_str(json).map_err(|error| {
        WrongUsage(format!(
            "invalid {METAJSON_LABELS}: {error}; expected a JSON object of texts such as {{\"app\":\"web\"}}"
        ))
    })
}

/// Labels or annotations of the pod, as Kubernetes writes them into a file; none where there is no such file.
///
/// # Errors
/// A line is not `key="value"`.
pub(crate) fn downward_api(path: &Path) -> Result<Labels, WrongUsage> {
    // Only pods have the file.
    let Ok(text) = std::fs::read_to_string(path) else { return Ok(Labels::new()) };
    let label = |(index, line): (usize, &str)| {
        let place = format!("{}:{}", path.display(), index + 1);
        let wrong = || WrongUsage(format!("{place}: invalid line `{line}`: expected `key=\"value\"`"));
        let (key, quoted) = line.split_once('=').ok_or_else(wrong)?;
        let value = serde_json::from_str(quoted).map_err(|_| wrong())?;
        Ok((key.to_owned(), value))
    };
    text.lines().enumerate().filter(|(_, line)| !line.is_empty()).map(label).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_are_none_are_named() {
        assert_eq!(flag_label("app=web=1"), Ok(("app".into(), "web=1".into())));
        assert_eq!(flag_label("app").unwrap_err().0, "invalid label `app` in --labels: expected `key=value`");
        assert_eq!(json_labels(r#"{"app":"web"}"#).unwrap()["app"], "web");
        assert!(json_labels("{").unwrap_err().0.starts_with("invalid ISTIO_METAJSON_LABELS: "));
    }

    #[test]
    fn labels_of_the_downward_api_are_read_with_their_quotes() {
        let directory = std::env::temp_dir().join(format!("postern-labels-{}", std::process::id()));
        std::fs::write(&directory, "app=\"web\"\nversion=\"a\\\"b\"\n").unwrap();
        let labels = downward_api(&directory).unwrap();
        std::fs::write(&directory, "app\n").unwrap();
        let wrong = downward_api(&directory).unwrap_err().0;
        std::fs::remove_file(&directory).unwrap();
        assert_eq!((labels["app"].as_str(), labels["version"].as_str()), ("web", "a\"b"));
        assert!(wrong.contains(":1: invalid line `app`"), "{wrong}");
    }
}
