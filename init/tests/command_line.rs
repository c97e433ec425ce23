//! The command line of the real binary, without root: bad input is refused before anything is looked at.
#![expect(clippy::unwrap_used, reason = "a test whose program does not run should stop")]

use std::process::{Command, Output};

fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postern-init"));
    command.args(arguments).env_clear().envs(variables.iter().copied()).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Flags, variables, and what the one line about them must contain.
type Refusal<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a [&'a str]);

const REFUSALS: &[Refusal<'_>] = &[
    (&["-p", "70000"], &[], &["70000", "--envoy-port", "1–65535"]),
    (&["-b", "80,http"], &[], &["http", "--istio-inbound-ports", "`*`"]),
    (&["-d", "5000:4000"], &[], &["5000:4000", "--istio-local-exclude-ports"]),
    (&["-i", "10.0.0.1"], &[], &["10.0.0.1", "--istio-service-cidr", "prefix length"]),
    (&["-x", "*"], &[], &["`*`", "--istio-service-exclude-cidr"]),
    (&["-c", "an-interface-too-long"], &[], &["an-interface-too-long", "--istio-exclude-interfaces"]),
    (&["-k", "0tap"], &[], &["0tap", "--kube-virt-interfaces"]),
    (&["-m", "BOTH"], &[], &["BOTH", "--istio-inbound-interception-mode", "TPROXY"]),
    (&["--probe-timeout", "5"], &[], &["`5`", "--probe-timeout", "500ms"]),
    (&["--force-iptables-binary", "bpf"], &[], &["bpf", "--force-iptables-binary", "legacy"]),
    (&["-t", "0"], &[], &["`0`", "--istio-inbound-tproxy-mark"]),
    (&["-r", "254"], &[], &["254", "--istio-inbound-tproxy-route-table", "133"]),
    (&["--ipv6", "maybe"], &[], &["maybe", "--ipv6", "auto"]),
    (&["--dns-servers", "kube-dns"], &[], &["kube-dns", "--dns-servers"]),
    (&["--drop-invalid=yes"], &[], &["yes", "--drop-invalid", "true"]),
    (&["-x", "-b", "*"], &[], &["`-b`", "-x", "''"]),
    (&["--no-such-flag"], &[], &["--no-such-flag", "--help"]),
    (&["--dry-run", "true"], &[], &["true", "--dry-run=true"]),
    (&["-u"], &[], &["-u", "missing value"]),
    (&["install-now"], &[], &["install-now", "istio-iptables"]),
    (&["--log-level", "loud=="], &[], &["loud==", "--log-level"]),
    (&["--log-level", "verbose"], &[], &["verbose", "--log-level", "debug"]),
    (&["--log-format", "xml"], &[], &["xml", "--log-format"]),
    (&["watch", "--interval", "often"], &[], &["often", "--interval"]),
    (&["watch", "--metrics-address", "15099"], &[], &["15099", "--metrics-address"]),
    (&["--interval=30s"], &[], &["--interval", "unknown flag"]),
    (&[], &[("INBOUND_CAPTURE_PORT", "http")], &["http", "variable INBOUND_CAPTURE_PORT"]),
    (&[], &[("DUAL_STACK", "yes")], &["yes", "variable DUAL_STACK"]),
    (&[], &[("PROBE_TIMEOUT", "soon")], &["soon", "variable PROBE_TIMEOUT"]),
    (
        &[],
        &[("ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR", "::1/128")],
        &["::1/128", "variable ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR"],
    ),
];

#[test]
fn bad_input_is_wrong_usage_in_one_line() {
    for (flags, variables, texts) in REFUSALS {
        let output = run(flags, variables);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{flags:?} {variables:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.starts_with("postern-init: "), "{said}");
        for text in *texts {
            assert!(said.contains(text), "no `{text}` in: {said}");
        }
    }
}

#[test]
fn too_many_owner_groups_are_wrong_usage() {
    let groups = (0..65).map(|id| id.to_string()).collect::<Vec<_>>().join(",");
    let output = run(&[], &[("ISTIO_OUTBOUND_OWNER_GROUPS", &groups)]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("at most 64"));
}

#[test]
fn all_problems_come_at_once() {
    let output = run(&["-p", "0", "-b", "x", "--nope"], &[]);
    assert_eq!(stderr(&output).lines().count(), 3, "{}", stderr(&output));
}

#[test]
fn an_argument_that_is_no_text_is_wrong_usage() {
    use std::os::unix::ffi::OsStrExt;
    let argument = std::ffi::OsStr::from_bytes(b"-c\xff");
    let output = Command::new(env!("CARGO_BIN_EXE_postern-init")).arg(argument).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("UTF-8"));
}

