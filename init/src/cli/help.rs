//! The text of `--help`, from the same table that the command line is read with.

use std::fmt::Write;

use rules::flags::{Flag, FlagKind};

const INTRODUCTION: &str = "\
Installs, checks, explains and removes the interception rules of a pod.

Usage:
  postern-init [FLAGS]            put the rules into the kernel; `postern-init istio-iptables [FLAGS]` is the same
  postern-init --dry-run [FLAGS]  print them as iptables-restore documents; touches nothing, needs no root
  postern-init --cleanup [FLAGS]  remove exactly what was installed; rules of others stay
  postern-init check [FLAGS]      compare the kernel with the flags: exit 0 same, 3 different
  postern-init explain PACKET [FLAGS]  walk one packet through the rules: every rule it meets, and the verdict
  postern-init validate [FLAGS]   prove with real connections that interception works
  postern-init watch [FLAGS]      stay, and repair differences, or report them with --reconcile=false

Examples:
  postern-init -p 15001 -z 15006 -u 1337 -m REDIRECT -i '*' -x '' -b '*' -d 15090,15021,15020
  postern-init --dry-run --ipv6 off -i 10.0.0.0/8 -b 8080,9000-9010
  postern-init check -i '*' -b '*' -d 15090,15021,15020
  postern-init explain --out --dst 10.96.0.10:80 --uid 1000 -i '*' -b '*'
  postern-init explain --in --dst 10.77.0.2:8080 --live -o json
  postern-init validate -i '*' -b '*'

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 different (check), 126 interception is broken (validate)
";

/// The whole text, the flags under their titles.
pub(super) fn text(groups: &[(&str, &[&Flag])]) -> String {
    let mut text = String::from(INTRODUCTION);
    for (title, flags) in groups {
        writeln!(text, "\n{title}:").expect("writing to a String cannot fail");
        for flag in flags.iter().filter(|flag| flag.kind != FlagKind::Ignored) {
            entry(&mut text, flag);
        }
    }
    text
}

fn entry(text: &mut String, flag: &Flag) {
    let letter = flag.short.map_or_else(|| "    ".to_owned(), |letter| format!("-{letter}, "));
    let value = match flag.kind {
        FlagKind::Value(name) | FlagKind::List(name) => format!(" {name}"),
        FlagKind::Word(words) => format!(" {}", words.join("|")),
        FlagKind::Switch | FlagKind::Ignored => String::new(),
    };
    let mut notes = Vec::new();
    if !flag.default.is_empty() {
        notes.push(format!("default: {}", flag.default));
    }
    if !flag.long.is_empty() && !flag.variables.is_empty() {
        notes.push(format!("variable: {}", flag.variables.join(", ")));
    }
    let notes = if notes.is_empty() { String::new() } else { format!(" [{}]", notes.join("; ")) };
    writeln!(text, "  {letter}{}{value}\n          {}{notes}", flag.name(), flag.help)
        .expect("writing to a String cannot fail");
}
