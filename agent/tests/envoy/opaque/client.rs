//! Clients of opaque connections, in clear text or within TLS.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    sync::Arc,
};

use nix::sys::socket::{setsockopt, sockopt};
use rustls::ClientConfig;

use crate::support::{
    Client, PATIENCE,
    authority::{Connection, connect},
};

/// A client's side of a connection.
pub(super) enum Opaque {
    Clear(Client),
    Within(Box<Connection>),
}

impl Opaque {
    pub(super) fn clear(port: u16) -> Self {
        Self::Clear(Client::local(port))
    }

    /// Asks for a server name; the handshake comes with the first bytes.
    pub(super) fn within(config: &Arc<ClientConfig>, port: u16, name: &str) -> Self {
        let connection = connect(config, port, name);
        connection.sock.set_read_timeout(Some(PATIENCE)).unwrap();
        Self::Within(Box::new(connection))
    }

    fn stream(&self) -> &TcpStream {
        match self {
            Self::Clear(client) => &client.0,
            Self::Within(connection) => &connection.sock,
        }
    }

    /// A client at the bytes of the connection, whatever they carry.
    pub(super) fn below(&self) -> Client {
        Client::of(self.stream().try_clone().unwrap())
    }

    pub(super) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // Whoever has gone may have said why before.
        _ = match self {
            Self::Clear(client) => client.0.write_all(bytes.as_ref()),
            Self::Within(connection) => connection.write_all(bytes.as_ref()),
        };
    }

    /// Ends the client's side, as its protocol has it.
    pub(super) fn end(&mut self) {
        if let Self::Within(connection) = self {
            connection.conn.send_close_notify();
            _ = connection.flush();
        }
        self.cut();
    }

    /// Ends the client's side without a word.
    pub(super) fn cut(&self) {
        // The other side may have gone.
        _ = self.stream().shutdown(Shutdown::Write);
    }

    /// Has the end of the connection be a reset.
    pub(super) fn reset(&self) {
        let now = nix::libc::linger { l_onoff: 1, l_linger: 0 };
        setsockopt(self.stream(), sockopt::Linger, &now).unwrap();
    }
}

impl Read for Opaque {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Clear(client) => client.0.read(bytes),
            Self::Within(connection) => connection.read(bytes),
        }
    }
}
