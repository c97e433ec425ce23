//! What a pod says of its own proxy: `PROXY_CONFIG`, as injection writes it, and annotation `proxy.istio.io/config`.

use std::{env, path::Path};

use anyhow::{anyhow, bail};
use resources::{ProxyConfig, Rule, Severity};

use crate::{control::report, options};

/// The annotation's settings over those of `PROXY_CONFIG`.
///
/// # Errors
/// One of them cannot be read; a mistake in it must not pass for the mesh's own settings.
pub(crate) fn own() -> anyhow::Result<ProxyConfig> {
    let annotations =
        options::downward_api(Path::new(ANNOTATIONS_FILE)).map_err(|wrong| anyhow!("{wrong}"))?;
    let told = [(VARIABLE, env::var(VARIABLE).ok()), (ANNOTATION, annotations.get(ANNOTATION).cloned())];
    let mut own = ProxyConfig::default();
    for (name, text) in told {
        own = own.overlaid_with(&read(name, &text.unwrap_or_default())?);
    }
    Ok(own)
}

const VARIABLE: &str = "PROXY_CONFIG";
const ANNOTATION: &str = "proxy.istio.io/config";
/// Where injection mounts the pod's annotations.
const ANNOTATIONS_FILE: &str = "/etc/istio/pod/annotations";

/// Reads one of them. Injection writes every setting, so those without effect are named in one line.
fn read(name: &str, text: &str) -> anyhow::Result<ProxyConfig> {
    let (config, findings) = ProxyConfig::read(name, text);
    let is_unused = |rule| rule == Rule::NotSupported;
    let unused: Vec<_> = findings.iter().filter(|finding| is_unused(finding.rule)).collect();
    if !unused.is_empty() {
        let fields: Vec<_> = unused.iter().map(|finding| finding.path.as_str()).collect();
        tracing::warn!("these fields of {name} have no effect: {}", fields.join(" "));
    }
    findings.iter().filter(|finding| !is_unused(finding.rule)).for_each(report);
    if findings.iter().any(|finding| finding.severity == Severity::Error) {
        bail!("{name} is refused, see above; expected a ProxyConfig in JSON or YAML");
    }
    Ok(config)
}
