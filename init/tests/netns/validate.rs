//! Validation: passes with the rules, fails without any one of those it needs, and says which.

use crate::harness::{BINARY, Said};
use crate::packets::World;

const FLAGS: [&str; 12] = [
    "-u",
    "1337",
    "-i",
    "*",
    "-b",
    "*",
    "--ipv6",
    "on",
    "--redirect-dns",
    "--dns-servers",
    "10.77.0.1,fd00:77::1",
    "--log-level=warn",
];

fn validate(world: &World, more: &[&str]) -> Said {
    world.pod.init(&[&["validate"], &FLAGS[..], &["--probe-timeout", "300ms"], more].concat())
}

/// Runs the binary as the proxy's user without any capability, as the validation container of a CNI installation does.
fn as_proxy(world: &World, more: &[&str]) -> Said {
    let copy = tempfile::tempdir().unwrap();
    let program = copy.path().join("postern-init");
    std::fs::copy(BINARY, &program).unwrap();
    std::fs::set_permissions(copy.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let user = ["--reuid", "1337", "--regid", "1337", "--clear-groups", "--inh-caps", "-all", "--"];
    world.pod.run("setpriv", &[&user[..], &[program.to_str().unwrap()], &FLAGS, more].concat())
}

#[test]
fn rules_in_force_pass_every_probe() {
    let Some(world) = World::new() else { return };
    let said = world.pod.init(&[&FLAGS[..], &["--run-validation"]].concat()).ok();
    assert_eq!(said.stdout.matches("passed ").count(), 9, "{}", said.stdout);
    assert!(said.stdout.contains("packets INVALID here so far"), "{}", said.stdout);
    assert_eq!(validate(&world, &[]).ok().stdout, said.stdout);
}

#[test]
fn the_same_is_told_as_json() {
    let Some(world) = World::new() else { return };
    world.pod.init(&FLAGS).ok();
    let json = |said: Said| serde_json::from_str::<serde_json::Value>(&said.stdout).unwrap();
    let found = json(validate(&world, &["-o", "json"]).ok());
    let first = &found["findings"][0];
    assert_eq!((&found["passed"], &first["result"]), (&true.into(), &"passed".into()), "{found}");
    let probe = &first["probe"];
    assert_eq!((&probe["uid"], &probe["destination"]), (&1337.into(), &"127.0.0.6:15002".into()), "{found}");
    world.pod.shell("iptables -t nat -F ISTIO_IN_REDIRECT");
    let found = json(validate(&world, &["-o", "json"]).exits(126));
    assert_eq!(found["passed"], false);
    assert_eq!(found["findings"][0]["result"], "failed", "{found}");
}

#[test]
fn rules_for_what_comes_from_outside_are_compared() {
    let Some(world) = World::new() else { return };
    world.pod.init(&FLAGS).ok();
    world.pod.shell("iptables -t nat -F ISTIO_INBOUND");
    let said = validate(&world, &[]).exits(126);
    let failed: Vec<_> = said.stdout.lines().filter(|line| line.starts_with("failed")).collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert!(failed[0].contains("other machines") && said.stdout.contains("  - -p tcp -j ISTIO_IN_REDIRECT"));
}

/// Whoever else takes the connection is not taken for the proxy, and whoever else comes is not taken for the probe.
#[test]
fn strangers_are_told_from_probes() {
    let Some(world) = World::new() else { return };
    world.pod.init(&FLAGS).ok();
    world.pod.shell("iptables -t nat -F ISTIO_REDIRECT; iptables -t nat -A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 9");
    let _stranger = world.pod.start("application 127.0.0.1:9");
    let _visitor = world.pod.start("visit 127.0.0.1:15001");
    let said = validate(&world, &[]).exits(126);
    let line = said.stdout.lines().find(|line| line.contains("application to another machine")).unwrap();
    assert!(line.starts_with("failed") && line.contains("must arrive on port 15001, but did not"), "{line}");
}

#[test]
fn no_rules_are_exit_126() {
    let Some(world) = World::new() else { return };
    let said = validate(&world, &[]).exits(126);
    assert!(said.stdout.contains("failed  proxy to its own pod"), "{}", said.stdout);
}

#[test]
fn a_missing_rule_is_accused() {
    let Some(world) = World::new() else { return };
    let removals = [
        (
            "iptables -t nat -D ISTIO_OUTPUT -j ISTIO_REDIRECT",
            "failed  application to another machine",
            "-j ISTIO_REDIRECT`",
        ),
        ("iptables -t nat -F ISTIO_IN_REDIRECT", "failed  proxy to its own pod", "--to-ports 15006`"),
        (
            "iptables -t nat -F ISTIO_OUTPUT_DNS",
            "failed  application to the DNS server",
            "--dport 53 -d 10.77.0.1/32",
        ),
        (
            "iptables -t nat -D ISTIO_OUTPUT -m owner --uid-owner 1337 -j RETURN
             iptables -t nat -D ISTIO_OUTPUT -m owner --gid-owner 1337 -j RETURN",
            "failed  proxy to another machine",
            "-m owner --uid-owner 1337 -j RETURN`",
        ),
        (
            "ip6tables -t nat -F ISTIO_REDIRECT",
            "tcp to [2001:db8::1]:15002): must arrive",
            "--to-ports 15001`",
        ),
        (
            "ip6tables -t nat -D ISTIO_OUTPUT -j ISTIO_OUTPUT_DNS",
            "udp to [fd00:77::1]:53): must arrive",
            "-j ISTIO_OUTPUT_DNS`",
        ),
    ];
    for (removal, probe, rule) in removals {
        world.pod.init(&FLAGS).ok();
        world.pod.shell(removal);
        let said = validate(&world, &[]).exits(126);
        let failed: Vec<_> = said.stdout.lines().filter(|line| line.starts_with("failed")).collect();
        assert_eq!(failed.len(), 2, "{removal}: {failed:?}");
        assert!(failed[1].contains("the kernel's rules differ"), "{removal}: {failed:?}");
        assert!(failed[0].contains(probe) && failed[0].contains(rule), "{removal}: {failed:?}");
    }
}

#[test]
fn the_validation_container_proves_the_proxys_half() {
    let Some(world) = World::new() else { return };
    let flags = ["--run-validation", "--skip-rule-apply", "--probe-timeout", "300ms"];
    as_proxy(&world, &flags).exits(126);
    world.pod.init(&FLAGS).ok();
    let said = as_proxy(&world, &flags).ok();
    assert_eq!(said.stdout.matches("passed ").count(), 4, "{}", said.stdout);
    assert!(said.stdout.contains("skipped the probes of the application"));
}

#[test]
fn rules_that_come_late_are_waited_for() {
    let Some(world) = World::new() else { return };
    let arguments = [&["validate"], &FLAGS[..], &["--probe-timeout", "8s"]].concat();
    let validation =
        world.pod.command(BINARY, &arguments).stdout(std::process::Stdio::piped()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(700));
    world.pod.init(&FLAGS).ok();
    let output = validation.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn a_proxy_that_runs_already_is_told() {
    let Some(world) = World::new() else { return };
    world.pod.init(&FLAGS).ok();
    let _proxy = world.pod.start("application 127.0.0.1:15001");
    validate(&world, &[]).exits(1).complains(&["port 15001", "before the proxy starts"]);
}
