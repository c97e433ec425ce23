//! Killed half-way: what is begun is finished by the programs started, a container that ends leaves a state in which
//! everybody reaches whom they reached before or will reach, and the next run puts the rest right.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use rules::ruleset::Family;

use crate::harness::BINARY;
use crate::packets::World;
use crate::steps::{Fates, document, program, restore, start_servers};

#[test]
fn a_change_by_nft_is_finished_or_stands_at_a_step() {
    all_modes("nft");
}

#[test]
fn a_change_by_legacy_iptables_is_finished_or_stands_at_a_step() {
    all_modes("legacy");
}

#[test]
fn a_change_of_native_rules_is_made_or_not() {
    all_modes(NATIVE);
}

const NATIVE: &str = "native";

fn all_modes(backend: &'static str) {
    let Some(world) = World::new() else { return };
    let _servers = start_servers(&world);
    for (from, to) in [("TPROXY", "REDIRECT"), ("REDIRECT", "TPROXY")] {
        Scenario::new(&world, backend, from, to).kill_often();
    }
}

/// Who is killed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Victims {
    /// postern-init alone.
    Init,
    /// Its whole process group.
    Group,
    /// Everything in its process namespace, where it is process 1.
    Container,
}

/// What each family holds, as text; native rules are both families' at once.
type Held = Vec<String>;

/// One way of life replaced by another that differs from it in every table.
struct Scenario<'w> {
    world: &'w World,
    backend: &'static str,
    before: Vec<&'static str>,
    after: Vec<&'static str>,
    /// Who is reached before, and who after.
    fates: Vec<Fates>,
}

impl<'w> Scenario<'w> {
    fn new(world: &'w World, backend: &'static str, from: &'static str, to: &'static str) -> Self {
        let before = vec!["-i", "10.0.0.0/8", "-b", "80", "-m", from, "--ipv6", "on"];
        let after = ["-i", "*", "-b", "*", "--drop-invalid", "--redirect-dns", "--capture-all-dns", "-m", to];
        let after = [&after[..], &["--ipv6", "on"]].concat();
        Self { world, backend, before, after, fates: Vec::new() }
    }

    fn kill_often(&mut self) {
        const MOMENTS: u32 = 20;
        // Tables stay, though empty, once they have been used.
        self.settle(&self.after);
        let old = self.settle(&self.before);
        self.fates.push(Fates::of(self.world));
        let begun = Instant::now();
        let new = self.settle(&self.after);
        let duration = begun.elapsed();
        self.fates.push(Fates::of(self.world));
        assert!(old.iter().zip(&new).all(|(old, new)| old != new) && self.fates[0] != self.fates[1]);
        let steps = self.steps();
        for moment in 0..MOMENTS {
            self.kill_and_look(duration * moment / MOMENTS, Victims::Container, [&old, &new], &steps);
        }
        for moment in (0..MOMENTS).step_by(2) {
            let alone = if moment % 4 == 0 { Victims::Init } else { Victims::Group };
            self.kill_and_look(duration * moment / MOMENTS, alone, [&old, &new], &steps);
        }
        let check = [&["check"], &self.flags(&self.after)[..]].concat();
        self.world.pod.init(&check).ok();
    }

    fn kill_and_look(
        &self,
        delay: Duration,
        victims: Victims,
        [old, new]: [&Held; 2],
        steps: &[Vec<String>; 2],
    ) {
        let about = format!("{} {:?}: {victims:?} after {delay:?}", self.backend, self.after);
        assert_eq!(self.settle(&self.before), *old, "{about}");
        self.kill_after(delay, victims);
        for (family, held) in self.held().iter().enumerate() {
            let finished = [&old[family], &new[family]].contains(&held);
            let stands = victims == Victims::Container && steps[family].contains(held);
            assert!(finished || stands, "{about}: neither old nor new, nor a step: {held}");
        }
        if victims == Victims::Container {
            Fates::of(self.world).expect_either(&self.fates[0], &self.fates[1], &about);
        }
        assert_eq!(self.settle(&self.after), *new, "{about}");
    }

    fn flags(&self, flags: &[&'static str]) -> Vec<&'static str> {
        let backend = if self.backend == NATIVE {
            &["--native-nftables"][..]
        } else {
            &["--force-iptables-binary", self.backend]
        };
        [flags, backend].concat()
    }

    /// Runs to the end, and tells what there is then.
    fn settle(&self, flags: &[&'static str]) -> Held {
        self.world.pod.init(&self.flags(flags)).ok();
        self.held()
    }

    /// What each family holds after each step from the rules of before to those of after.
    fn steps(&self) -> [Vec<String>; 2] {
        if self.backend == NATIVE {
            return Default::default();
        }
        self.settle(&self.before);
        Family::BOTH.map(|family| {
            let document = document(&self.world.pod, self.backend, family, &self.after);
            let mut steps = Vec::new();
            for section in document.split_inclusive("COMMIT\n") {
                restore(&self.world.pod, self.backend, family, section);
                steps.push(self.held_by(family));
            }
            assert!(steps.len() > 3, "{document}");
            steps
        })
    }

    fn held(&self) -> Held {
        if self.backend == NATIVE {
            return vec![self.world.pod.run("nft", &["-s", "list", "ruleset"]).ok().stdout];
        }
        Family::BOTH.map(|family| self.held_by(family)).to_vec()
    }

    fn held_by(&self, family: Family) -> String {
        let saved = self.world.pod.run(&program(self.backend, family, "save"), &[]).ok().stdout;
        let lines = saved.lines().filter(|line| !line.starts_with('#'));
        let without_counters = |line: &str| line.split(" [").next().unwrap_or_default().to_owned() + "\n";
        lines.map(without_counters).collect()
    }

    fn kill_after(&self, delay: Duration, victims: Victims) {
        let flags = self.flags(&self.after);
        let mut command = match victims {
            Victims::Container => {
                let alone = ["--pid", "--fork", "--kill-child", BINARY];
                self.world.pod.command("unshare", &[&alone[..], &flags].concat())
            }
            _ => self.world.pod.command(BINARY, &flags),
        };
        let mut child = command.stderr(Stdio::null()).process_group(0).spawn().unwrap();
        std::thread::sleep(delay);
        let id = Pid::from_raw(child.id().cast_signed());
        match victims {
            Victims::Init | Victims::Container => kill(id, Signal::SIGKILL).unwrap(),
            Victims::Group => killpg(id, Signal::SIGKILL).unwrap(),
        }
        child.wait().unwrap();
        // The programs it has started hold its lock until they are done.
        File::open(self.world.pod.path()).unwrap().lock().unwrap();
    }
}
