//! Finds out whether an application at loopback can be called from a client's address.
//!
//! At the pod's own address the client's port cannot be used: the client's connection to the proxy has these four
//! numbers already. At loopback the destination differs. Whether the answer to a strange address finds its way back is
//! up to marks and routes that somebody else has put in place, so it is tried.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use crate::sys::{self, Source};

/// Whether answers from loopback to a client's address come back to the proxy, by family.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LoopbackAnswers {
    /// From 127.0.0.1.
    pub v4: bool,
    /// From ::1.
    pub v6: bool,
}

impl LoopbackAnswers {
    /// Tries it in this network namespace, with addresses that are nobody's (RFC 5737, RFC 3849). Takes half a second
    /// for a family where they do not come back.
    pub fn probe(mark: u32) -> Self {
        let (v4, v6) = (Ipv4Addr::new(192, 0, 2, 1), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
        Self { v4: comes_back(v4.into(), mark), v6: comes_back(v6.into(), mark) }
    }

    /// For clients of the family of `client`.
    pub(crate) fn to(self, client: IpAddr) -> bool {
        if client.is_ipv4() { self.v4 } else { self.v6 }
    }
}

/// Loopback in the family of `address`.
pub(crate) fn beside(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    }
}

fn comes_back(client: IpAddr, mark: u32) -> bool {
    let connected = || -> io::Result<()> {
        let application = sys::listen(SocketAddr::new(beside(client), 0), false, false)?;
        let address = application.local_addr()?;
        let source = Source::Foreign(SocketAddr::new(client, 0), mark);
        sys::bound_socket(address, Some(source))?.connect_timeout(&address.into(), PATIENCE)
    };
    connected()
        .inspect_err(|error| tracing::debug!(%client, %error, "loopback does not answer clients"))
        .is_ok()
}

/// Within a machine an answer takes microseconds.
const PATIENCE: Duration = Duration::from_millis(500);
