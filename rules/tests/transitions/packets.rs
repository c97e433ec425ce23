//! Packets that a pod sends and gets, in both families.

use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;
use rules::packet::{Direction, Packet};
use rules::ruleset::{ConnectionState, Protocol};

/// The addresses of a pod, and those of others.
#[derive(Clone, Copy, Debug)]
struct Addresses {
    own: [&'static str; 6],
    others: [&'static str; 4],
}

const V4: Addresses = Addresses {
    own: ["10.77.0.2", "10.78.0.2", "127.0.0.1", "127.0.0.2", "127.0.0.6", "127.0.0.53"],
    others: ["10.77.0.9", "10.77.0.1", "10.78.0.9", "192.0.2.1"],
};
const V6: Addresses = Addresses {
    own: ["fd00:77::2", "fd00:78::2", "::1", "::6", "fd00:77::2", "::1"],
    others: ["fd00:77::9", "fd00:77::1", "fd00:78::9", "2001:db8::1"],
};

const PORTS: [u16; 12] = [53, 80, 3306, 8080, 8500, 15001, 15006, 15008, 15021, 15053, 15106, 40000];
const IDS: [u32; 4] = [1337, 0, 1000, 2000];
const MARKS: [u32; 3] = [0, 1337, 7];
const STATES: [ConnectionState; 4] =
    [ConnectionState::New, ConnectionState::Established, ConnectionState::Related, ConnectionState::Invalid];

fn at(address: &str, port: u16) -> SocketAddr {
    let address: IpAddr = address.parse().unwrap();
    SocketAddr::new(address, port)
}

/// From outside to one of the two addresses that are reached from there.
fn incoming(protocol: Protocol, source: SocketAddr, destination: SocketAddr, by: &str) -> Packet {
    let in_interface = Some(by.to_owned());
    Packet { in_interface, ..Packet::new(Direction::In, protocol, source, destination) }
}

/// To the pod itself by `lo`, to others by another interface.
fn outgoing(
    protocol: Protocol,
    source: SocketAddr,
    destination: SocketAddr,
    by: &str,
    (user, group): (u32, u32),
) -> Packet {
    let to_itself = [V4, V6].iter().any(|all| all.own.iter().any(|own| at(own, 0).ip() == destination.ip()));
    let out_interface = Some(if to_itself { "lo" } else { by }.to_owned());
    let (user, group) = (Some(user), Some(group));
    Packet { out_interface, user, group, ..Packet::new(Direction::Out, protocol, source, destination) }
}

prop_compose! {
    pub(crate) fn packet()(
        all in prop::sample::select(vec![V4, V6]),
        is_out in any::<bool>(),
        udp in prop::bool::weighted(0.3),
        (own, other) in (0..6usize, 0..10usize),
        (from, to) in (prop::sample::select(&PORTS[..]), prop::sample::select(&PORTS[..])),
        by in prop::sample::select(vec!["eth0", "net1", "net2"]),
        who in (prop::sample::select(&IDS[..]), prop::sample::select(&IDS[..])),
        (mark, connection_mark) in (prop::sample::select(&MARKS[..]), prop::sample::select(&MARKS[..])),
        state in prop_oneof![3 => Just(ConnectionState::New), 1 => prop::sample::select(&STATES[..])],
    ) -> Packet {
        let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
        if !is_out {
            let packet = incoming(protocol, at(all.others[other % 4], from), at(all.own[own % 2], to), by);
            return Packet { connection_mark, state, ..packet };
        }
        let destination = all.own.get(other).unwrap_or_else(|| &all.others[other - 6]);
        let packet = outgoing(protocol, at(all.own[own], from), at(destination, to), by, who);
        // The proxy gives the mark of TPROXY to its calls to the application; nobody gives it to what leaves the pod.
        let mark = if packet.out_interface.as_deref() == Some("lo") { mark } else { 0 };
        Packet { mark, connection_mark, state, ..packet }
    }
}

/// Some packets of every kind: by whom, from where, to where, of which connection.
pub(crate) fn of_every_kind() -> Vec<Packet> {
    let mut packets = Vec::new();
    for all in [V4, V6] {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for port in [53, 8080, 15008] {
                for source in all.others {
                    packets.push(incoming(protocol, at(source, 40000), at(all.own[0], port), "eth0"));
                }
                for destination in [all.own[0], all.own[2], all.own[5], all.others[0], all.others[1]] {
                    for source in [all.own[0], all.own[4]] {
                        for who in [(1337, 1337), (0, 1337), (1000, 1000)] {
                            let (source, destination) = (at(source, 40000), at(destination, port));
                            packets.push(outgoing(protocol, source, destination, "eth0", who));
                        }
                    }
                }
            }
        }
    }
    let in_state = |state| packets.iter().map(move |packet| Packet { state, ..packet.clone() });
    STATES.into_iter().flat_map(in_state).collect()
}
