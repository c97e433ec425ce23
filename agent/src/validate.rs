//! `postern-agent validate`: every problem in files and directories of resources, without a proxy.

mod report;

use std::{
    io::{ErrorKind, Read, stdin, stdout},
    path::Path,
};

use anyhow::Context;
use resources::{Files, Finding, ReadDefaults};
use translate::Proxy;

pub(crate) use report::Format;

use crate::{bootstrap, cli::ValidateArgs};

/// Reads what is named, prints every finding in the order of its place, and tells whether there was any.
///
/// Fields that nobody knows are errors here, while a running proxy only warns of them.
///
/// # Errors
/// Something that was named cannot be read, or stdout cannot be written.
pub(crate) fn run(args: &ValidateArgs) -> anyhow::Result<bool> {
    let mut files = Files::new(ReadDefaults { namespace: args.namespace.as_str().into() });
    for path in &args.paths {
        read(path, &mut files)?;
    }
    let (set, mut findings) = files.resources();
    let domain = Proxy::cluster_domain_of(args.domain.as_deref().unwrap_or("cluster.local"));
    findings.extend(translate::review(&set, &bootstrap::resources_alone(), domain));
    let mut findings: Vec<_> = findings.into_iter().map(Finding::strict).collect();
    // As one reads the files.
    findings.sort_by(|a, b| a.place.cmp(&b.place));
    let count = files.names().count();
    report::print(&findings, count, args.output, &mut stdout().lock()).context("cannot write to stdout")?;
    Ok(!findings.is_empty())
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
            return Err(error).with_context(|| format!("cannot read `{name}`; expected a readable file"));
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
