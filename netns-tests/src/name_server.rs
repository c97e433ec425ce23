//! A name server that knows what a test tells it.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::pod::Pod;

/// Addresses by name, and how often each name was asked for.
#[derive(Debug, Default)]
struct Zone {
    addresses: HashMap<String, Vec<IpAddr>>,
    asked: HashMap<String, usize>,
}

/// A name server on port 53 of a pod. Whatever it answers is good for a second.
#[derive(Clone, Debug)]
pub struct NameServer {
    zone: Arc<Mutex<Zone>>,
    address: IpAddr,
}

impl NameServer {
    /// Begins to answer, for as long as the process lasts.
    ///
    /// # Errors
    /// When the port cannot be opened.
    pub fn start(pod: &Pod) -> Result<Self> {
        let at = SocketAddr::new(pod.ip(), 53);
        let socket = pod.namespace().within(|| UdpSocket::bind(at))?;
        let server = Self { zone: Arc::default(), address: pod.ip() };
        let answering = server.clone();
        thread::spawn(move || {
            let mut question = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut question) {
                _ = socket.send_to(&answering.answer(&question[..length]), from);
            }
        });
        Ok(server)
    }

    /// Has what this thread starts ask the name server at this address, by a file in the place of `/etc/resolv.conf`.
    ///
    /// # Errors
    /// When the file cannot be written, or not be put there.
    pub(crate) fn be_asked_at(address: IpAddr, file: &Path) -> Result<()> {
        const NO_PATH: Option<&Path> = None;
        std::fs::write(file, format!("nameserver {address}\noptions timeout:2 attempts:1\n"))?;
        unshare(CloneFlags::CLONE_NEWNS)?;
        mount(NO_PATH, "/", NO_PATH, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NO_PATH)?;
        mount(Some(file), "/etc/resolv.conf", NO_PATH, MsFlags::MS_BIND, NO_PATH)
            .with_context(|| format!("{} cannot be /etc/resolv.conf", file.display()))
    }

    /// Where it is.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// What a name stands for from now on; without addresses there is no such name.
    pub fn set(&self, name: &str, addresses: &[IpAddr]) {
        self.within(|zone| zone.addresses.insert(name.to_owned(), addresses.to_vec()));
    }

    /// How often the addresses of a name were asked for.
    pub fn asked(&self, name: &str) -> usize {
        self.within(|zone| zone.asked.get(name).copied().unwrap_or_default())
    }

    fn within<R>(&self, act: impl FnOnce(&mut Zone) -> R) -> R {
        act(&mut self.zone.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Addresses for questions of type A, nothing for others, and that there is no such name (RFC 1035 §4.1.1).
    fn answer(&self, question: &[u8]) -> Vec<u8> {
        let Some((name, end)) = name_in(question) else { return Vec::new() };
        let asks_for_addresses = question.get(end..end + 2) == Some(&[0, 1]);
        let known = self.within(|zone| {
            *zone.asked.entry(name.clone()).or_default() += usize::from(asks_for_addresses);
            zone.addresses.get(&name).cloned().unwrap_or_default()
        });
        let no_such_name = if known.is_empty() { 3 } else { 0 };
        let addresses: Vec<_> = known.iter().filter(|_| asks_for_addresses).filter_map(octets).collect();
        let count = u8::try_from(addresses.len()).unwrap_or(u8::MAX);
        let mut answer = question[..2].to_vec();
        answer.extend([0x81, 0x80 | no_such_name, 0, 1, 0, count, 0, 0, 0, 0]);
        answer.extend(&question[12..question.len().min(end + 4)]);
        for address in addresses {
            // The name of the question, A, IN, a second, four bytes.
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
            answer.extend(address);
        }
        answer
    }
}

/// The name that is asked for, in lower case, and where it ends.
fn name_in(question: &[u8]) -> Option<(String, usize)> {
    let mut labels = Vec::new();
    let mut at = 12;
    while let length @ 1.. = usize::from(*question.get(at)?) {
        let label = question.get(at + 1..at + 1 + length)?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        at += 1 + length;
    }
    Some((labels.join("."), at + 1))
}

fn octets(address: &IpAddr) -> Option<[u8; 4]> {
    match address {
        IpAddr::V4(address) => Some(address.octets()),
        IpAddr::V6(_) => None,
    }
}
