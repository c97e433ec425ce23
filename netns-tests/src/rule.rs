//! Single rules of a pod's nat table: their packet counters, taking them out and putting them back.

use anyhow::{Context, Result, bail};

use crate::pod::Pod;

/// Which of the two tables a rule lives in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Family {
    /// `iptables`.
    V4,
    /// `ip6tables`.
    V6,
}

/// A rule of the nat table, written as `iptables-save` prints it (`-A CHAIN …`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rule {
    /// The table it is looked for in.
    pub family: Family,
    /// The whole line, without counters.
    pub line: &'static str,
}

/// A rule that was taken out, and where it stood.
#[derive(Debug)]
#[must_use = "a rule taken out is put back with Pod::put_back"]
pub struct Removed {
    rule: Rule,
    position: usize,
}

/// A rule as the kernel has it now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Counted {
    /// Packets matched so far.
    pub packets: u64,
    /// The rule as `iptables-save` prints it, without counters.
    pub line: String,
}

impl Rule {
    /// An IPv4 rule.
    pub const fn v4(line: &'static str) -> Self {
        Self { family: Family::V4, line }
    }

    /// An IPv6 rule.
    pub const fn v6(line: &'static str) -> Self {
        Self { family: Family::V6, line }
    }

    fn chain_and_match(&self) -> Result<(&str, &str)> {
        let rest = self
            .line
            .strip_prefix("-A ")
            .with_context(|| format!("`{}` does not begin with -A", self.line))?;
        rest.split_once(' ').with_context(|| format!("`{}` has no match or target", self.line))
    }
}

impl Pod {
    /// Every rule of the nat table with the packets it has matched so far, in the order of `iptables-save`. A nat
    /// rule sees the first packet of each connection.
    ///
    /// # Errors
    /// When no backend has a chain of ours.
    pub fn counters(&self, family: Family) -> Result<Vec<Counted>> {
        Ok(self.backend(family)?.1.lines().filter_map(Counted::parse).collect())
    }

    /// How many packets the rule has matched so far.
    ///
    /// # Errors
    /// When the table has no such rule; the message has what it has.
    pub fn packets(&self, rule: &Rule) -> Result<u64> {
        let counters = self.counters(rule.family)?;
        Ok(counters[position(rule, &counters)?].packets)
    }

    /// Takes the rule out of the kernel.
    ///
    /// # Errors
    /// When it is not there.
    pub fn take_out(&self, rule: &Rule) -> Result<Removed> {
        let (chain, rest) = rule.chain_and_match()?;
        let of_chain = format!("-A {chain} ");
        let mut counters = self.counters(rule.family)?;
        counters.retain(|counted| counted.line.starts_with(&of_chain));
        let position = position(rule, &counters)?;
        self.edit(rule.family, &["-D", chain], rest)?;
        Ok(Removed { rule: rule.clone(), position: position + 1 })
    }

    /// Puts a rule back where it stood. Several are put back in the reverse order of taking out.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn put_back(&self, removed: &Removed) -> Result<()> {
        let (chain, rest) = removed.rule.chain_and_match()?;
        self.edit(removed.rule.family, &["-I", chain, &removed.position.to_string()], rest)
    }

    fn edit(&self, family: Family, operation: &[&str], rest: &str) -> Result<()> {
        let (tool, _) = self.backend(family)?;
        let words: Vec<&str> = rest.split_whitespace().collect();
        self.run(&[&[tool, "-w", "-t", "nat"], operation, words.as_slice()].concat()).map(drop)
    }

    fn backend(&self, family: Family) -> Result<(&'static str, String)> {
        let tools: [(&str, &str); 3] = match family {
            Family::V4 => [
                ("iptables-nft", "iptables-nft-save"),
                ("iptables-legacy", "iptables-legacy-save"),
                ("iptables", "iptables-save"),
            ],
            Family::V6 => [
                ("ip6tables-nft", "ip6tables-nft-save"),
                ("ip6tables-legacy", "ip6tables-legacy-save"),
                ("ip6tables", "ip6tables-save"),
            ],
        };
        for (tool, save) in tools {
            match self.run(&[save, "-c", "-t", "nat"]) {
                Ok(saved) if saved.contains(":ISTIO_") => return Ok((tool, saved)),
                _ => {}
            }
        }
        bail!("no ISTIO_ chain in the nat table of {}: run postern-init in it first", self.name())
    }
}

impl Counted {
    /// Reads a line `[3:180] -A CHAIN …`.
    fn parse(line: &str) -> Option<Self> {
        let (counters, rule) = line.strip_prefix('[')?.split_once("] ")?;
        let packets = counters.split_once(':')?.0.parse().ok()?;
        Some(Self { packets, line: rule.into() })
    }
}

fn position(rule: &Rule, counters: &[Counted]) -> Result<usize> {
    let found = counters.iter().position(|counted| counted.line == rule.line);
    found.with_context(|| {
        let lines: Vec<&str> = counters.iter().map(|counted| counted.line.as_str()).collect();
        format!("no rule `{}` among\n{}", rule.line, lines.join("\n"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counted_line_splits_into_packets_and_rule() {
        let line = "-A OUTPUT -j ISTIO_OUTPUT".to_string();
        assert_eq!(Counted::parse("[3:180] -A OUTPUT -j ISTIO_OUTPUT"), Some(Counted { packets: 3, line }));
        assert_eq!(Counted::parse(":OUTPUT ACCEPT [0:0]"), None);
        assert_eq!(Counted::parse("*nat"), None);
    }
}
