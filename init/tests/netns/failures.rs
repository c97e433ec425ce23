//! What goes wrong is named, and nothing is left half done.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{BINARY, Lock, Namespace, injected, namespace_or_skip};

/// A directory with one program in it, to stand before the real ones in `PATH`.
fn imposter(name: &str, script: &str) -> (tempfile::TempDir, String) {
    imposters(&[name], script)
}

/// The same with several that do the same.
pub(crate) fn imposters(names: &[&str], script: &str) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    for name in names {
        let program = directory.path().join(name);
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{}", directory.path().display(), std::env::var("PATH").unwrap());
    (directory, path)
}

fn has_passthrough_address(namespace: &Namespace) -> bool {
    namespace.shell("ip -6 address show dev lo").contains("::6/128")
}

#[test]
fn ipv4_is_put_back_when_ipv6_fails() {
    let namespace = namespace_or_skip!();
    namespace.shell("iptables -t nat -A OUTPUT -d 10.9.9.9/32 -j ACCEPT");
    namespace.init(&["-i", "10.0.0.0/8", "-b", "80", "-c", "eth9", "--ipv6", "off"]).ok();
    let before = namespace.rules();
    let (_directory, path) =
        imposter("ip6tables-nft-restore", "echo 'ip6tables-restore: line 2 failed' >&2; exit 1");
    let said = namespace.init_with(&[("PATH", &path)], &injected(&["--ipv6", "on"])).exits(1);
    said.complains(&["ip6tables-nft-restore refused the line `:ISTIO_INBOUND - [0:0]`", "put back"]);
    assert_eq!(without_empty_tables(&namespace.rules()), without_empty_tables(&before));
    assert!(!has_passthrough_address(&namespace));
}

#[test]
fn messages_that_nobody_takes_decide_nothing() {
    let namespace = namespace_or_skip!();
    let told = namespace.shell(&format!("{BINARY} -i '*' -b '*' 2>/dev/full; echo $?"));
    assert_eq!(told.trim(), "0");
    assert!(namespace.rules().contains("-A ISTIO_OUTPUT"), "{}", namespace.rules());
}

/// Nftables keeps a table once it was used, also when nothing is in it any more.
fn without_empty_tables(rules: &str) -> Vec<&str> {
    rules.split_inclusive("COMMIT\n").filter(|table| table.contains("\n-A ")).collect()
}

#[test]
fn what_the_kernel_does_not_hold_is_not_called_installed() {
    let namespace = namespace_or_skip!();
    let script = "sed '/-d 127.0.0.1.32 -j RETURN/d' | exec /usr/sbin/iptables-nft-restore \"$@\"";
    let (_directory, path) = imposter("iptables-nft-restore", script);
    let said = namespace.init_with(&[("PATH", &path)], &injected(&["--ipv6", "off"])).exits(1);
    said.complains(&["does not hold what was written", "- -d 127.0.0.1/32 -j RETURN"]);
}

#[test]
fn what_legacy_tables_do_not_hold_is_not_called_installed_either() {
    for change in [
        "/-d 127.0.0.1.32 -j RETURN/d",
        "/--dport 15021/{h;n;G}",
        "s/15006/15007/",
        "s/ -m owner ! / -m owner /",
    ] {
        let namespace = namespace_or_skip!();
        let script = format!("sed '{change}' | exec /usr/sbin/iptables-legacy-restore \"$@\"");
        let (_directory, path) = imposter("iptables-legacy-restore", &script);
        let legacy = injected(&["--ipv6", "off", "--force-iptables-binary", "legacy"]);
        let said = namespace.init_with(&[("PATH", &path)], &legacy).exits(1);
        said.complains(&["does not hold what was written"]);
        assert!(!namespace.rules().contains("ISTIO"), "{change}");
    }
}

#[test]
fn the_refused_line_is_shown() {
    let namespace = namespace_or_skip!();
    let script = "sed 's/--to-ports 15001/--to-ports x/' | exec /usr/sbin/iptables-nft-restore \"$@\"";
    let (_directory, path) = imposter("iptables-nft-restore", script);
    let said = namespace.init_with(&[("PATH", &path)], &injected(&["--ipv6", "off"])).exits(1);
    said.complains(&["the line `-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001`"]);
    assert!(!namespace.rules().contains("ISTIO"));
}

#[test]
fn a_missing_module_is_named_with_the_remedy() {
    let namespace = namespace_or_skip!();
    let flags = injected(&["--ipv6", "off", "--force-iptables-binary", "legacy"]);
    // This kernel has all that the rules need, so modules are not what it is about.
    let (_directory, path) = imposter("iptables-legacy-restore", "echo 'line 22 failed' >&2; exit 1");
    let said = namespace.init_with(&[("PATH", &path)], &flags).exits(1);
    assert!(!said.stderr.contains("modprobe"), "{}", said.stderr);
    let (_directory, path) = imposter(
        "iptables-legacy-restore",
        "echo \"can't initialize iptables table \\`nat': Table does not exist\" >&2; exit 3",
    );
    let said = namespace.init_with(&[("PATH", &path)], &flags).exits(1);
    said.complains(&["modprobe -a iptable_nat"]);
}

