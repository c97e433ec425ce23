//! Names of network interfaces.

use std::fmt;
use std::str::FromStr;

use crate::invalid::Invalid;

/// The name of a network interface; a trailing `+` stands for any ending, as in iptables.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Interface(String);

impl Interface {
    /// The loopback interface.
    pub fn loopback() -> Self {
        Self("lo".to_owned())
    }

    /// Whether `name` is this interface, or begins as this wildcard does.
    pub fn matches(&self, name: &str) -> bool {
        self.0.strip_suffix('+').map_or(self.0 == name, |prefix| name.starts_with(prefix))
    }

    /// The name as iptables takes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Interface {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let stem = text.strip_suffix('+').unwrap_or(text);
        let good = text.len() <= 15
            && stem.starts_with(|first: char| first.is_ascii_alphabetic())
            && stem.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if good {
            return Ok(Self(text.to_owned()));
        }
        Err(Invalid::new(
            "interface",
            text,
            "1–15 characters, a letter first, then letters, digits, `.`, `_`, `-`, and at most one `+` at the end, for example eth0 or veth+",
        ))
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_follow_the_kernels_limit() {
        for good in ["eth0", "net1", "veth+", "a.b_c-d", "abcdefghijklmno"] {
            assert!(good.parse::<Interface>().is_ok(), "{good}");
        }
        for bad in ["", "+", "0eth", "eth 0", "eth++", "abcdefghijklmnop", "et+h", "-i", "éth0"] {
            assert!(bad.parse::<Interface>().is_err(), "{bad}");
        }
    }

    #[test]
    fn interface_wildcard_matches_any_ending() {
        let any: Interface = "veth+".parse().unwrap();
        assert!(any.matches("veth") && any.matches("veth12"));
        assert!(!any.matches("eth0"));
        assert!(!Interface::loopback().matches("lo2"));
    }
}
