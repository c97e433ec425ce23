//! Mesh-wide settings: in the file that `--mesh-config` names, else in Istio's own ConfigMap among the resources.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use resources::{
    ClientTls, Files, Finding, MeshConfig, MeshReading, Problem, ReadDefaults, ResourceSet, Rule, Severity,
};
use translate::MeshOptions;

use crate::control::report;

/// The settings in a file, or what can be read of those among the resources in some directories, or the defaults.
///
/// # Errors
/// The file cannot be read or is refused. What is wrong among the resources is told when they are translated.
pub(crate) fn at_start(file: Option<&Path>, directories: &[PathBuf]) -> anyhow::Result<MeshConfig> {
    if let Some(file) = file {
        return of_file(file);
    }
    let reading = among(&config_maps(directories)).unwrap_or_default();
    if reading.whole().is_none() {
        tracing::error!(
            outbound_traffic_policy = ?reading.config.outbound_traffic_policy,
            "something in the mesh configuration cannot be read, as told below: the rest of it holds"
        );
    }
    Ok(reading.config)
}

/// # Errors
/// The file cannot be read or is refused.
pub(crate) fn of_file(path: &Path) -> anyhow::Result<MeshConfig> {
    let reading = reading_of_file(path)?;
    reading.findings.iter().for_each(report);
    reading
        .whole()
        .cloned()
        .with_context(|| format!("`{}` given by --mesh-config is refused, see above", path.display()))
}

/// What the file says, with what is wrong in it.
///
/// # Errors
/// The file cannot be read, or is something else.
pub(crate) fn reading_of_file(path: &Path) -> anyhow::Result<MeshReading> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read `{}` given by --mesh-config", path.display()))?;
    read(&path.display().to_string(), &text)
}

/// Settings as a file of their own, or in the ConfigMap that Istio's installation has them in.
fn read(name: &str, text: &str) -> anyhow::Result<MeshReading> {
    let mut files = Files::new(ReadDefaults::default());
    files.replace_file(name, text);
    let (set, findings) = files.resources();
    match set.config_maps() {
        [] => {
            let reading = MeshConfig::read(name, text);
            let says = |field: &str| reading.findings.iter().any(|finding| finding.path == field);
            if says("apiVersion") && says("kind") {
                bail!("`{name}` given by --mesh-config is another resource; expected the ConfigMap that holds MeshConfig, or MeshConfig itself");
            }
            Ok(reading)
        }
        _ if findings.iter().any(|finding| finding.severity == Severity::Error) => {
            findings.iter().for_each(report);
            bail!("`{name}` given by --mesh-config is refused, see above")
        }
        [map] => MeshConfig::of_config_map(map).with_context(|| {
            format!("`{name}` given by --mesh-config is a ConfigMap without `data.mesh`; expected Istio's own, or MeshConfig itself")
        }),
        several => bail!(
            "`{name}` given by --mesh-config holds {} ConfigMaps; expected one, or MeshConfig itself",
            several.len()
        ),
    }
}

/// The settings in ConfigMap `istio-system/istio`, which the installation of Istio writes.
pub(crate) fn among(resources: &ResourceSet) -> Option<MeshReading> {
    let namespace = MeshOptions::default().root_namespace;
    let mut maps = resources.config_maps().iter();
    let map = maps.find(|map| map.meta.name() == "istio" && map.meta.namespace() == namespace)?;
    MeshConfig::of_config_map(map)
}

/// Paths of the certificates and keys that the settings among the resources name.
pub(crate) fn certificate_paths(resources: &ResourceSet) -> Vec<String> {
    let of_mesh = among(resources).and_then(|reading| reading.config.outbound_tls);
    of_mesh.iter().flat_map(ClientTls::paths).map(str::to_owned).collect()
}

/// The ConfigMaps of some directories; all else in them is left for later.
fn config_maps(directories: &[PathBuf]) -> ResourceSet {
    let mut files = Files::new(ReadDefaults::default());
    let listed = directories.iter().filter_map(|directory| sources::list(directory).ok()).flatten();
    for file in listed {
        if let Ok(text) = std::fs::read_to_string(&file)
            && text.contains("ConfigMap")
        {
            files.replace_file(&file.display().to_string(), &text);
        }
    }
    files.resources().0
}

