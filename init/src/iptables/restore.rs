//! Writing: a document for `-restore`, handed over as a whole before the program starts.
//!
//! The document and what the program says lie in memory that is no pipe to us, and the program runs in a process group of
//! its own. Whatever becomes of us, alone or with our group, the program reads its document to the end and never waits
//! for, or dies of, a reader that is gone.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, anyhow};
use nix::errno::Errno;
use nix::libc::MFD_NOEXEC_SEAL;
use nix::sys::memfd::{MFdFlags, memfd_create};
use rules::ruleset::Family;

use super::lock::{self, Locking};
use super::{Flavour, diagnosis, find, one_line};

/// A family's rules on their way into the kernel.
pub(crate) struct Restore<'d> {
    program: String,
    family: Family,
    child: Child,
    said: File,
    document: &'d str,
    locking: &'d Locking,
}

impl<'d> Restore<'d> {
    /// Gives `document` to `-restore --noflush`, and does not wait for the end.
    ///
    /// Each step in it is taken as a whole or not at all, and one after the other.
    pub(crate) fn start(
        flavour: Flavour,
        family: Family,
        document: &'d str,
        locking: &'d Locking,
    ) -> Result<Self> {
        let program = flavour.program(family, "restore");
        let path = find(&program)
            .with_context(|| format!("{program} is missing"))
            .context("install the iptables package")?;
        let (input, said) = (memory(document.as_bytes())?, memory(&[])?);
        let stderr = said.try_clone().context("cannot share memory with a program")?;
        let mut command = Command::new(path);
        command.arg("--noflush").stdin(input).stdout(Stdio::null()).stderr(stderr).process_group(0);
        // The nft flavour takes no lock.
        if flavour != Flavour::Nft {
            command.arg(format!("--wait={}", locking.seconds()));
        }
        command.envs(locking.file.as_deref().map(|file| (lock::VARIABLE, file)));
        let child = command.spawn().with_context(|| format!("cannot start {program}"))?;
        Ok(Self { program, family, child, said, document, locking })
    }

    /// Waits until it is done.
    pub(crate) fn finish(mut self) -> Result<()> {
        let status = self.child.wait().with_context(|| format!("cannot wait for {}", self.program))?;
        if status.success() { Ok(()) } else { Err(self.refusal(status)) }
    }

    /// Why it failed: the line itself, not its number alone.
    fn refusal(&self, status: ExitStatus) -> anyhow::Error {
        let Self { program, document, locking, .. } = self;
        let said = self.said().unwrap_or_default();
        let text = one_line(&said);
        if status.code() == Some(4) && text.contains("holding") && text.contains("lock") {
            return locking.not_had().context(format!("{program} said: {text}"));
        }
        let line = failed_line(&text).and_then(|number| document.lines().nth(number.checked_sub(1)?));
        let place = line.map_or_else(String::new, |line| format!(" the line `{line}`"));
        // Legacy iptables gives the kernel a whole table at its end: any line before it may be the one. What the program
        // itself cannot read says nothing of the kernel.
        const UNREADABLE: i32 = 2;
        let may_be = |suspect: &&str| line.is_none_or(|line| line == "COMMIT" || line == *suspect);
        let suspects = document.lines().filter(|_| status.code() != Some(UNREADABLE)).filter(may_be);
        anyhow!("{program} refused{place}: {}", diagnosis(&said, status, self.family, suspects))
    }

    /// What it wrote on standard error, or the beginning of it.
    fn said(&self) -> io::Result<Vec<u8>> {
        const MOST: usize = 64 * 1024;
        let length = usize::try_from(self.said.metadata()?.len()).unwrap_or(MOST).min(MOST);
        let mut said = vec![0; length];
        self.said.read_exact_at(&mut said, 0)?;
        Ok(said)
    }
}

/// A file in memory that holds `content` and is read from its beginning.
fn memory(content: &[u8]) -> Result<File> {
    // Kernels may insist that memory is not for executing (vm.memfd_noexec=2); those before 6.3 do not know the word.
    let never_executed = MFdFlags::MFD_CLOEXEC | MFdFlags::from_bits_retain(MFD_NOEXEC_SEAL);
    let file = memfd_create("postern-init", never_executed).or_else(|error| match error {
        Errno::EINVAL => memfd_create("postern-init", MFdFlags::MFD_CLOEXEC),
        other => Err(other),
    });
    let file = File::from(file.context("cannot make a file in memory for the rules (memfd_create)")?);
    // At a place, which leaves the offset where the program begins to read.
    file.write_all_at(content, 0).context("cannot write the rules into memory")?;
    Ok(file)
}

/// The number in `line 7 failed`, `line 7: …` or `Error occurred at line: 7`.
fn failed_line(text: &str) -> Option<usize> {
    let (_, after) = text.rsplit_once("line")?;
    let digits = after.trim_start_matches([':', ' ']);
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn memory_is_read_from_its_beginning() {
        let mut text = String::new();
        memory(b"*nat\nCOMMIT\n").unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "*nat\nCOMMIT\n");
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
