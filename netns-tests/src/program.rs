//! Finds the binaries under test, building them when needed, and puts them where every user may run them.

use std::collections::HashMap;
use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};

use crate::namespace::{WORK_ROOT, building, prefix};

/// Path of `name` (`postern-init`, `postern-agent`, `dial`), runnable by any user: a copy in a directory that
/// [`remove_own`](crate::namespace::remove_own) or the next run removes.
///
/// An environment variable such as `POSTERN_AGENT_BIN` wins. Otherwise the workspace's own binary of the same
/// profile is built, which takes no time when it is up to date, so a test never meets yesterday's code.
///
/// # Errors
/// When the variable names no file, or the build fails.
pub fn program(name: &str) -> Result<PathBuf> {
    static STAGED: Mutex<Option<HashMap<String, PathBuf>>> = Mutex::new(None);
    let mut staged = STAGED.lock().unwrap_or_else(PoisonError::into_inner);
    let staged = staged.get_or_insert_default();
    if let Some(path) = staged.get(name) {
        return Ok(path.clone());
    }
    let path = stage(&find(name)?)?;
    staged.insert(name.into(), path.clone());
    Ok(path)
}

/// The environment variable that names the binary `name`.
pub fn variable(name: &str) -> String {
    format!("{}_BIN", name.replace('-', "_").to_uppercase())
}

fn find(name: &str) -> Result<PathBuf> {
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

/// A copy that the proxy's user can reach: a clone below `/root` is closed to it.
fn stage(binary: &Path) -> Result<PathBuf> {
    let _building = building()?;
    let dir = stage_dir();
    fs::create_dir_all(&dir)?;
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))?;
    let name = binary.file_name().context("a binary has a name")?;
    let copy = dir.join(name);
    // Not copied in this process: a child that another thread starts meanwhile would inherit the descriptor open for
    // writing, and the kernel refuses to execute a file that anyone has open so.
    let out = Command::new("install").args(["-m", "0755"]).args([binary, &copy]).output()?;
    if !out.status.success() {
        bail!("cannot copy {}: {}", binary.display(), String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(copy)
}

fn stage_dir() -> PathBuf {
    Path::new(WORK_ROOT).join(format!("{}bin", prefix()))
}
