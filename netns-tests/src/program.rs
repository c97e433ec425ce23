//! Finds the binaries under test, building them when needed, and makes them runnable by every user.

use std::collections::HashMap;
use std::env;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};

/// A path by which children of this process can start `name` (`postern-init`, `postern-agent`, `dial`) as any user.
///
/// # Errors
/// As [`binary`].
pub fn program(name: &str) -> Result<PathBuf> {
    // A build that failed is not tried again for each of a file's tests.
    static FOUND: Mutex<Option<HashMap<String, Result<PathBuf, String>>>> = Mutex::new(None);
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    let path = found.get_or_insert_default().entry(name.into()).or_insert_with(|| {
        let path = binary(name).and_then(|binary| for_any_user(&binary));
        path.map_err(|e| format!("{e:#}"))
    });
    path.clone().map_err(anyhow::Error::msg)
}

/// A path by which children of this process can execute `binary` whatever directories it lies in: a clone below
/// `/root` is closed to the proxy's user. The descriptor behind the path stays open as long as this process.
///
/// # Errors
/// When there is no such file.
pub fn for_any_user(binary: &Path) -> Result<PathBuf> {
    static KEPT: Mutex<Vec<File>> = Mutex::new(Vec::new());
    let file = File::open(binary).with_context(|| format!("the binary {}", binary.display()))?;
    // The kernel follows this link to the file itself; only the file's own permissions count.
    let path = format!("/proc/self/fd/{}", file.as_raw_fd()).into();
    KEPT.lock().unwrap_or_else(PoisonError::into_inner).push(file);
    Ok(path)
}

/// The environment variable that names the binary `name`.
pub fn variable(name: &str) -> String {
    format!("{}_BIN", name.replace('-', "_").to_uppercase())
}

/// Where the binary `name` is.
///
/// An environment variable such as `POSTERN_AGENT_BIN` wins. Otherwise the workspace's own binary of the same
/// profile is built, which takes no time when it is up to date, so a test never meets yesterday's code.
///
/// # Errors
/// When the variable names no file, or the build fails.
pub fn binary(name: &str) -> Result<PathBuf> {
    let variable = variable(name);
    if let Some(path) = env::var_os(&variable).filter(|value| !value.is_empty()) {
        let path = PathBuf::from(path);
        if !path.is_file() {
            bail!("no file `{}` in {variable}: expected the path of the {name} binary", path.display());
        }
        return Ok(path);
    }
    let profile_dir = profile_dir()?;
    build(name, &profile_dir)?;
    Ok(profile_dir.join(name))
}

fn build(name: &str, profile_dir: &Path) -> Result<()> {
    let target = profile_dir.parent().context("the build directory has no parent")?;
    let profile = profile_dir.file_name().and_then(|p| p.to_str()).filter(|p| *p != "debug").unwrap_or("dev");
    let package = if name.starts_with("postern-") { name } else { env!("CARGO_PKG_NAME") };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let out = Command::new(&cargo)
        .args(["build", "--quiet", "--package", package, "--bin", name, "--profile", profile, "--target-dir"])
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .with_context(|| format!("cannot run {} to build {name}", cargo.display()))?;
    if !out.status.success() {
        bail!("cargo build of {name}: {}", String::from_utf8_lossy(&out.stderr));
    }
    Ok(())
}

/// `target/debug` of `target/debug/deps/outbound-1a2b3c`, or of `target/debug/demo`.
fn profile_dir() -> Result<PathBuf> {
    let exe = env::current_exe().context("cannot tell the path of this program")?;
    let dir = exe.parent().context("this program has no directory")?;
    let dir = if dir.ends_with("deps") { dir.parent().unwrap_or(dir) } else { dir };
    Ok(dir.to_path_buf())
}
