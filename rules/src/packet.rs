//! A packet, as far as rules look at it.

use std::fmt;
use std::net::SocketAddr;

use crate::ruleset::{ConnectionState, Protocol};

/// Whether a packet is sent by this machine or comes to it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// It comes in.
    In,
    /// A process of this machine sends it.
    Out,
}

/// A packet, as far as rules look at it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Packet {
    /// Whether it is sent or received.
    pub direction: Direction,
    /// The transport protocol.
    pub protocol: Protocol,
    /// Where it comes from.
    pub source: SocketAddr,
    /// Where it goes to; of the same family.
    pub destination: SocketAddr,
    /// The interface it came in by.
    pub in_interface: Option<String>,
    /// The interface it goes out by.
    pub out_interface: Option<String>,
    /// The user of the sending process when it made the socket; none for a packet that came in.
    pub user: Option<u32>,
    /// The group of the sending process when it made the socket; none for a packet that came in.
    pub group: Option<u32>,
    /// The mark of the packet: 0, or what the socket (`SO_MARK`) or a rule set.
    pub mark: u32,
    /// The mark of its connection.
    pub connection_mark: u32,
    /// What connection tracking thinks of it.
    pub state: ConnectionState,
}

impl Packet {
    /// A packet that begins a connection, with no mark and no owner, by no interface yet.
    pub fn new(
        direction: Direction,
        protocol: Protocol,
        source: SocketAddr,
        destination: SocketAddr,
    ) -> Self {
        Self {
            direction,
            protocol,
            source,
            destination,
            in_interface: None,
            out_interface: None,
            user: None,
            group: None,
            mark: 0,
            connection_mark: 0,
            state: ConnectionState::New,
        }
    }

    /// What went out by an interface of this machine that leads back to it. The mark stays; the sender does not.
    pub(crate) fn comes_back_in(&mut self) {
        self.in_interface = self.out_interface.take();
        self.user = None;
        self.group = None;
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = match self.direction {
            Direction::In => "in",
            Direction::Out => "out",
        };
        write!(f, "{direction} {} {} -> {}", self.protocol, self.source, self.destination)?;
        let by = self.in_interface.as_deref().or(self.out_interface.as_deref());
        if let Some(by) = by {
            write!(f, " by {by}")?;
        }
        if let Some(user) = self.user {
            write!(f, " uid {user}")?;
        }
        if let Some(group) = self.group {
            write!(f, " gid {group}")?;
        }
        if self.mark != 0 {
            write!(f, " mark {}", self.mark)?;
        }
        if self.connection_mark != 0 {
            write!(f, " connmark {}", self.connection_mark)?;
        }
        write!(f, " {}", self.state)
    }
}
