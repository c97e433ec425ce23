//! Killed half-way: every table is whole, what was begun is finished by the programs started, and the next run puts the
//! rest right.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::harness::{BINARY, Namespace, namespace_or_skip};

#[test]
fn nft_tables_are_whole_whenever_it_is_killed() {
    all_modes("nft");
}

#[test]
fn legacy_tables_are_whole_whenever_it_is_killed() {
    all_modes("legacy");
}

fn all_modes(backend: &str) {
    for mode in ["REDIRECT", "TPROXY"] {
        for victims in [Victims::Init, Victims::Everything] {
            let namespace = namespace_or_skip!();
            Scenario::new(&namespace, backend, mode).kill_often(victims);
        }
    }
}

/// Who is killed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Victims {
    /// postern-init alone: the programs it has started live on.
    Init,
    /// Its whole process group, as when a container is killed.
    Everything,
}

/// One way of life replaced by another that differs from it in every table.
struct Scenario<'n> {
    namespace: &'n Namespace,
    before: Vec<&'n str>,
    after: Vec<&'n str>,
}

impl<'n> Scenario<'n> {
    fn new(namespace: &'n Namespace, backend: &'n str, mode: &'n str) -> Self {
        let common = ["-m", mode, "--ipv6", "on", "--force-iptables-binary", backend];
        let before = [&["-i", "10.0.0.0/8", "-b", "80"], &common[..]].concat();
        let other = ["-i", "*", "-b", "*", "--drop-invalid", "--redirect-dns", "--capture-all-dns"];
        let after = [&other[..], &common].concat();
        Self { namespace, before, after }
    }

    fn kill_often(&self, victims: Victims) {
        const MOMENTS: u32 = 20;
        // Tables stay, though empty, once they have been used.
        self.settle(&self.after);
        let old = self.settle(&self.before);
        let begun = Instant::now();
        let new = self.settle(&self.after);
        let duration = begun.elapsed();
        let differ = |(old, new): (&Vec<_>, &Vec<_>)| old.iter().zip(new).all(|(old, new)| old != new);
        assert!(old.iter().zip(&new).all(differ), "{old:#?} {new:#?}");
        for moment in 0..MOMENTS {
            assert_eq!(self.settle(&self.before), old);
            self.kill_after(duration * moment / MOMENTS, victims);
            self.expect_whole(
                &old,
                &new,
                victims,
                &format!("{victims:?} at {moment}/{MOMENTS} of {duration:?}"),
            );
            assert_eq!(self.settle(&self.after), new, "{victims:?} at {moment}/{MOMENTS} of {duration:?}");
        }
    }

    /// Runs to the end, and tells what there is then.
    fn settle(&self, flags: &[&str]) -> Vec<Vec<String>> {
        self.namespace.init(flags).ok();
        self.tables()
    }

    fn kill_after(&self, delay: Duration, victims: Victims) {
        let mut command = self.namespace.command(BINARY, &self.after);
        let mut child = command.stderr(Stdio::null()).process_group(0).spawn().unwrap();
        std::thread::sleep(delay);
        let id = Pid::from_raw(child.id().cast_signed());
        match victims {
            Victims::Init => kill(id, Signal::SIGKILL).unwrap(),
            Victims::Everything => killpg(id, Signal::SIGKILL).unwrap(),
        }
        child.wait().unwrap();
        // The programs it has started hold its lock until they are done.
        File::open(self.namespace.path()).unwrap().lock().unwrap();
    }

    fn expect_whole(&self, old: &[Vec<String>], new: &[Vec<String>], victims: Victims, when: &str) {
        for (family, tables) in self.tables().iter().enumerate() {
            let (old, new) = (&old[family], &new[family]);
            if victims == Victims::Init {
                assert!(tables == old || tables == new, "{when}: neither old nor new: {tables:#?}");
            }
            for (number, table) in tables.iter().enumerate() {
                assert!(*table == old[number] || *table == new[number], "{when}: in part: {table}");
            }
        }
    }

    /// The tables of IPv4 and those of IPv6, each as one text.
    fn tables(&self) -> Vec<Vec<String>> {
        let of_ours = |text: &str| {
            text.split("COMMIT\n").filter(|text| text.contains('*')).map(str::to_owned).collect::<Vec<_>>()
        };
        let rules = self.namespace.rules();
        let families = rules.split("tables-").filter(|text| text.contains("ISTIO_"));
        let families: Vec<_> = families.map(of_ours).collect();
        assert_eq!(families.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3]);
        families
    }
}