#[test]
fn a_dry_run_prints_two_labelled_documents() {
    let output = run(&["--dry-run", "--ipv6", "on", "-m", "TPROXY", "-b", "*", "-i", "*"], &[]);
    assert!(output.status.success());
    let text = stdout(&output);
    let labels: Vec<_> = text.lines().filter(|line| line.starts_with('#')).collect();
    assert_eq!(
        labels,
        [
            "# IPv4 iptables-restore --noflush",
            "# route: ip -4 rule add fwmark 1337 lookup 133",
            "# route: ip -4 rule add from 127.0.0.1 ipproto tcp lookup 133",
            "# route: ip -4 route add local default dev lo table 133",
            "# IPv6 ip6tables-restore --noflush",
            "# address: ip -6 address add ::6/128 dev lo",
            "# route: ip -6 rule add fwmark 1337 lookup 133",
            "# route: ip -6 route add local default dev lo table 133",
        ]
    );
}

#[test]
fn a_dry_run_says_why_there_is_no_ipv6() {
    let output = run(&["-n", "--ipv6", "off"], &[]);
    assert!(stdout(&output).ends_with("COMMIT\n# IPv6 none: --ipv6 off\n"));
}

#[test]
fn a_dry_run_is_written_to_a_file_as_well() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("rules");
    let output = run(&["-n", "--ipv6", "off"], &[("DRY_RUN_FILE_PATH", file.to_str().unwrap())]);
    assert_eq!(stdout(&output), std::fs::read_to_string(file).unwrap());
    let output = run(&["-n", "--ipv6", "off"], &[("DRY_RUN_FILE_PATH", "/nowhere/rules")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("/nowhere/rules"));
}

#[test]
fn a_dry_run_prints_names_as_given() {
    let output = run(&["-n", "--ipv6", "off", "-u", "no-such-user"], &[]);
    assert!(stdout(&output).contains("--uid-owner no-such-user"));
}

#[test]
fn a_dry_run_as_json_holds_the_same_rules() {
    let text = stdout(&run(&["-n", "--ipv6", "off", "-i", "*"], &[]));
    let json: serde_json::Value =
        serde_json::from_slice(&run(&["-n", "--ipv6", "off", "-i", "*", "-o", "json"], &[]).stdout).unwrap();
    let chains = json["ipv4"]["tables"][0]["chains"].as_array().unwrap();
    for rule in chains.iter().flat_map(|chain| chain["rules"].as_array().unwrap()) {
        assert!(text.contains(rule["rule"].as_str().unwrap()), "{rule}");
    }
    assert_eq!(json["ipv6"]["none"], "--ipv6 off");
}

#[test]
fn a_native_dry_run_as_json_holds_the_same_script() {
    let flags = ["-n", "--ipv6", "off", "-i", "*", "--native-nftables"];
    let text = stdout(&run(&flags, &[]));
    let output = run(&[&flags[..], &["-o", "json"]].concat(), &[]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let script: Vec<_> = json["nft"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    assert_eq!(text.strip_prefix("# nft -f\n").unwrap().lines().collect::<Vec<_>>(), script);
}

#[test]
fn an_unreadable_resolv_conf_is_named() {
    let output =
        run(&["-n", "--ipv6", "off", "--redirect-dns", "--resolv-conf", "/nowhere/resolv.conf"], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("/nowhere/resolv.conf") && stderr(&output).contains("--dns-servers"));
}

#[test]
fn dns_without_servers_warns_and_goes_on() {
    let output = run(&["-n", "--ipv6", "off", "--redirect-dns", "--dns-servers", ""], &[]);
    assert!(output.status.success());
    assert!(stderr(&output).contains("DNS is not captured"));
    assert!(!stdout(&output).contains("DNS"));
}

#[test]
fn an_unknown_user_is_refused_before_anything_is_touched() {
    let output = run(&["-u", "no-such-user-here", "--ipv6", "off"], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("no-such-user-here"));
}

#[test]
fn flags_without_effect_are_warned_of() {
    let output = run(&["-n", "--ipv6", "off", "-d", "80"], &[]);
    assert!(output.status.success());
    assert!(stderr(&output).contains("--istio-local-exclude-ports has no effect"));
}

#[test]
fn logs_are_json_lines_when_asked_for() {
    for flag in ["--log_as_json", "--log-format=json"] {
        let output = run(&["-n", "--ipv6", "off", "-d", "80", flag], &[]);
        for line in stderr(&output).lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap();
        }
        assert!(!stderr(&output).is_empty());
    }
}

#[test]
fn help_and_version_are_results() {
    let help = run(&["--help"], &[]);
    assert!(help.status.success() && stdout(&help).contains("Examples:"));
    assert!(stdout(&run(&["--version"], &[])).starts_with("postern-init "));
}

#[test]
fn skipping_the_rules_touches_nothing() {
    assert!(run(&["--skip-rule-apply", "-i", "*"], &[]).status.success());
}

#[test]
fn a_flag_wins_over_its_variable() {
    let output = run(&["-n", "--ipv6", "off", "-z", "9"], &[("INBOUND_CAPTURE_PORT", "8")]);
    assert!(stdout(&output).contains("--to-ports 9\n"));
    let output = run(&["-n", "--ipv6", "off"], &[("INBOUND_CAPTURE_PORT", "8")]);
    assert!(stdout(&output).contains("--to-ports 8\n"));
}
