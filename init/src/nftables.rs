//! The program `nft`, for native nftables.

use anyhow::{Context, Result, anyhow, bail};
use rules::nft;

use crate::iptables::{self, Piped};

const PROGRAM: &str = "nft";

/// Gives a script to `nft -f`: all of it takes effect at once, or nothing does.
pub(crate) fn run(script: &str) -> Result<()> {
    tracing::debug!("nft script:\n{script}");
    let piped = Piped::start(PROGRAM, &["-f", "-"], script).map_err(missing)?;
    let (output, written) = piped.finish()?;
    if !output.status.success() {
        bail!("nft refused the rules: {}", iptables::diagnosis(&output));
    }
    written.context("cannot write to nft")
}

/// What our tables hold, as `nft` lists it; for people.
pub(crate) fn listing() -> Result<String> {
    let mut text = String::new();
    for (_, name) in nft::TABLES {
        text.push_str(&list(&["list", "table", "inet", name])?);
    }
    Ok(text)
}

/// Whether one of our tables exists. Without the program `nft` none of them can be ours.
pub(crate) fn holds_own() -> Result<bool> {
    if iptables::find(PROGRAM).is_none() {
        return Ok(false);
    }
    let tables = list(&["list", "tables", "inet"])?;
    Ok(nft::TABLES.iter().any(|(_, name)| tables.lines().any(|line| line == format!("table inet {name}"))))
}

fn list(arguments: &[&str]) -> Result<String> {
    let (output, _) = Piped::start(PROGRAM, arguments, "").map_err(missing)?.finish()?;
    if !output.status.success() {
        bail!("nft cannot list its tables: {}", iptables::diagnosis(&output));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn missing(error: anyhow::Error) -> anyhow::Error {
    anyhow!("{error:#}: install the nftables package, or leave out --native-nftables")
}
