//! Endpoints named for what they do with a connection.

use std::{
    collections::HashMap,
    net::{Shutdown, SocketAddr},
    sync::{Mutex, mpsc},
};

use nix::sys::socket::{setsockopt, sockopt};

use super::{
    cases::{Behaviour, PLACES},
    heard, rest,
};
use crate::{
    envoy::full::Full,
    support::{Client, Endpoint, PATIENCE, free_port},
};

/// What is behind every place.
pub(super) struct Endpoints {
    running: HashMap<&'static str, Running>,
}

struct Running {
    address: SocketAddr,
    /// What it saw of each connection; nothing of those that cannot come.
    told: Option<Mutex<mpsc::Receiver<String>>>,
    _full: Option<Full>,
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
        Behaviour::Stalls => {
            let full = Full::new();
            Some(Running { address: full.address, told: None, _full: Some(full) })
        }
        _ => {
            let (tell, told) = mpsc::channel();
            let endpoint = Endpoint::start(move |client| _ = tell.send(serve(behaviour, client)));
            Some(Running { address: endpoint.address, told: Some(Mutex::new(told)), _full: None })
        }
    }
}

/// What is seen of a connection.
fn serve(behaviour: Behaviour, mut client: Client) -> String {
    match behaviour {
        Behaviour::Greets => {
            client.send("220\n");
            echo(&mut client)
        }
        Behaviour::Counts => {
            let said = rest(&mut client.0);
            client.send(format!("heard{said}\n"));
            said
        }
        Behaviour::Ends => {
            client.send("bye\n");
            // The other side may have gone.
            _ = client.0.shutdown(Shutdown::Write);
            rest(&mut client.0)
        }
        Behaviour::Closes => String::new(),
        Behaviour::Resets => {
            let first = heard(&mut client.0, 3);
            if first.contains("ask") {
                client.send("half");
            }
            let said = first + &heard(&mut client.0, 1);
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
