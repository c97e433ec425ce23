//! `postern-agent validate`: every problem in files and directories of resources, without a proxy.

mod report;

use std::{
    collections::HashMap,
    io::{ErrorKind, Read, stdin, stdout},
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::{Args, ValueEnum};
use resources::{Files, Finding, ReadDefaults, ResourceSet, Severity};
use translate::Proxy;

use report::Format;

use crate::{bootstrap, cli, log_format, mesh};

#[derive(Args, Debug)]
pub(crate) struct ValidateArgs {
    /// Files and directories of YAML or JSON resources; `-` is stdin.
    #[arg(value_name = "FILE|DIR|-", required_unless_present = "mesh_config")]
    paths: Vec<String>,
    /// Namespace of resources that name none.
    #[arg(long, value_name = "NS", env = "POD_NAMESPACE", default_value = "default", value_parser = cli::namespace)]
    namespace: String,
    /// Suffix for short host names; `<namespace>.svc.cluster.local` when absent.
    #[arg(long, value_name = "SUFFIX", env = "DOMAIN_SUFFIX")]
    domain: Option<String>,
    /// Mesh-wide settings to check, as `proxy --mesh-config` takes them.
    #[arg(long, value_name = "FILE")]
    mesh_config: Option<PathBuf>,
    /// How findings are printed.
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    output: Format,
    /// From which severity on a finding makes the exit code 3.
    #[arg(long, value_enum, default_value_t = FailOn::Warning)]
    fail_on: FailOn,
}

/// What makes a validation fail.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum FailOn {
    /// Only what would be refused.
    Error,
    /// Anything that is said.
    Warning,
}

impl FailOn {
    fn least_severity(self) -> Severity {
        match self {
            Self::Error => Severity::Error,
            Self::Warning => Severity::Warning,
        }
    }
}

/// Reads what is named, prints every finding, files in the order in which they are named, and tells whether there was
/// any as severe as `--fail-on` says.
///
/// Fields that nobody knows are errors here, while a running proxy only warns of them.
///
/// # Errors
/// Something that was named cannot be read, or stdout cannot be written.
pub(crate) fn run(args: &ValidateArgs) -> anyhow::Result<bool> {
    let mut files = Files::new(ReadDefaults { namespace: args.namespace.as_str().into() });
    let mut order = HashMap::new();
    for path in &args.paths {
        read(path, &mut files)?;
        for name in files.names() {
            let next = order.len();
            order.entry(name.to_owned()).or_insert(next);
        }
    }
    let (set, mut findings) = files.resources();
    tell_unseen(&set);
    let domain = Proxy::cluster_domain_of(args.domain.as_deref().unwrap_or("cluster.local"));
    findings.extend(translate::review(&set, &bootstrap::resources_alone(), domain));
    let mut findings: Vec<_> = findings.into_iter().map(Finding::strict).collect();
    // The mesh configuration has fields that are nothing to a proxy.
    let of_file = args.mesh_config.as_deref().map(mesh::reading_of_file).transpose()?;
    for reading in mesh::among(&set).into_iter().chain(of_file) {
        findings.extend(log_format::check(&reading.config));
        findings.extend(reading.findings);
    }
    findings.sort_by_cached_key(|finding| {
        let place = finding.place.clone();
        (place.as_ref().map(|place| order.get(&*place.file).copied()), place)
    });
    let count = files.names().count() + usize::from(args.mesh_config.is_some());
    report::print(&findings, count, args.output, &mut stdout().lock()).context("cannot write to stdout")?;
    Ok(findings.iter().any(|finding| finding.severity >= args.fail_on.least_severity()))
}

/// Says which files are not looked at: what is at their paths is known only where the proxy runs.
fn tell_unseen(set: &ResourceSet) {
    let mut paths = set.gateway_certificate_paths();
    paths.extend(set.sidecar_certificate_paths());
    paths.extend(set.client_certificate_paths());
    if let Some(first) = paths.first() {
        tracing::info!(
            first,
            files = paths.len(),
            "certificates that are named by path are not looked at here; a proxy tells in /findings what is wrong with them"
        );
    }
}

/// Reads a file, every resource file of a directory, or stdin for `-`.
///
/// # Errors
/// What is named cannot be read.
pub(crate) fn read(path: &str, files: &mut Files) -> anyhow::Result<()> {
    if path == "-" {
        let mut text = String::new();
        stdin().read_to_string(&mut text).context("cannot read stdin as UTF-8 text")?;
        files.replace_file("stdin", &text);
        return Ok(());
    }
    let path = Path::new(path);
    if !path.is_dir() {
        return read_file(path, files);
    }
    let listed =
        sources::list(path).with_context(|| format!("cannot list directory `{}`", path.display()))?;
    listed.iter().try_for_each(|file| read_file(file, files))
}

fn read_file(path: &Path, files: &mut Files) -> anyhow::Result<()> {
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => files.replace_file(&name, &text),
        Err(error) if error.kind() == ErrorKind::InvalidData => files.mark_unreadable(&name, error),
        Err(error) => {
            return Err(error)
                .with_context(|| format!("cannot read `{name}`; expected a readable file or directory"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_read_like_the_proxy_reads_it_and_a_missing_file_is_named() {
        let directory = std::env::temp_dir().join(format!("postern-validate-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("a.yaml"), "kind: Gatway\n").unwrap();
        std::fs::write(directory.join("notes.txt"), "not: [yaml").unwrap();
        let mut files = Files::new(ReadDefaults::default());
        let read_all = read(directory.to_str().unwrap(), &mut files);
        std::fs::remove_dir_all(&directory).unwrap();
        read_all.unwrap();
        let (_, findings) = files.resources();
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].to_string().contains("a.yaml:1:1"), "{}", findings[0]);
        let missing = read("/nonexistent/x.yaml", &mut files).unwrap_err();
        assert!(missing.to_string().starts_with("cannot read `/nonexistent/x.yaml`"), "{missing}");
    }
}
