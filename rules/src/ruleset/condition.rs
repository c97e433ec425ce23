//! Conditions on packets.

use std::collections::BTreeSet;
use std::fmt;

use ipnet::IpNet;

use super::ConnectionState;
use crate::ports::PortRange;
use crate::settings::{Interface, Owner};

/// A condition, or its contrary.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Match {
    /// Whether the contrary is asked for.
    pub negated: bool,
    /// The condition.
    pub condition: Condition,
}

impl Match {
    pub(super) fn canonical(&self) -> Option<Self> {
        let condition = match &self.condition {
            Condition::Comment(_) => return None,
            // The kernel drops a match that every address meets.
            Condition::Source(net) | Condition::Destination(net)
                if net.prefix_len() == 0 && !self.negated =>
            {
                return None;
            }
            Condition::Source(net) => Condition::Source(net.trunc()),
            Condition::Destination(net) => Condition::Destination(net.trunc()),
            Condition::DestinationPorts(ports) => {
                let mut ports = ports.clone();
                ports.sort_unstable();
                Condition::DestinationPorts(ports)
            }
            other => other.clone(),
        };
        Some(Self { negated: self.negated, condition })
    }
}

impl std::ops::Not for Match {
    type Output = Self;

    fn not(self) -> Self {
        Self { negated: !self.negated, ..self }
    }
}

impl From<Condition> for Match {
    fn from(condition: Condition) -> Self {
        Self { negated: false, condition }
    }
}

/// One condition on a packet.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Condition {
    /// `-i`: it came in by this interface.
    InInterface(Interface),
    /// `-o`: it goes out by this interface.
    OutInterface(Interface),
    /// `-s`: its source address lies here.
    Source(IpNet),
    /// `-d`: its destination address lies here.
    Destination(IpNet),
    /// `-p`: it is of this transport protocol.
    Protocol(Protocol),
    /// `--sport`: its source port lies here.
    SourcePort(PortRange),
    /// `--dport`: its destination port lies here.
    DestinationPort(PortRange),
    /// `-m multiport --dports`: its destination port lies in one of these.
    DestinationPorts(Vec<PortRange>),
    /// `-m owner --uid-owner`: a process of this user sent it.
    User(Owner),
    /// `-m owner --gid-owner`: a process of this group sent it.
    Group(Owner),
    /// `-m mark`: the packet has this mark.
    Mark(u32),
    /// `-m connmark`: its connection has this mark.
    ConnectionMark(u32),
    /// `-m conntrack --ctstate`: its connection is in one of these states.
    ConnectionState(BTreeSet<ConnectionState>),
    /// `-m comment`: always true.
    Comment(String),
    /// Options of a foreign rule that this crate does not read, as written.
    Other(String),
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}
