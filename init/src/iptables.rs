//! The programs of iptables: reading with `-save`, writing with `-restore`. The one place that starts processes.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, Result, anyhow};
use rules::parse::{Found, parse};
use rules::ruleset::Family;

use lock::Locking;

pub(crate) mod lock;

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

fn wait(program: &str, child: Child) -> Result<String, Unusable> {
    let unusable = |reason: String| Unusable { program: program.to_owned(), reason };
    let output = child.wait_with_output().map_err(|error| unusable(error.to_string()))?;
    if !output.status.success() {
        return Err(unusable(diagnosis(&output)));
    }
    String::from_utf8(output.stdout).map_err(|_| unusable("printed something that is not UTF-8".to_owned()))
}

fn finish_save(flavour: Flavour, family: Family, child: Result<Child, Unusable>) -> Result<Found, Unusable> {
    let program = flavour.program(family, "save");
    let text = wait(&program, child?)?;
    parse(family, &text).map_err(|error| Unusable { program, reason: error.to_string() })
}

/// What stood on standard error, and what usually helps.
fn diagnosis(output: &Output) -> String {
    let text = one_line(&output.stderr);
    let code = output.status.code().map_or_else(|| "a signal".to_owned(), |code| format!("exit code {code}"));
    let remedy = remedy(&text);
    let text = if text.is_empty() { "no message".to_owned() } else { text };
    format!("{text} ({code}){remedy}")
}

fn remedy(text: &str) -> &'static str {
    let any = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if any(&["ermission denied", "not permitted", "must be root"]) {
        "; it needs the capabilities NET_ADMIN and NET_RAW"
    } else if any(&[
        "Table does not exist",
        "can't initialize",
        "do you need to insmod",
        "rotocol not supported",
    ]) {
        "; the kernel lacks a module: load it on the node with `modprobe -a iptable_nat iptable_mangle iptable_raw` \
         (legacy) or `modprobe -a nf_tables nft_chain_nat nft_compat` (nft)"
    } else if any(&["No such file or directory", "No chain/target/match by that name", "Couldn't load"]) {
        "; the kernel may lack a match or target: load it on the node with `modprobe -a xt_owner xt_REDIRECT \
         xt_conntrack xt_multiport xt_comment xt_mark xt_connmark xt_TPROXY xt_CT`"
    } else {
        ""
    }
}

/// A program that has been given its input and is on its way.
struct Piped {
    program: String,
    child: Child,
    written: std::io::Result<()>,
}

impl Piped {
    /// Starts `program` with a variable more, gives it `input`, and does not wait for the end.
    fn start(
        program: &str,
        arguments: &[&str],
        input: &str,
        variable: Option<(&str, &Path)>,
    ) -> Result<Self> {
        let path = find(program).with_context(|| format!("{program} is missing"))?;
        let mut command = Command::new(path);
        command
            .envs(variable)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {program}"))?;
        let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(input.as_bytes()));
        Ok(Self { program: program.to_owned(), child, written })
    }

    /// Waits for the end: what the program said, and whether it took all its input.
    fn finish(self) -> Result<(Output, std::io::Result<()>)> {
        let output =
            self.child.wait_with_output().with_context(|| format!("cannot wait for {}", self.program))?;
        Ok((output, self.written))
    }
}

/// A family's rules on their way into the kernel.
pub(crate) struct Restore<'d> {
    piped: Piped,
    document: &'d str,
    locking: &'d Locking,
}

impl<'d> Restore<'d> {
    /// Gives `document` to `-restore --noflush`, and does not wait for the end.
    ///
    /// Each table in it changes in one step or not at all.
    pub(crate) fn start(
        flavour: Flavour,
        family: Family,
        document: &'d str,
        locking: &'d Locking,
    ) -> Result<Self> {
        let program = flavour.program(family, "restore");
        let wait = format!("--wait={}", locking.seconds());
        // The nft flavour takes no lock.
        let arguments: &[&str] = if flavour == Flavour::Nft { &["--noflush"] } else { &["--noflush", &wait] };
        let lock_file = locking.file.as_deref().map(|file| (lock::VARIABLE, file));
        let piped =
            Piped::start(&program, arguments, document, lock_file).context("install the iptables package")?;
        Ok(Self { piped, document, locking })
    }

    /// Waits until it is done.
    pub(crate) fn finish(self) -> Result<()> {
        let Self { piped, document, locking } = self;
        let program = piped.program.clone();
        let (output, written) = piped.finish()?;
        if output.status.success() {
            return written.with_context(|| format!("cannot write to {program}"));
        }
        Err(refusal(&program, document, &output, locking))
    }
}

/// Why a restore failed: the line itself, not its number alone.
fn refusal(program: &str, document: &str, output: &Output, locking: &Locking) -> anyhow::Error {
    let text = one_line(&output.stderr);
    if output.status.code() == Some(4) && text.contains("lock") {
        let holder =
            locking.holder().map_or_else(|| "another program".to_owned(), |pid| format!("process {pid}"));
        return anyhow!(
            "{program} did not get the lock of iptables within {} seconds: {holder} holds it; wait for it, or raise \
             --lock-wait ({text})",
            locking.seconds()
        );
    }
    let line = failed_line(&text).and_then(|number| document.lines().nth(number.checked_sub(1)?));
    let place = line.map_or_else(String::new, |line| format!(" the line `{line}`"));
    anyhow!("{program} refused{place}: {}", diagnosis(output))
}

/// The number in `line 7 failed`, `line 7: …` or `Error occurred at line: 7`.
fn failed_line(text: &str) -> Option<usize> {
    let (_, after) = text.rsplit_once("line")?;
    let digits = after.trim_start_matches([':', ' ']);
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok()
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

    #[test]
    fn the_failed_line_is_found_in_every_wording() {
        assert_eq!(failed_line("iptables-restore: line 5 failed"), Some(5));
        assert_eq!(failed_line("bad port `x'; Error occurred at line: 12"), Some(12));
        assert_eq!(failed_line("line 7: RULE_APPEND failed (No such file): rule in chain OUTPUT"), Some(7));
        assert_eq!(failed_line("Another app is holding the lock"), None);
        assert_eq!(failed_line("line 99999999999999999999999 failed"), None);
    }
}
