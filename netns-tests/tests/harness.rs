//! The harness itself: what it promises to the scenarios and to the machine it runs on.

use std::fs;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use netns_tests::program::for_any_user;
use netns_tests::{Network, Pod, Rule, holds_only_by, namespace, needs_root};

#[test]
fn a_network_is_removed_when_its_test_panics() -> Result<()> {
    needs_root!();
    let mut names = Vec::new();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let network = Network::new().unwrap();
        let pod = network.pod("doomed").unwrap();
        names.push(pod.namespace().name().to_string());
        names.push(pod.namespace().name().replace("-doomed", "-net"));
        assert!(names.iter().all(|name| exists(name)), "the namespaces {names:?} were made");
        std::panic::resume_unwind(Box::new("a test that fails"));
    }));
    ensure!(panicked.is_err() && names.len() == 2, "the test did not get as far as its panic");
    ensure!(!names.iter().any(|name| exists(name)), "still there: {names:?}");
    Ok(())
}

#[test]
fn leftovers_of_a_killed_run_are_removed_with_their_processes() -> Result<()> {
    needs_root!();
    // A pid that was in use a moment ago is nobody's now.
    let mut gone = Command::new("true").spawn()?;
    gone.wait()?;
    let name = format!("pt-{}-0-pod", gone.id());
    let dir = Path::new("/tmp").join(&name);
    run(&["ip", "netns", "add", &name])?;
    fs::create_dir(&dir)?;
    let inside = [&format!("--net=/run/netns/{name}"), "sh", "-c", "echo; exec sleep 60"];
    let mut survivor = Command::new("nsenter").args(inside).stdout(Stdio::piped()).spawn()?;
    survivor.stdout.take().context("its output")?.read_exact(&mut [0])?;
    namespace::remove_leftovers();
    let status = survivor.wait()?;
    ensure!(status.signal() == Some(9), "the process in it ended by itself: {status}");
    ensure!(!exists(&name) && !dir.exists(), "still there: {name}");
    Ok(())
}

#[test]
fn what_a_living_process_owns_is_no_leftover() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let pod = network.pod("alive")?;
    namespace::remove_leftovers();
    ensure!(exists(pod.namespace().name()), "{} was removed under its owner", pod.namespace().name());
    Ok(())
}

#[test]
fn without_root_a_test_is_skipped_aloud_or_fails_where_skipping_is_forbidden() -> Result<()> {
    needs_root!();
    let tests = for_any_user(&std::env::current_exe()?)?;
    let ((passed, said), (passed_anyway, _)) = (as_nobody(&tests, "0")?, as_nobody(&tests, "1")?);
    ensure!(
        passed && said.contains("skipped: what_a_living_process_owns_is_no_leftover needs root"),
        "said {said:?}"
    );
    ensure!(!passed_anyway, "REQUIRE_NETNS=1 let a skipped test pass");
    Ok(())
}

#[test]
fn a_scenario_that_another_rule_upholds_is_reported() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let pod = intercepted(&network)?;
    let _app = pod.http_app("server", 8080)?;
    let to = ([127, 0, 0, 1], 8080).into();
    let observe = |()| pod.get(to, "localhost", "/")?.expect_direct();
    // The same rule for the group lets it go as well.
    let upheld = holds_only_by(&[NOT_PROXY_UID_ON_LO], &pod, || Ok(()), |()| observe(()));
    let said = format!("{:#}", upheld.err().context("the other rule went unnoticed")?);
    ensure!(said.contains("does not test it"), "said {said:?}");
    // This one never meets the packet.
    let unused = holds_only_by(&[PROXY_UID], &pod, || Ok(()), |()| observe(()));
    let said = format!("{:#}", unused.err().context("the idle counter went unnoticed")?);
    ensure!(said.contains("another rule did the work"), "said {said:?}");
    Ok(())
}

#[test]
fn a_rule_that_was_taken_out_and_put_back_stands_where_it_stood() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let pod = intercepted(&network)?;
    let before = pod.run(&["iptables-save", "-t", "nat"])?;
    let first = pod.take_out(&NOT_PROXY_UID_ON_LO)?;
    let second = pod.take_out(&PROXY_UID)?;
    ensure!(pod.packets(&PROXY_UID).is_err(), "a rule taken out is gone");
    pod.put_back(&second)?;
    pod.put_back(&first)?;
    ensure!(
        rules_of(&before) == rules_of(&pod.run(&["iptables-save", "-t", "nat"])?),
        "the order has changed"
    );
    Ok(())
}

#[test]
fn an_address_nobody_has_is_unreachable_at_once() -> Result<()> {
    needs_root!();
    let network = Network::new()?;
    let pod = network.pod("lonely")?;
    let begun = std::time::Instant::now();
    ensure!(pod.connect(([10, 96, 0, 1], 80).into()).is_err(), "somebody answers at 10.96.0.1");
    ensure!(begun.elapsed().as_millis() < 1000, "it took {:?}", begun.elapsed());
    Ok(())
}

fn intercepted(network: &Network) -> Result<Pod> {
    let pod = network.pod("server")?;
    pod.intercept()?;
    Ok(pod)
}

/// Runs one test of this file as a user without rights: whether it passed, and what it said.
fn as_nobody(tests: &Path, require: &str) -> Result<(bool, String)> {
    let mut command = Command::new(tests);
    command.args(["--exact", "what_a_living_process_owns_is_no_leftover"]);
    let out = command.uid(65534).gid(65534).env("REQUIRE_NETNS", require).stdin(Stdio::null()).output()?;
    Ok((out.status.success(), String::from_utf8_lossy(&out.stderr).into_owned()))
}

fn run(argv: &[&str]) -> Result<()> {
    let status = Command::new(argv[0]).args(&argv[1..]).status()?;
    if !status.success() {
        bail!("{}: {status}", argv.join(" "));
    }
    Ok(())
}

fn exists(name: &str) -> bool {
    Path::new("/run/netns").join(name).exists()
}

fn rules_of(saved: &str) -> Vec<&str> {
    saved.lines().filter(|line| line.starts_with("-A")).collect()
}

const NOT_PROXY_UID_ON_LO: Rule = Rule::v4("-A ISTIO_OUTPUT -o lo -m owner ! --uid-owner 1337 -j RETURN");
const PROXY_UID: Rule = Rule::v4("-A ISTIO_OUTPUT -m owner --uid-owner 1337 -j RETURN");