/// What is read at the start only and has changed since.
pub(crate) fn needs_restart(start: &MeshConfig, now: &MeshConfig) -> Option<Finding> {
    let access_log = |config: &MeshConfig| {
        (config.access_log_file.clone(), config.access_log_encoding, config.access_log_format.clone())
    };
    let what = match () {
        () if access_log(start) != access_log(now) => "the access log",
        () if start.gateway_proxy_protocol != now.gateway_proxy_protocol => "the PROXY protocol of gateways",
        () if start.gateway_trusted_proxies != now.gateway_trusted_proxies => "proxies before gateways",
        () if start.connection_limit != now.connection_limit => "how many connections clients may have",
        () => return None,
    };
    Some(Finding {
        severity: Severity::Warning,
        rule: Rule::NotSupported,
        place: None,
        resource: None,
        path: String::new(),
        problem: Problem::new(format!(
            "what the mesh configuration says of {what} has changed since the start"
        ))
        .remedy("restart the proxy for it to take effect"),
    })
}

/// The part that translation reads.
pub(crate) fn options(mesh: &MeshConfig) -> MeshOptions {
    let defaults = MeshOptions::default();
    MeshOptions {
        outbound_traffic_policy: mesh.outbound_traffic_policy,
        outbound_tls: mesh.outbound_tls.clone(),
        inbound_traffic_policy: mesh.inbound_traffic_policy,
        path_normalization: mesh.path_normalization,
        default_retries: mesh.default_http_retry_policy.clone(),
        default_traffic_policy: mesh.default_traffic_policy.clone(),
        defaults: mesh.defaults.clone(),
        connect_timeout: mesh.connect_timeout.unwrap_or(defaults.connect_timeout),
        root_namespace: mesh.root_namespace.clone().unwrap_or_else(|| defaults.root_namespace.clone()),
        gateway_forward_client_cert: mesh.gateway_forward_client_cert,
        proxy_headers: mesh.proxy_headers.clone(),
        connection_settings: mesh.connection_settings,
        trusted_proxies: mesh.gateway_trusted_proxies,
        access_log: mesh.access_log_file.is_some(),
        auto_mtls: mesh.enable_auto_mtls.unwrap_or(defaults.auto_mtls),
        mesh_mtls: mesh.mesh_mtls.clone(),
        tls_defaults: mesh.tls_defaults.clone(),
        trust_domain: (mesh.trust_domain.clone().filter(|name| !name.is_empty()))
            .unwrap_or_else(|| defaults.trust_domain.clone()),
        trust_domain_aliases: mesh.trust_domain_aliases.clone(),
        ..defaults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_map(limit: &str) -> MeshConfig {
        let directory = tempfile::tempdir().unwrap();
        let text = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata:\n  mesh: |\n    \
             accessLogFile: /dev/stdout\n    defaultConfig:\n      runtimeValues: \
             {{overload.global_downstream_max_connections: \"{limit}\"}}\n"
        );
        std::fs::write(directory.path().join("mesh.yaml"), text).unwrap();
        at_start(None, &[directory.path().to_path_buf()]).unwrap()
    }

    #[test]
    fn a_limit_of_connections_with_a_mistake_limits_nothing() {
        let config = of_map("5k");
        assert_eq!(config.access_log_file.as_deref(), Some("/dev/stdout"));
        assert_eq!(config.connection_limit.beside(None), None);
        assert_eq!(of_map("5000").connection_limit.beside(None), Some(5000));
    }

    #[test]
    fn a_limit_of_connections_that_changes_asks_for_a_restart() {
        let finding = needs_restart(&of_map("5"), &of_map("6")).unwrap().to_string();
        assert!(finding.contains("how many connections clients may have has changed"), "{finding}");
        assert_eq!(needs_restart(&of_map("5"), &of_map("5")), None);
    }
}