#[test]
fn a_missing_capability_is_named_with_the_remedy() {
    let namespace = namespace_or_skip!();
    let arguments = [&["--bounding-set", "-net_admin", "--", BINARY], &injected(&[])[..]].concat();
    let said = namespace.run("setpriv", &arguments).exits(1);
    said.complains(&["NET_ADMIN", "securityContext.capabilities.add", "CNI"]);
}

#[test]
fn a_namespace_of_another_user_namespace_is_told() {
    let namespace = namespace_or_skip!();
    for command in [&["check"][..], &["--cleanup"], &[]] {
        let arguments = [&["-Ur", BINARY], command, &injected(&["--ipv6", "on"])].concat();
        let said = namespace.run("unshare", &arguments).exits(1);
        said.complains(&["NET_ADMIN does not count here", "hostNetwork"]);
    }
}

#[test]
fn a_forced_iptables_that_is_not_there_is_told() {
    let namespace = namespace_or_skip!();
    let script =
        "mount -t tmpfs none /usr/sbin; exec \"$0\" -i '*' --ipv6 off --force-iptables-binary legacy";
    let said = namespace.run("unshare", &["-m", "sh", "-euc", script, BINARY]).exits(1);
    said.complains(&["--force-iptables-binary", "iptables-legacy-save: missing"]);
}

#[test]
fn programs_that_turn_out_not_to_work_are_passed_over() {
    let namespace = namespace_or_skip!();
    let (_directory, path) =
        imposters(&["iptables-nft-restore", "iptables-nft-save"], "echo 'no such library' >&2; exit 127");
    namespace.init_with(&[("PATH", &path)], &injected(&["--ipv6", "on"])).ok();
    assert_eq!(namespace.rules().matches(":ISTIO_OUTPUT -").count(), 2);
    assert!(namespace.listing("iptables-legacy", "nat").contains("ISTIO_OUTPUT"));
}

#[test]
fn the_pods_capabilities_are_enough() {
    let namespace = namespace_or_skip!();
    let only = ["--bounding-set", "-all,+net_admin,+net_raw", "--no-new-privs", "--", BINARY];
    for backend in ["nft", "legacy"] {
        let arguments =
            [&only[..], &injected(&["--ipv6", "on", "--force-iptables-binary", backend])].concat();
        namespace.run("setpriv", &arguments).ok();
    }
    assert_eq!(namespace.rules().matches(":ISTIO_OUTPUT -").count(), 4);
}

#[test]
fn ipv6_that_cannot_be_read_fails_only_when_asked_for() {
    let namespace = namespace_or_skip!();
    namespace.shell(
        "ip link add v9 type veth peer name v8; ip link set v9 up; ip -6 address add fd00::2/64 dev v9 nodad",
    );
    let (_directory, path) = imposters(
        &["ip6tables-nft-save", "ip6tables-nft-restore"],
        "echo 'Address family not supported' >&2; exit 3",
    );
    let variables = [("PATH", path.as_str())];
    namespace.init_with(&variables, &injected(&["--ipv6", "on"])).exits(1).complains(&["ip6tables-nft-save"]);
    assert!(!namespace.rules().contains("ISTIO"));
    let said = namespace.init_with(&variables, &injected(&[])).ok();
    said.complains(&["IPv6 goes without capture"]);
    assert!(namespace.listing("iptables", "nat").contains("ISTIO_OUTPUT"));
}

