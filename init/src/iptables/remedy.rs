//! What usually helps when iptables refuses: capabilities, libraries of its own, or modules of the kernel, by name.

use std::collections::BTreeSet;

use rules::ruleset::Family;

/// What helps against `said`, with a semicolon in front; nothing when the words tell nothing. `lines` are those of a
/// restore document that can be what was refused.
pub(super) fn remedy<'l>(said: &str, family: Family, lines: impl Iterator<Item = &'l str>) -> String {
    remedy_with(said, registered(family).as_ref(), lines)
}

fn remedy_with<'l>(
    said: &str,
    registered: Option<&BTreeSet<String>>,
    lines: impl Iterator<Item = &'l str>,
) -> String {
    let any = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if any(&["ermission denied", "not permitted", "must be root"]) {
        return "; it needs the capabilities NET_ADMIN and NET_RAW".to_owned();
    }
    if any(&["Couldn't load"]) {
        return "; the image lacks this library of iptables (/usr/lib/*/xtables): install the whole package"
            .to_owned();
    }
    if any(&["Table does not exist", "nitialize", "do you need to insmod", "rotocol not supported"]) {
        return "; the kernel lacks a module: load it on the node with `modprobe -a iptable_nat iptable_mangle iptable_raw` \
                (legacy) or `modprobe -a nf_tables nft_chain_nat nft_compat` (nft)"
            .to_owned();
    }
    let used: BTreeSet<_> = lines.flat_map(extensions).collect();
    let missing = |names: &BTreeSet<String>| {
        let missing = used.iter().filter(|extension| !names.contains(**extension));
        missing.map(|extension| module(extension)).collect::<BTreeSet<_>>()
    };
    match registered.map(missing) {
        Some(missing) if !missing.is_empty() => {
            format!(
                "; the kernel lacks what the rules need: load it on the node with `modprobe -a {}`",
                words(&missing)
            )
        }
        None if !used.is_empty() && any(&["No such file or directory", "by that name"]) => {
            let modules = used.iter().map(|extension| module(extension)).collect();
            format!(
                "; the kernel may lack what the rule needs: load it on the node with `modprobe -a {}`",
                words(&modules)
            )
        }
        _ => String::new(),
    }
}

fn words(modules: &BTreeSet<String>) -> String {
    modules.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
}

/// The matches and targets that a line asks for.
fn extensions(line: &str) -> Vec<&str> {
    const BUILT_IN: [&str; 3] = ["ACCEPT", "DROP", "RETURN"];
    let words: Vec<_> = line.split_whitespace().collect();
    let pairs = words.windows(2).filter_map(|pair| match *pair {
        ["-m", name] => Some(name),
        ["-j", name] if !name.starts_with("ISTIO_") && !BUILT_IN.contains(&name) => Some(name),
        _ => None,
    });
    pairs.collect()
}

/// The module behind a match or target.
fn module(extension: &str) -> String {
    match extension {
        "MARK" => "xt_mark".to_owned(),
        "CONNMARK" => "xt_connmark".to_owned(),
        other => format!("xt_{other}"),
    }
}

/// The matches and targets that the kernel has at the moment, those it has just loaded included; none where it does not
/// tell.
fn registered(family: Family) -> Option<BTreeSet<String>> {
    let files = match family {
        Family::V4 => ["ip_tables_matches", "ip_tables_targets"],
        Family::V6 => ["ip6_tables_matches", "ip6_tables_targets"],
    };
    let read = |file| std::fs::read_to_string(format!("/proc/thread-self/net/{file}")).ok();
    let names = format!("{}\n{}", read(files[0])?, read(files[1])?);
    Some(names.lines().filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: [&str; 3] = [
        "-A ISTIO_OUTPUT -o lo -m owner ! --uid-owner 1337 -j RETURN",
        "-A PREROUTING -m mark --mark 1 -m comment --comment postern -j CONNMARK --save-mark",
        "-A ISTIO_OUTPUT -j ISTIO_REDIRECT",
    ];

    fn remedy(said: &str, registered: Option<&[&str]>) -> String {
        let registered = registered.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        remedy_with(said, registered.as_ref(), RULES.into_iter())
    }

    #[test]
    fn modules_that_are_missing_are_named_and_no_others() {
        let told = remedy("line 27 failed", Some(&["owner", "comment", "CONNMARK"]));
        assert!(told.contains("`modprobe -a xt_mark`"), "{told}");
        assert_eq!(remedy("line 27 failed", Some(&["owner", "comment", "mark", "CONNMARK"])), "");
    }

    #[test]
    fn where_the_kernel_does_not_tell_those_that_are_used_are_named() {
        let told = remedy("No chain/target/match by that name", None);
        assert!(
            told.contains("may lack") && told.contains("xt_comment xt_connmark xt_mark xt_owner`"),
            "{told}"
        );
        assert_eq!(remedy("line 27 failed", None), "");
    }

    #[test]
    fn what_is_no_matter_of_matches_has_a_remedy_of_its_own() {
        for (said, expected) in [
            ("Permission denied (you must be root)", "NET_ADMIN"),
            ("Couldn't load match `owner':No such file or directory", "the image lacks"),
            ("can't initialize iptables table `nat'", "iptable_nat"),
            ("iptables-restore: unable to initialize table 'nat'", "iptable_nat"),
        ] {
            assert!(remedy(said, Some(&[])).contains(expected), "{said}");
        }
    }
}
