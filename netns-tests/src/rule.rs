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
    /// How many packets the rule has matched so far. A nat rule sees the first packet of each connection.
    ///
    /// # Errors
    /// When the table has no such rule; the message lists its chain.
    pub fn packets(&self, rule: &Rule) -> Result<u64> {
        let saved = self.nat(rule.family)?;
        let counted = |line: &str| {
            counted_rule(line).filter(|(_, text)| *text == rule.line).map(|(packets, _)| packets)
        };
        saved.lines().find_map(counted).with_context(|| format!("no rule `{}` in\n{saved}", rule.line))
    }

    /// Takes the rule out of the kernel.
    ///
    /// # Errors
    /// When it is not there.
    pub fn take_out(&self, rule: &Rule) -> Result<Removed> {
        let (chain, rest) = rule.chain_and_match()?;
        let saved = self.nat(rule.family)?;
        let of_chain = format!("-A {chain} ");
        let position = saved
            .lines()
            .filter_map(counted_rule)
            .filter(|(_, text)| text.starts_with(&of_chain))
            .position(|(_, text)| text == rule.line)
            .with_context(|| format!("no rule `{}` in\n{saved}", rule.line))?;
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

    /// The nat table as `iptables-save -c` prints it, from the backend that holds our chains.
    ///
    /// # Errors
    /// When no backend has a chain of ours.
    pub fn nat(&self, family: Family) -> Result<String> {
        Ok(self.backend(family)?.1)
    }

    /// Adds a rule to the end of a chain of the nat table, in the backend that holds our chains.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn append(&self, rule: &Rule) -> Result<()> {
        let (chain, rest) = rule.chain_and_match()?;
        self.edit(rule.family, &["-A", chain], rest)
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

/// Packets and text of a line `[3:180] -A CHAIN …`.
fn counted_rule(line: &str) -> Option<(u64, &str)> {
    let (counters, rule) = line.strip_prefix('[')?.split_once("] ")?;
    let packets = counters.split_once(':')?.0.parse().ok()?;
    Some((packets, rule))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counted_line_splits_into_packets_and_rule() {
        assert_eq!(counted_rule("[3:180] -A OUTPUT -j ISTIO_OUTPUT"), Some((3, "-A OUTPUT -j ISTIO_OUTPUT")));
        assert_eq!(counted_rule(":OUTPUT ACCEPT [0:0]"), None);
        assert_eq!(counted_rule("*nat"), None);
    }
}
