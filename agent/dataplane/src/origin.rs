//! What a connection brings along for the choice of an upstream.

use std::{cell::RefCell, net::SocketAddr, rc::Rc};

use crate::{dns::Named, sys::Source, upstream::Upstream};

/// Where a connection comes from and was going.
#[derive(Clone, Copy)]
pub(crate) struct Origin<'c> {
    /// The client.
    pub(crate) peer: SocketAddr,
    /// Its original destination.
    pub(crate) destination: SocketAddr,
    /// Its client, where the application is to see it.
    pub(crate) client: Option<Client<'c>>,
    /// What it asks for by name, for clusters that have such names resolved.
    pub(crate) named: Option<&'c Named>,
}

/// A client that the application is to see.
#[derive(Clone, Copy)]
pub(crate) struct Client<'c> {
    /// Its address and port.
    pub(crate) source: Source,
    /// Where the application at loopback is kept with the client's connections to it, if the client's port can be used
    /// there.
    pub(crate) at_loopback: Option<&'c ForClient>,
}

/// The application at loopback as one client's connection calls it. It ends with that connection: nobody else may use
/// its port.
pub(crate) type ForClient = RefCell<Option<Rc<Upstream>>>;
