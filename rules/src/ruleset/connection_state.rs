//! The states of connection tracking.

use std::collections::BTreeSet;
use std::fmt;

/// What connection tracking thinks of a packet.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum ConnectionState {
    /// It belongs to no connection.
    Invalid,
    /// It begins one.
    New,
    /// It begins one that another one announced.
    Related,
    /// It belongs to one that has seen packets both ways.
    Established,
}

impl ConnectionState {
    pub(crate) const ALL: [(Self, &'static str); 4] = [
        (Self::Invalid, "INVALID"),
        (Self::New, "NEW"),
        (Self::Related, "RELATED"),
        (Self::Established, "ESTABLISHED"),
    ];

    /// The state as a bit of a mask (`linux/netfilter/nf_conntrack_common.h`).
    pub(crate) fn bit(self) -> u32 {
        match self {
            Self::Invalid => 1,
            Self::Established => 2,
            Self::Related => 4,
            Self::New => 8,
        }
    }

    /// The states whose bits are set; none when others are, too.
    pub(crate) fn in_mask(mask: u32) -> Option<BTreeSet<Self>> {
        let all = Self::ALL.map(|(state, _)| state);
        let known = all.iter().fold(0, |bits, state| bits | state.bit());
        (mask & !known == 0).then(|| all.into_iter().filter(|state| mask & state.bit() != 0).collect())
    }
}

impl fmt::Display for ConnectionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(state, _)| state == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}
