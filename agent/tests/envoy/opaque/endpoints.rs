//! Endpoints named for what they do with a connection.

use std::{
    collections::HashMap,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Mutex, mpsc},
    time::Duration,
};

use nix::sys::socket::{setsockopt, sockopt};

use super::{
    cases::{Behaviour, PLACES},
    heard, rest,
};
use crate::support::{Client, Endpoint, PATIENCE, free_port};

/// What is behind every place.
pub(super) struct Endpoints {
    running: HashMap<&'static str, Running>,
}

struct Running {
    address: SocketAddr,
    /// What it saw of each connection; nothing of those that cannot come.
    told: Option<Mutex<mpsc::Receiver<String>>>,
    /// A queue and what fills it.
    _full: Option<(TcpListener, Vec<TcpStream>)>,
}

impl Endpoints {
    pub(super) fn start() -> Self {
        let running = PLACES.iter().filter_map(|place| Some((place.name, start(place.endpoint)?)));
        Self { running: running.collect() }
    }

    pub(super) fn port(&self, place: &str) -> Option<u16> {
        Some(self.running.get(place)?.address.port())
    }

    /// What each is called instead of its address.
    pub(super) fn named(&self) -> Vec<(String, &'static str)> {
        self.running.iter().map(|(name, running)| (running.address.to_string(), *name)).collect()
    }

    /// What the endpoint of a place saw of its next connection, once that has ended.
    pub(super) fn told(&self, place: &str) -> String {
        let told = self.running[place].told.as_ref().unwrap().lock().unwrap();
        told.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no connection to {place} has ended"))
    }
}

fn start(behaviour: Behaviour) -> Option<Running> {
    match behaviour {
        Behaviour::Nobody | Behaviour::Unknown => None,
        Behaviour::Refuses => {
            Some(Running { address: ([127, 0, 0, 1], free_port()).into(), told: None, _full: None })
        }
        Behaviour::Stalls => Some(stalling()),
        _ => {
            let (tell, told) = mpsc::channel();
            let endpoint = Endpoint::start(move |client| _ = tell.send(serve(behaviour, client)));
            Some(Running { address: endpoint.address, told: Some(Mutex::new(told)), _full: None })
        }
    }
}

/// Where connections are neither accepted nor refused: its queue is full.
fn stalling() -> Running {
    let queue = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    nix::sys::socket::listen(&queue, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
    let address = queue.local_addr().unwrap();
    let limit = Duration::from_millis(100);
    let full = (0..4).map_while(|_| TcpStream::connect_timeout(&address, limit).ok()).collect();
    Running { address, told: None, _full: Some((queue, full)) }
}

/// What is seen of a connection.
fn serve(behaviour: Behaviour, mut client: Client) -> String {
    match behaviour {
        Behaviour::Greets => {
            client.send("220\n");
            echo(&mut client)
        }
        Behaviour::Counts => {
            let said = rest(&mut client);
            client.send(format!("heard{said}\n"));
            said
        }
        Behaviour::Ends => {
            client.send("bye\n");
            // The other side may have gone.
            _ = client.0.shutdown(Shutdown::Write);
            rest(&mut client)
        }
        Behaviour::Closes => String::new(),
        Behaviour::Resets => {
            let first = heard(&mut client, 3);
            if first.contains("ask") {
                client.send("half");
            }
            let said = first + &heard(&mut client, 1);
            let now = nix::libc::linger { l_onoff: 1, l_linger: 0 };
            setsockopt(&client.0, sockopt::Linger, &now).unwrap();
            said
        }
        _ => echo(&mut client),
    }
}

/// Sends back what comes until it ends.
fn echo(client: &mut Client) -> String {
    let (mut count, mut bytes) = (0, vec![0; 64 << 10]);
    loop {
        match std::io::Read::read(&mut client.0, &mut bytes) {
            Ok(0) => return format!("{count} bytes, ended"),
            Ok(n) => {
                count += n;
                client.send(&bytes[..n]);
            }
            Err(error) => return format!("{count} bytes, {}", super::how(&error)),
        }
    }
}