#[test]
fn another_run_that_takes_too_long_is_told() {
    let namespace = namespace_or_skip!();
    let mut holder =
        namespace.command("sh", &["-c", "exec flock /proc/self/ns/net sleep 5"]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let said = namespace.init(&injected(&["--ipv6", "off", "--lock-wait", "300ms"])).exits(1);
    said.complains(&["0.3 seconds", "--lock-wait"]);
    holder.kill().unwrap();
    holder.wait().unwrap();
}

#[test]
fn no_address_for_ipv6_first_is_told() {
    let namespace = namespace_or_skip!();
    let said = namespace.init(&injected(&["--ipv6", "first"])).exits(1);
    said.complains(&["--ipv6 first"]);
    assert!(!namespace.rules().contains("ISTIO"));
}

#[test]
fn a_namespace_that_is_none_is_told() {
    let namespace = namespace_or_skip!();
    for path in ["/nowhere", "/etc/hostname"] {
        let said = namespace.init(&injected(&["--network-namespace", path])).exits(1);
        said.complains(&[path, "--network-namespace"]);
    }
}

#[test]
fn an_address_that_cannot_be_added_is_told_with_the_command() {
    let namespace = namespace_or_skip!();
    namespace.shell("echo 1 > /proc/sys/net/ipv6/conf/lo/disable_ipv6");
    let said = namespace.init(&injected(&["--ipv6", "on"])).exits(1);
    said.complains(&["ip -6 address add ::6/128 dev lo"]);
    assert!(!namespace.rules().contains("ISTIO"));
}

#[test]
fn a_held_lock_of_legacy_iptables_is_waited_for_and_then_told() {
    let namespace = namespace_or_skip!();
    let flags = injected(&["--ipv6", "off", "--force-iptables-binary", "legacy"]);
    let holding = |seconds: &str| {
        let holder = namespace.command("flock", &["/run/xtables.lock", "sleep", seconds]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(300));
        holder
    };
    let mut holder = holding("3");
    let said = namespace.init(&[&flags[..], &["--lock-wait", "1s"]].concat()).exits(1);
    said.complains(&["within 1 seconds", "process ", "--lock-wait"]);
    assert!(!namespace.rules().contains("ISTIO"));
    holder.wait().unwrap();
    let mut holder = holding("1");
    namespace.init(&flags).ok();
    holder.wait().unwrap();
}

#[test]
fn what_the_holder_of_the_lock_changes_is_seen() {
    let namespace = namespace_or_skip!();
    let flags = injected(&["--ipv6", "off", "--force-iptables-binary", "legacy"]);
    namespace.init(&flags).ok();
    let before = namespace.listing("iptables-legacy", "nat");
    let lock = Lock::new();
    let changing =
        |change: &str| lock.hold(&namespace, &format!("sleep 1; iptables-legacy -w -t nat {change}"));
    let mut holder = changing("-F ISTIO_OUTPUT");
    namespace.init_with(&lock.named(), &flags).ok().complains(&["rules written"]);
    assert_eq!(namespace.listing("iptables-legacy", "nat"), before);
    assert!(holder.wait().unwrap().success());
    let mut holder = changing("-A OUTPUT -d 10.1.1.1 -j ISTIO_OUTPUT");
    namespace.init_with(&lock.named(), &["--cleanup"]).ok();
    assert!(!namespace.rules().contains("ISTIO"));
    assert!(holder.wait().unwrap().success());
}

#[test]
fn process_1_that_waits_for_a_lock_stops_when_it_is_asked_to() {
    let namespace = namespace_or_skip!();
    let flags = injected(&["-m", "TPROXY", "--ipv6", "on", "--force-iptables-binary", "legacy"]);
    for (lock, about) in [
        ("/run/xtables.lock", "waiting for the lock of iptables"),
        ("/proc/self/ns/net", "waiting for another postern-init"),
    ] {
        let mut holder = namespace.command("flock", &[lock, "sleep", "20"]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(300));
        let container = [&["--pid", "--fork", "--kill-child", BINARY], &flags[..]].concat();
        let mut container = namespace.command("unshare", &container).stderr(Stdio::piped()).spawn().unwrap();
        let asked = Instant::now();
        let id = container.id();
        let children = format!("/proc/{id}/task/{id}/children");
        // What comes before it listens is lost on process 1.
        while container.try_wait().unwrap().is_none() && asked.elapsed() < Duration::from_secs(10) {
            for child in std::fs::read_to_string(&children).unwrap_or_default().split_whitespace() {
                let child = Pid::from_raw(child.parse().unwrap());
                // It may have ended meanwhile.
                let _ = kill(child, Signal::SIGTERM);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let said = String::from_utf8(container.wait_with_output().unwrap().stderr).unwrap();
        assert!(said.contains(about) && said.contains("nothing was changed"), "{said}");
        assert!(asked.elapsed() < Duration::from_secs(10), "{about}");
        assert!(!namespace.rules().contains("ISTIO") && !namespace.shell("ip rule").contains("fwmark"));
        assert!(!has_passthrough_address(&namespace));
        holder.kill().unwrap();
        holder.wait().unwrap();
    }
}

#[test]
fn a_cni_plugin_locks_its_namespace_not_the_host_and_asks_for_no_names() {
    let namespace = namespace_or_skip!();
    let outside = namespace_or_skip!();
    let seen = tempfile::NamedTempFile::new().unwrap();
    let script = format!(
        "wc -c < /etc/nsswitch.conf > {}; exec /usr/sbin/iptables-legacy-restore \"$@\"",
        seen.path().display()
    );
    let (_directory, path) = imposter("iptables-legacy-restore", &script);
    let mut holder = outside.command("flock", &["/run/xtables.lock", "sleep", "3"]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let target = namespace.path();
    let cni = ["--ipv6", "off", "--cni-mode", "--network-namespace", target.to_str().unwrap()];
    let legacy = ["--force-iptables-binary", "legacy", "--lock-wait", "1s"];
    outside.init_with(&[("PATH", &path)], &injected(&[&cni[..], &legacy].concat())).ok();
    assert!(namespace.listing("iptables-legacy", "nat").contains("ISTIO_OUTPUT"));
    let named = [("XTABLES_LOCKFILE", target.to_str().unwrap())];
    outside.init_with(&named, &injected(&[&cni[..], &legacy, &["--force-apply"]].concat())).ok();
    assert_eq!(std::fs::read_to_string(seen.path()).unwrap().trim(), "0");
    assert_ne!(std::fs::metadata("/etc/nsswitch.conf").map_or(1, |file| file.len()), 0);
    holder.kill().unwrap();
    holder.wait().unwrap();
}
