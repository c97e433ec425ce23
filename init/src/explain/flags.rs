//! The packet on the command line of `explain`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use rules::flags::{Flag, FlagKind, RawSettings};
use rules::invalid::{Invalid, Origin, Problem};
use rules::packet::{Direction, Packet};
use rules::ports::Port;
use rules::ruleset::{ConnectionState, Protocol};
use rules::settings::Interface;

use crate::facts::Address;

/// A packet as far as it is given; the rest is worked out from the machine's addresses.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Request {
    direction: Direction,
    protocol: Protocol,
    destination: SocketAddr,
    source: Option<SocketAddr>,
    user: Option<u32>,
    group: Option<u32>,
    in_interface: Option<Interface>,
    out_interface: Option<Interface>,
    state: Option<ConnectionState>,
    mark: u32,
    connection_mark: u32,
    /// Whether the kernel's own rules are read instead of those of the flags.
    pub(crate) live: bool,
}

/// Every flag of the packet.
pub(crate) const FLAGS: &[&Flag] =
    &[&IN, &OUT, &DST, &SRC, &PROTO, &UID, &GID, &IIF, &OIF, &STATE, &MARK, &CONNMARK, &LIVE];

const fn flag(long: &'static str, kind: FlagKind, help: &'static str) -> Flag {
    Flag { long, short: None, variables: &[], kind, default: "", help }
}

static IN: Flag = flag("in", FlagKind::Switch, "the packet comes to this machine");
static OUT: Flag = flag("out", FlagKind::Switch, "a process of this machine sends the packet");
static DST: Flag =
    flag("dst", FlagKind::Value("ADDR:PORT"), "where it goes to, as 10.0.0.7:80 or [fd00::7]:80");
static SRC: Flag = flag("src", FlagKind::Value("ADDR:PORT"), "where it comes from");
static PROTO: Flag = Flag { default: "tcp", ..flag("proto", FlagKind::Value("PROTOCOL"), "tcp or udp") };
static UID: Flag =
    flag("uid", FlagKind::Value("UID"), "user of the sending process; none is any but the proxy's");
static GID: Flag =
    flag("gid", FlagKind::Value("GID"), "group of the sending process; none is any but the proxy's");
static IIF: Flag = flag("iif", FlagKind::Value("NAME"), "interface it comes in by");
static OIF: Flag =
    flag("oif", FlagKind::Value("NAME"), "interface it goes out by; lo for addresses of this machine");
static STATE: Flag = Flag {
    default: "new; established for an answer of a DNS server",
    ..flag("state", FlagKind::Value("STATE"), "its connection: new, established, related or invalid")
};
static MARK: Flag = Flag { default: "0", ..flag("mark", FlagKind::Value("MARK"), "its mark (SO_MARK)") };
static CONNMARK: Flag =
    Flag { default: "0", ..flag("connmark", FlagKind::Value("MARK"), "the mark of its connection") };
static LIVE: Flag =
    flag("live", FlagKind::Switch, "read the kernel's own rules, with counters, not the flags");

impl Request {
    /// Reads the packet, every problem at once.
    pub(crate) fn read(raw: &RawSettings) -> Result<Self, Vec<Problem>> {
        let mut reader = Reader { raw, problems: Vec::new() };
        let direction = reader.direction();
        let destination = reader.destination();
        let request = Self {
            source: reader.source(destination),
            direction,
            protocol: reader.one(&PROTO, protocol).unwrap_or(Protocol::Tcp),
            destination: destination.unwrap_or(NOWHERE),
            user: reader.one(&UID, |text| number("uid", text)),
            group: reader.one(&GID, |text| number("gid", text)),
            in_interface: reader.one(&IIF, Interface::from_str),
            out_interface: reader.one(&OIF, Interface::from_str),
            state: reader.one(&STATE, state),
            mark: reader.one(&MARK, |text| number("mark", text)).unwrap_or(0),
            connection_mark: reader.one(&CONNMARK, |text| number("mark", text)).unwrap_or(0),
            live: raw.of(&LIVE).is_some_and(|given| given.text == "true"),
        };
        if reader.problems.is_empty() { Ok(request) } else { Err(reader.problems) }
    }

    /// The whole packet, on a machine with these addresses.
    pub(crate) fn packet(&self, addresses: &[Address]) -> Packet {
        let machine = Machine { addresses };
        let by_loopback = machine.leads_to_itself(self.destination.ip(), self.source);
        let source =
            self.source.unwrap_or_else(|| machine.source(self.direction, self.destination.ip(), by_loopback));
        let mut packet = Packet::new(self.direction, self.protocol, source, self.destination);
        let given = |interface: &Option<Interface>| interface.as_ref().map(|name| name.as_str().to_owned());
        match self.direction {
            Direction::In => {
                let usual = if source.ip().is_loopback() {
                    "lo".to_owned()
                } else {
                    machine.interface(self.destination.ip())
                };
                packet.in_interface = given(&self.in_interface).or(Some(usual));
            }
            Direction::Out => {
                let usual =
                    if by_loopback { "lo".to_owned() } else { machine.interface(self.destination.ip()) };
                packet.out_interface = given(&self.out_interface).or(Some(usual));
                packet.user = self.user;
                packet.group = self.group;
            }
        }
        packet.mark = self.mark;
        packet.connection_mark = self.connection_mark;
        packet.state = self.state.unwrap_or_else(|| usual_state(&packet));
        packet
    }
}

