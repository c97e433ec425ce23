//! Users and groups whose packets are told apart.

use std::fmt;
use std::str::FromStr;

use crate::invalid::Invalid;

/// A user or a group, by number or by name. The kernel knows numbers only.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Owner {
    /// A uid or gid.
    Id(u32),
    /// A name that still has to be looked up.
    Name(String),
}

impl FromStr for Owner {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong =
            || Invalid::new("user or group", text, "a number 0–4294967294 or a name, for example 1337");
        if text.starts_with(|first: char| first.is_ascii_digit()) {
            // The highest number is the kernel's "no such id".
            return text.parse().ok().filter(|&id| id != u32::MAX).map(Self::Id).ok_or_else(wrong);
        }
        let named = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && text.len() <= 32
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-$".contains(&byte));
        if named { Ok(Self::Name(text.to_owned())) } else { Err(wrong()) }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Which groups' outbound traffic is captured (`ISTIO_OUTBOUND_OWNER_GROUPS`, `…_EXCLUDE`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum OwnerGroups {
    /// Every group but these.
    AllBut(Vec<Owner>),
    /// These groups only.
    Only(Vec<Owner>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_numbers_or_names() {
        assert_eq!("1337".parse::<Owner>().unwrap(), Owner::Id(1337));
        assert_eq!("istio-proxy".parse::<Owner>().unwrap(), Owner::Name("istio-proxy".to_owned()));
        for bad in ["", "4294967295", "12ab", "-1", "a b", "*"] {
            assert!(bad.parse::<Owner>().is_err(), "{bad}");
        }
    }
}
