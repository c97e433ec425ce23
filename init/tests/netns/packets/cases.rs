//! Which packets are sent: by whom, from where, to where.

use std::net::SocketAddr;

use rules::packet::{Direction, Packet};
use rules::ruleset::Protocol;

use crate::roles::{Send, Who};

/// A packet to be sent, and where.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(super) from_outside: bool,
    interface: &'static str,
    pub(super) send: Send,
}

impl Case {
    /// The packet on the command line of `explain`.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let Packet { source, destination, protocol, user, group, .. } = self.packet();
        let (direction, interface) = if self.from_outside { ("--in", "--iif") } else { ("--out", "--oif") };
        let mut arguments = vec![direction.to_owned()];
        let mut give = |flag: &str, value: String| arguments.extend([flag.to_owned(), value]);
        give(interface, self.interface.to_owned());
        give("--src", source.to_string());
        give("--dst", destination.to_string());
        give("--proto", protocol.to_string());
        if let (Some(user), Some(group)) = (user, group) {
            give("--uid", user.to_string());
            give("--gid", group.to_string());
        }
        arguments
    }

    pub(super) fn packet(&self) -> Packet {
        let Send { who, udp, source, destination } = &self.send;
        let direction = if self.from_outside { Direction::In } else { Direction::Out };
        let protocol = if *udp { Protocol::Udp } else { Protocol::Tcp };
        let usual: SocketAddr = match (self.from_outside, destination) {
            (true, SocketAddr::V4(_)) => "10.77.0.9:40000".parse().unwrap(),
            (true, SocketAddr::V6(_)) => "[fd00:77::9]:40000".parse().unwrap(),
            // Towards itself the kernel takes the destination for the source, within 127/8 always 127.0.0.1.
            (false, SocketAddr::V4(v4)) if v4.ip().is_loopback() => "127.0.0.1:40000".parse().unwrap(),
            (false, SocketAddr::V4(_)) => "10.77.0.2:40000".parse().unwrap(),
            (false, SocketAddr::V6(v6)) if v6.ip().is_loopback() => "[::1]:40000".parse().unwrap(),
            (false, SocketAddr::V6(_)) => "[fd00:77::2]:40000".parse().unwrap(),
        };
        let source = source.map_or(usual, |address| SocketAddr::new(address, 40000));
        let mut packet = Packet::new(direction, protocol, source, *destination);
        let interface = Some(self.interface.to_owned());
        if self.from_outside {
            packet.in_interface = interface;
        } else {
            (packet.out_interface, packet.user, packet.group) = (interface, Some(who.user), Some(who.group));
        }
        packet
    }
}

pub(super) const APPLICATION: Who = Who { user: 1000, group: 1000 };
const PROXY: Who = Who { user: 1337, group: 1337 };
const PROXY_GROUP: Who = Who { user: 1000, group: 1337 };
const ROOT: Who = Who { user: 0, group: 0 };
const ROOT_PROXY: Who = Who { user: 0, group: 1337 };

/// Destinations in and around the pod, and the interface that leads there.
const OUTGOING: [(&str, &str); 10] = [
    ("10.77.0.9:80", "eth0"),
    ("10.77.0.9:3306", "eth0"),
    ("10.77.0.1:53", "eth0"),
    ("10.77.0.77:53", "eth0"),
    ("10.78.0.9:80", "net1"),
    ("10.77.0.2:8080", "lo"),
    ("10.77.0.2:15008", "lo"),
    ("127.0.0.1:8080", "lo"),
    ("127.0.0.2:8080", "lo"),
    ("127.0.0.53:53", "lo"),
];

const INCOMING: [(&str, &str); 5] = [
    ("10.77.0.2:8080", "eth0"),
    ("10.77.0.2:15006", "eth0"),
    ("10.77.0.2:15008", "eth0"),
    ("10.77.0.2:15021", "eth0"),
    ("10.78.0.2:8080", "net1"),
];

pub(crate) fn ipv4_cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for udp in [false, true] {
        for who in [APPLICATION, PROXY, PROXY_GROUP, ROOT, ROOT_PROXY] {
            for (destination, interface) in OUTGOING {
                let send = Send { who, udp, source: None, destination: destination.parse().unwrap() };
                cases.push(Case { from_outside: false, interface, send });
            }
        }
        for (destination, interface) in INCOMING {
            let send = Send { who: ROOT, udp, source: None, destination: destination.parse().unwrap() };
            cases.push(Case { from_outside: true, interface, send });
        }
    }
    // As Istio's validator does, as the proxy and as root.
    for who in [PROXY, ROOT] {
        let [source, destination] = ["127.0.0.1", "127.0.0.6:15002"];
        let source = Some(source.parse().unwrap());
        let send = Send { who, udp: false, source, destination: destination.parse().unwrap() };
        cases.push(Case { from_outside: false, interface: "lo", send });
    }
    for who in [PROXY, ROOT_PROXY, APPLICATION] {
        let destination = "10.77.0.2:8080".parse().unwrap();
        let send = Send { who, udp: false, source: Some("127.0.0.6".parse().unwrap()), destination };
        cases.push(Case { from_outside: false, interface: "lo", send });
    }
    cases
}

pub(crate) fn ipv6_cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for who in [APPLICATION, PROXY, PROXY_GROUP] {
        for (destination, interface) in [
            ("[fd00:77::9]:80", "eth0"),
            ("[fd00:77::2]:8080", "lo"),
            ("[::1]:8080", "lo"),
            ("[fd00:77::2]:15008", "lo"),
        ] {
            let send = Send { who, udp: false, source: None, destination: destination.parse().unwrap() };
            cases.push(Case { from_outside: false, interface, send });
        }
    }
    let destination: SocketAddr = "[fd00:77::2]:8080".parse().unwrap();
    let passthrough = Send { who: PROXY, udp: false, source: Some("::6".parse().unwrap()), destination };
    cases.push(Case { from_outside: false, interface: "lo", send: passthrough });
    for port in [8080, 15008, 15021] {
        let send = Send {
            who: ROOT,
            udp: false,
            source: None,
            destination: SocketAddr::new(destination.ip(), port),
        };
        cases.push(Case { from_outside: true, interface: "eth0", send });
    }
    cases
}