/// What comes by UDP from a DNS server is an answer, so its connection has been seen before.
fn usual_state(packet: &Packet) -> ConnectionState {
    let servers = [Port::RESOLVER, Port::DNS].map(Port::number);
    if packet.protocol == Protocol::Udp && servers.contains(&packet.source.port()) {
        return ConnectionState::Established;
    }
    ConnectionState::New
}

struct Machine<'a> {
    addresses: &'a [Address],
}

/// A source port as the kernel would choose it.
const SOME_PORT: u16 = 40000;

impl Machine<'_> {
    fn leads_to_itself(&self, destination: IpAddr, source: Option<SocketAddr>) -> bool {
        destination.is_loopback()
            || source.is_some_and(|source| source.ip() == destination)
            || self.addresses.iter().any(|own| own.address == destination)
    }

    fn source(&self, direction: Direction, destination: IpAddr, by_loopback: bool) -> SocketAddr {
        let address = match direction {
            Direction::In if destination.is_ipv4() => Ipv4Addr::new(192, 0, 2, 1).into(),
            Direction::In => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
            Direction::Out if destination.is_loopback() && destination.is_ipv4() => {
                Ipv4Addr::LOCALHOST.into()
            }
            Direction::Out if by_loopback => destination,
            Direction::Out => self.address_like(destination),
        };
        SocketAddr::new(address, SOME_PORT)
    }

    fn address_like(&self, destination: IpAddr) -> IpAddr {
        let unspecified =
            if destination.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        self.outside(destination).map_or(unspecified, |own| own.address)
    }

    fn interface(&self, destination: IpAddr) -> String {
        self.outside(destination).map_or_else(|| "eth0".to_owned(), |own| own.interface.clone())
    }

    /// The first address of the same family that others can reach.
    fn outside(&self, destination: IpAddr) -> Option<&Address> {
        self.addresses
            .iter()
            .find(|own| !own.on_loopback && own.is_usable() && own.address.is_ipv4() == destination.is_ipv4())
    }
}

struct Reader<'g> {
    raw: &'g RawSettings,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn direction(&mut self) -> Direction {
        let said = |flag: &Flag| self.raw.of(flag).is_some_and(|given| given.text == "true");
        match (said(&IN), said(&OUT)) {
            (true, false) => Direction::In,
            (false, true) => Direction::Out,
            (false, false) => self.refuse(Problem::Missing {
                what: "direction",
                expected: "--in or --out, as in `explain --out --dst 10.0.0.7:80`",
            }),
            (true, true) => self.refuse(Problem::Both { one: "--in", other: "--out" }),
        }
    }

    fn refuse(&mut self, problem: Problem) -> Direction {
        self.problems.push(problem);
        Direction::Out
    }

    fn destination(&mut self) -> Option<SocketAddr> {
        if !self.raw.has(&DST) {
            let expected = "an address and a port, as in `explain --out --dst 10.0.0.7:80`";
            self.problems.push(Problem::Missing { what: "destination --dst", expected });
        }
        self.one(&DST, address)
    }

    fn source(&mut self, destination: Option<SocketAddr>) -> Option<SocketAddr> {
        let source = self.one(&SRC, address)?;
        if destination.is_some_and(|destination| source.is_ipv4() != destination.is_ipv4()) {
            let expected = "an address of the same family as --dst";
            let invalid = Invalid::new("address", &source.to_string(), expected);
            self.problems.push(Problem::Invalid { origin: Origin::Flag(SRC.long), invalid });
        }
        Some(source)
    }

    fn one<T>(&mut self, flag: &Flag, read: impl Fn(&str) -> Result<T, Invalid>) -> Option<T> {
        let given = self.raw.of(flag)?;
        match read(&given.text) {
            Ok(value) => Some(value),
            Err(invalid) => {
                self.problems.push(Problem::Invalid { origin: given.origin.clone(), invalid });
                None
            }
        }
    }
}

/// Stands in for a destination that did not read; the request is then refused.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

const ADDRESS: &str = "an address and a port, for example 10.0.0.7:80 or [fd00::7]:80";

fn address(text: &str) -> Result<SocketAddr, Invalid> {
    text.parse().map_err(|_| Invalid::new("address", text, ADDRESS))
}

fn protocol(text: &str) -> Result<Protocol, Invalid> {
    match text {
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        _ => Err(Invalid::new("protocol", text, "`tcp` or `udp`")),
    }
}

fn state(text: &str) -> Result<ConnectionState, Invalid> {
    match text {
        "new" => Ok(ConnectionState::New),
        "established" => Ok(ConnectionState::Established),
        "related" => Ok(ConnectionState::Related),
        "invalid" => Ok(ConnectionState::Invalid),
        _ => Err(Invalid::new("state", text, "`new`, `established`, `related` or `invalid`")),
    }
}

fn number(what: &'static str, text: &str) -> Result<u32, Invalid> {
    text.parse().map_err(|_| Invalid::new(what, text, "a number 0–4294967295, for example 1337"))
}
