//! The programs of iptables: reading with `-save`, writing with `-restore`. The one place that starts processes.

use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use rules::parse::{Found, parse};
use rules::ruleset::Family;

pub(crate) use restore::Restore;

pub(crate) mod lock;
mod remedy;
mod restore;

/// Which of the iptables programs are used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Flavour {
    /// `iptables-nft`: rules in nftables.
    Nft,
    /// `iptables-legacy`: rules in ip_tables.
    Legacy,
    /// `iptables`, whatever it is.
    Plain,
}

impl Flavour {
    /// The name of a program, such as `ip6tables-nft-save`.
    pub(crate) fn program(self, family: Family, verb: &str) -> String {
        let family = match family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        };
        match self {
            Self::Nft => format!("{family}-nft-{verb}"),
            Self::Legacy => format!("{family}-legacy-{verb}"),
            Self::Plain => format!("{family}-{verb}"),
        }
    }
}

/// Why the rules of one family could not be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Unusable {
    /// The program.
    pub(crate) program: String,
    /// What is wrong with it, and what to do.
    pub(crate) reason: String,
}

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.program, self.reason)
    }
}

/// What the kernel holds for both families, read side by side: IPv4, IPv6. Changes nothing.
pub(crate) fn save(flavour: Flavour) -> [Result<Found, Unusable>; 2] {
    let [v4, v6] = Family::BOTH.map(|family| start_save(flavour, family, &[]));
    [finish_save(flavour, Family::V4, v4), finish_save(flavour, Family::V6, v6)]
}

/// What the kernel holds for one family, with counters.
pub(crate) fn save_counters(flavour: Flavour, family: Family) -> Result<Found, Unusable> {
    finish_save(flavour, family, start_save(flavour, family, &["-c"]))
}

fn start_save(flavour: Flavour, family: Family, arguments: &[&str]) -> Result<Child, Unusable> {
    let program = flavour.program(family, "save");
    let unusable = |reason: String| Unusable { program: program.clone(), reason };
    let path = find(&program).ok_or_else(|| unusable("missing: install the iptables package".to_owned()))?;
    let child = Command::new(path)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    child.map_err(|error| unusable(format!("cannot be started: {error}")))
}

fn wait(program: &str, family: Family, child: Child) -> Result<String, Unusable> {
    let unusable = |reason: String| Unusable { program: program.to_owned(), reason };
    let output = child.wait_with_output().map_err(|error| unusable(error.to_string()))?;
    if !output.status.success() {
        return Err(unusable(diagnosis(&output.stderr, output.status, family, std::iter::empty())));
    }
    String::from_utf8(output.stdout).map_err(|_| unusable("printed something that is not UTF-8".to_owned()))
}

fn finish_save(flavour: Flavour, family: Family, child: Result<Child, Unusable>) -> Result<Found, Unusable> {
    let program = flavour.program(family, "save");
    let text = wait(&program, family, child?)?;
    parse(family, &text).map_err(|error| Unusable { program, reason: error.to_string() })
}

/// What stood on standard error, and what usually helps. `lines` are those that can be what was refused.
fn diagnosis<'l>(
    said: &[u8],
    status: ExitStatus,
    family: Family,
    lines: impl Iterator<Item = &'l str>,
) -> String {
    let text = one_line(said);
    let code = status.code().map_or_else(|| "a signal".to_owned(), |code| format!("exit code {code}"));
    let remedy = remedy::remedy(&text, family, lines);
    let text = if text.is_empty() { "no message".to_owned() } else { text };
    format!("{text} ({code}){remedy}")
}

fn one_line(bytes: &[u8]) -> String {
    const BEYOND: &str = "Try `";
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(BEYOND));
    lines.collect::<Vec<_>>().join("; ")
}

/// Where a program is: by `PATH`, and in the usual places, which the path of an unprivileged user may lack.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(usual)
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_named_by_family_and_flavour() {
        assert_eq!(Flavour::Nft.program(Family::V6, "save"), "ip6tables-nft-save");
        assert_eq!(Flavour::Plain.program(Family::V4, "restore"), "iptables-restore");
    }
}
