//! Legacy iptables, asked without its programs: the kernel hands out its tables by socket options.

use std::os::fd::AsFd;

use anyhow::{Context, Result, anyhow};
use nix::libc;
use rules::legacy;
use rules::parse::{Found, FoundTable};
use rules::ruleset::{Family, TableName};
use socket2::{Domain, Protocol, Socket, Type};

use crate::sys::socket_option;

/// `IPT_SO_GET_INFO` and `IPT_SO_GET_ENTRIES`, which are the same for IPv6.
const GET_INFO: libc::c_int = 64;
const GET_ENTRIES: libc::c_int = 65;

/// The tables that are registered for a family; none where the kernel has no legacy iptables.
///
/// # Errors
/// Nobody may know, for lack of the capability NET_ADMIN.
pub(crate) fn registered(family: Family) -> std::io::Result<Vec<TableName>> {
    let file = match family {
        Family::V4 => "/proc/thread-self/net/ip_tables_names",
        Family::V6 => "/proc/thread-self/net/ip6_tables_names",
    };
    match std::fs::read_to_string(file) {
        Ok(names) => Ok(names.lines().filter_map(TableName::named).collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// What the tables hold, for IPv4 and IPv6, as far as it can be understood here. Changes nothing.
pub(crate) fn look() -> Result<[Found; 2]> {
    Ok([read(Family::V4)?, read(Family::V6)?])
}

fn read(family: Family) -> Result<Found> {
    let mut found = Found::nothing(family);
    let tables = registered(family)?;
    if tables.is_empty() {
        return Ok(found);
    }
    let domain = match family {
        Family::V4 => Domain::IPV4,
        Family::V6 => Domain::IPV6,
    };
    let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))
        .context("cannot open a raw socket")?;
    for table in tables {
        let contents = read_table(&socket, family, table)
            .with_context(|| format!("cannot read the {family} table {table}"))?;
        found.tables.insert(table, contents);
    }
    Ok(found)
}

fn read_table(socket: &Socket, family: Family, table: TableName) -> Result<FoundTable> {
    let level = match family {
        Family::V4 => libc::SOL_IP,
        Family::V6 => libc::SOL_IPV6,
    };
    let mut info = legacy::info_request(table);
    socket_option(socket.as_fd(), level, GET_INFO, &mut info)?;
    let mut entries = legacy::entries_request(&info).ok_or_else(|| anyhow!("its shape makes no sense"))?;
    // EAGAIN: it has changed in between, and is no longer what we have written.
    socket_option(socket.as_fd(), level, GET_ENTRIES, &mut entries)?;
    legacy::decode(family, &info, &entries).ok_or_else(|| anyhow!("it cannot be understood"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use nix::sched::{CloneFlags, unshare};
    use rules::parse::FoundRule;
    use rules::program::OWN_COMMENT;
    use rules::ruleset::{Condition, Target};

    use super::*;
    use crate::iptables::{self, Flavour};

    /// Does something in a network namespace of this test's thread alone; says so when it may not make one.
    fn in_namespace(test: impl FnOnce() + Send + 'static) {
        let test = move || match unshare(CloneFlags::CLONE_NEWNET) {
            Ok(()) => test(),
            Err(_) => {
                let required = std::env::var_os("REQUIRE_NETNS").is_some_and(|value| value == "1");
                assert!(!required, "needs root, and REQUIRE_NETNS=1");
                std::io::stderr().write_all(b"skipped: needs root\n").unwrap();
            }
        };
        std::thread::spawn(test).join().unwrap();
    }

    fn restore(family: Family, document: &str) {
        let program = Flavour::Legacy.program(family, "restore");
        let mut child = Command::new(program).arg("--wait=30").stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(document.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "{family}: {document}");
    }

    /// The kernel's tables, by itself and by the words of `iptables-legacy-save`.
    fn both_ways() -> Vec<(Found, Found)> {
        let saved = iptables::save(Flavour::Legacy).map(Result::unwrap);
        look().unwrap().into_iter().zip(saved).collect()
    }

    /// Rules of both, side by side; everything else is the same.
    fn pairs(asked: &Found, saved: &Found) -> Vec<(FoundRule, FoundRule)> {
        assert!(asked.tables.keys().eq(saved.tables.keys()));
        let chains = |found: &Found| -> Vec<_> {
            found.tables.values().flat_map(|table| table.chains.clone()).collect()
        };
        let mut pairs = Vec::new();
        assert_eq!(chains(asked).len(), chains(saved).len());
        for (asked, saved) in chains(asked).into_iter().zip(chains(saved)) {
            assert_eq!((&asked.name, &asked.policy), (&saved.name, &saved.policy));
            assert_eq!(asked.rules.len(), saved.rules.len(), "{}", asked.name);
            pairs.extend(asked.rules.into_iter().zip(saved.rules));
        }
        pairs
    }

    fn is_understood(rule: &FoundRule) -> bool {
        let unread = |condition: &Condition| matches!(condition, Condition::Other(_));
        !matches!(rule.rule.target, Target::Other(_))
            && !rule.rule.matches.iter().any(|m| unread(&m.condition))
    }

    #[test]
    fn every_rule_of_ours_is_read_as_its_own_program_tells_it() {
        in_namespace(|| {
            let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../rules/tests/golden");
            let mut compared = 0;
            for scenario in std::fs::read_dir(golden).unwrap() {
                let scenario = scenario.unwrap();
                // Names cannot be installed where nobody has them.
                if scenario.file_name() == "listed-groups" {
                    continue;
                }
                let text = std::fs::read_to_string(scenario.path().join("rules")).unwrap();
                let (v4, v6) = text.split_once("# IPv6").unwrap();
                restore(Family::V4, v4);
                restore(Family::V6, &format!("#{v6}"));
                for (asked, saved) in both_ways() {
                    for (asked, saved) in pairs(&asked, &saved) {
                        assert_eq!(asked.rule.canonical(), saved.rule.canonical(), "{}", saved.text);
                        assert_eq!(asked.rule.has_comment(OWN_COMMENT), saved.rule.has_comment(OWN_COMMENT));
                        assert!(is_understood(&asked), "{}", asked.text);
                        compared += 1;
                    }
                }
            }
            assert!(compared > 500, "{compared}");
        });
    }

    #[test]
    fn a_rule_of_others_is_read_rightly_or_not_at_all() {
        const OTHERS: &str = "
-A OUTPUT
-A OUTPUT -p tcp
-A OUTPUT -g OTHER
-A OUTPUT -j OTHER
-A OUTPUT -p icmp -j ACCEPT
-A OUTPUT ! -p tcp -j ACCEPT
-A OUTPUT ! -o eth0 -j DROP
-A OUTPUT -o eth+ -j DROP
-A OUTPUT -o abcdefghijklmno -j DROP
-A OUTPUT -p tcp --syn -j ACCEPT
-A OUTPUT -p tcp --sport 1:5 ! --dport 7:9 -j ACCEPT
-A OUTPUT -p tcp --dport :9 -j ACCEPT
-A OUTPUT -p tcp --tcp-option 7 -j ACCEPT
-A OUTPUT -p udp ! --sport 53 -j ACCEPT
-A OUTPUT -p udp -m multiport --dports 1,3:5,7 -j ACCEPT
-A OUTPUT -p udp -m multiport --sports 1,3:5,7 -j ACCEPT
-A OUTPUT -p tcp -m multiport ! --ports 1,3 -j ACCEPT
-A OUTPUT -m owner --uid-owner 1-5 -j ACCEPT
-A OUTPUT -m owner --uid-owner 1 --gid-owner 2 -j ACCEPT
-A OUTPUT -m owner --socket-exists -j ACCEPT
-A OUTPUT -m mark --mark 1/3 -j ACCEPT
-A OUTPUT -m mark ! --mark 1 -j MARK --or-mark 7
-A OUTPUT -j MARK --set-xmark 5/7
-A OUTPUT -m connmark ! --mark 4 -j CONNMARK --save-mark --nfmask 3 --ctmask 3
-A OUTPUT -j CONNMARK --set-mark 9
-A OUTPUT -m conntrack --ctstate NEW --ctproto 6 -j ACCEPT
-A OUTPUT -m conntrack ! --ctstate NEW,INVALID -j ACCEPT
-A OUTPUT -m conntrack --ctstate SNAT -j ACCEPT
-A OUTPUT -m comment --comment \"two words\" -j LOG --log-prefix x
-A PREROUTING -p tcp -j TPROXY --on-port 5 --tproxy-mark 1/1
-A PREROUTING -p tcp -m socket --transparent -j ACCEPT
-A PREROUTING -p tcp -i lo -m addrtype --dst-type LOCAL -j RETURN
";
        const OF_IPV4: &str = "-A OUTPUT -f -j DROP\n-A OUTPUT -d 10.0.0.1/255.0.255.0 -j ACCEPT\n-A OUTPUT ! -s 10.0.0.9/24 -j ACCEPT\n\
            -A PREROUTING -p udp -j TPROXY --on-port 5 --on-ip 10.0.0.1 --tproxy-mark 7\n";
        const OF_IPV6: &str = "-A OUTPUT ! -d fd00::9/64 -j ACCEPT\n-A OUTPUT -s ::/0 -j ACCEPT\n-A OUTPUT -m frag --fragfirst -j DROP\n";
        const NAT: &str = "*nat\n-A OUTPUT -p tcp -j REDIRECT\n-A OUTPUT -p tcp -j REDIRECT --to-ports 5-9\n\
            -A OUTPUT -p tcp -j REDIRECT --to-ports 5 --random\n-A OUTPUT -p tcp -j REDIRECT --to-ports 7\nCOMMIT\n";
        const RAW: &str = "*raw\n-A OUTPUT -j CT --notrack\n-A OUTPUT -j CT --zone-orig 3\n-A OUTPUT -j CT --zone 3\n\
            -A OUTPUT -j CT --ctevents new\n-A PREROUTING -j CT --zone mark\nCOMMIT\n";
        in_namespace(|| {
            for (family, own) in [(Family::V4, OF_IPV4), (Family::V6, OF_IPV6)] {
                let others = OTHERS.replace("icmp", if family == Family::V4 { "icmp" } else { "icmpv6" });
                restore(family, &format!("*mangle\n:FORWARD DROP\n:OTHER -{others}{own}COMMIT\n{NAT}{RAW}"));
            }
            for (asked, saved) in both_ways() {
                let pairs = pairs(&asked, &saved);
                let understood = pairs.iter().filter(|(asked, _)| is_understood(asked));
                for (asked, saved) in understood.clone() {
                    assert_eq!(asked.rule.canonical(), saved.rule.canonical(), "{}", saved.text);
                }
                let (all, read) = (pairs.len(), understood.count());
                assert!(read >= 12 && all - read >= 15, "{read} of {all}");
            }
        });
    }
}
