//! Every golden scenario of the rules, installed: the kernel returns what was written, and a second run agrees.

use std::path::Path;

use crate::failures::imposters;
use crate::harness::{Namespace, namespace_or_skip};

pub(crate) struct Scenario {
    pub(crate) name: String,
    flags: Vec<String>,
    variables: Vec<(String, String)>,
}

pub(crate) fn scenarios() -> Vec<Scenario> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rules/tests/golden");
    let mut scenarios: Vec<_> =
        std::fs::read_dir(golden).unwrap().map(|entry| read(&entry.unwrap().path())).collect();
    scenarios.sort_by(|a, b| a.name.cmp(&b.name));
    scenarios
}

fn read(path: &Path) -> Scenario {
    let name = path.file_name().unwrap().to_str().unwrap().to_owned();
    let mut scenario = Scenario { name, flags: Vec::new(), variables: Vec::new() };
    let mut ipv6 = "on";
    let mut servers = String::new();
    for line in std::fs::read_to_string(path.join("settings")).unwrap().lines() {
        match line.split_once(' ').unwrap() {
            ("flags", flags) => {
                scenario.flags.extend(flags.split_whitespace().map(|flag| flag.replace("''", "")));
            }
            ("env", variable) => {
                let (name, value) = variable.split_once('=').unwrap();
                scenario.variables.push((name.to_owned(), value.to_owned()));
            }
            ("dns-servers", list) => servers = list.replace(' ', ","),
            ("no-ipv6", _) => ipv6 = "off",
            _ => {}
        }
    }
    scenario.flags.extend(["--ipv6", ipv6, "--dns-servers", &servers].map(str::to_owned));
    scenario
}

/// Names cannot be installed where nobody has them.
pub(crate) fn has_names(scenario: &Scenario) -> bool {
    scenario.name == "listed-groups"
}

pub(crate) fn run(
    namespace: &Namespace,
    scenario: &Scenario,
    more: &[&str],
    before: &[&str],
) -> crate::harness::Said {
    let flags: Vec<_> = scenario.flags.iter().map(String::as_str).collect();
    namespace.init_with(&scenario.variables(), &[before, &flags[..], more].concat())
}

impl Scenario {
    fn variables(&self) -> Vec<(&str, &str)> {
        self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }
}

/// In an empty namespace the kernel itself is asked for what has been written.
fn install_without_reading_programs(namespace: &Namespace, scenario: &Scenario, backend: &str) {
    let names = ["iptables", "ip6tables"].map(|family| format!("{family}-{backend}-save"));
    let (_directory, path) = imposters(&names.each_ref().map(String::as_str), "echo not asked >&2; exit 1");
    let flags: Vec<_> = scenario.flags.iter().map(String::as_str).collect();
    let variables = [&scenario.variables()[..], &[("PATH", &path)]].concat();
    namespace.init_with(&variables, &[&flags[..], &["--force-iptables-binary", backend]].concat()).ok();
}

fn install_everything(backend: &str) {
    for scenario in scenarios().iter().filter(|scenario| !has_names(scenario)) {
        let namespace = namespace_or_skip!();
        let forced = ["--force-iptables-binary", backend];
        install_without_reading_programs(&namespace, scenario, backend);
        let written = namespace.rules();
        run(&namespace, scenario, &forced, &["check"]).ok();
        run(&namespace, scenario, &forced, &[]).ok().complains(&["nothing written"]);
        assert_eq!(namespace.rules(), written, "{}", scenario.name);
        namespace.init(&["--cleanup"]).ok();
        let left = namespace.rules();
        assert!(!left.contains("ISTIO") && !left.contains("postern"), "{}: {left}", scenario.name);
    }
}

#[test]
fn every_scenario_is_read_back_as_written_by_nft() {
    install_everything("nft");
}

#[test]
fn every_scenario_is_read_back_as_written_by_legacy() {
    install_everything("legacy");
}

#[test]
fn a_dry_run_is_what_an_install_writes() {
    for scenario in scenarios().iter().filter(|scenario| !has_names(scenario)) {
        let by_hand = namespace_or_skip!();
        let by_init = namespace_or_skip!();
        let printed = run(&by_hand, scenario, &["--dry-run"], &[]).ok().stdout;
        let (v4, v6) = printed.split_once("# IPv6").unwrap();
        let v6 = format!("# IPv6{v6}");
        for (program, document) in [("iptables-restore", v4), ("ip6tables-restore", &v6)] {
            by_hand.run("sh", &["-euc", "printf %s \"$1\" | $0 --noflush", program, document]).ok();
        }
        run(&by_init, scenario, &[], &[]).ok();
        assert_eq!(by_hand.rules(), by_init.rules(), "{}", scenario.name);
    }
}
