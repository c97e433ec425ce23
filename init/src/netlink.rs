//! Addresses, routing rules and routes, by netlink: no `ip` program is needed.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, IpProtocol, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::errno::Errno;
use rules::ruleset::Family;

/// What routing rules of ours carry as their origin, so that clean-up finds them whatever the flags are. Any number that
/// no routing daemon has registered does.
const ORIGIN: u8 = 133;

/// The place of our routing rules: before the tables main and default, which are at 32766 and 32767.
const PRIORITY: u32 = 1337;

/// A conversation with the kernel's routing.
pub(crate) struct Routing {
    socket: Socket,
    loopback: u32,
}

impl Routing {
    /// Opens the conversation in the current network namespace.
    pub(crate) fn open() -> Result<Self> {
        let loopback = nix::net::if_::if_nametoindex("lo")
            .context("no interface lo in this network namespace: expected one, as every pod has")?;
        let mut socket = Socket::new(NETLINK_ROUTE).context("cannot open a netlink socket")?;
        socket.bind_auto().context("cannot bind a netlink socket")?;
        socket.connect(&SocketAddr::new(0, 0)).context("cannot connect a netlink socket")?;
        Ok(Self { socket, loopback })
    }

    /// Gives `lo` the address. Says whether it was not there before.
    pub(crate) fn add_loopback_address(&self, address: Ipv6Addr) -> Result<bool> {
        let message = RouteNetlinkMessage::NewAddress(self.loopback_address(address));
        let answer = self.change(message, NLM_F_CREATE | NLM_F_EXCL);
        unless(answer, Errno::EEXIST).with_context(|| {
            format!("cannot add an address to lo; equivalent: ip -6 address add {address}/128 dev lo")
        })
    }

    /// Takes the address from `lo`. Says whether it was there.
    pub(crate) fn remove_loopback_address(&self, address: Ipv6Addr) -> Result<bool> {
        let answer = self.change(RouteNetlinkMessage::DelAddress(self.loopback_address(address)), 0);
        unless(answer, Errno::EADDRNOTAVAIL).with_context(|| {
            format!("cannot remove an address from lo; equivalent: ip -6 address del {address}/128 dev lo")
        })
    }

    /// Delivers the packets that `select` means locally, by way of `table`. Says whether anything was missing before.
    pub(crate) fn add_delivery(&self, family: Family, select: Selector, table: u32) -> Result<bool> {
        let known = self
            .delivery_rules(family)?
            .iter()
            .any(|rule| rule.found.select == select && rule.found.table == table);
        if !known {
            let rule = RouteNetlinkMessage::NewRule(delivery_rule(family, select, table));
            self.change(rule, NLM_F_CREATE | NLM_F_EXCL).with_context(|| {
                format!(
                    "cannot add a routing rule; equivalent: {}",
                    rule_command(family, "add", select, table)
                )
            })?;
        }
        let route = RouteNetlinkMessage::NewRoute(self.local_route(family, table));
        let added =
            unless(self.change(route, NLM_F_CREATE | NLM_F_EXCL), Errno::EEXIST).with_context(|| {
                format!("cannot add a route (is lo up?); equivalent: {}", route_command(family, "add", table))
            })?;
        Ok(added || !known)
    }

    /// Takes away the routing rules that `which` names, with the routes that no other of them needs. Says how many.
    pub(crate) fn remove_deliveries(
        &self,
        family: Family,
        which: impl Fn(Delivery) -> bool,
    ) -> Result<usize> {
        let (gone, kept): (Vec<_>, Vec<_>) =
            self.delivery_rules(family)?.into_iter().partition(|rule| which(rule.found));
        for rule in &gone {
            let Delivery { select, table, .. } = rule.found;
            let answer = self.change(RouteNetlinkMessage::DelRule(rule.message.clone()), 0);
            unless(answer, Errno::ENOENT).with_context(|| {
                format!(
                    "cannot remove a routing rule; equivalent: {}",
                    rule_command(family, "del", select, table)
                )
            })?;
            if kept.iter().any(|kept| kept.found.table == table) {
                continue;
            }
            let answer = self.change(RouteNetlinkMessage::DelRoute(self.local_route(family, table)), 0);
            unless(answer, Errno::ESRCH).with_context(|| {
                format!("cannot remove a route; equivalent: {}", route_command(family, "del", table))
            })?;
        }
        Ok(gone.len())
    }

    /// The routing rules that look at what a [`Selector`] means only.
    pub(crate) fn deliveries(&self, family: Family) -> Result<Vec<Delivery>> {
        Ok(self.delivery_rules(family)?.into_iter().map(|rule| rule.found).collect())
    }

    /// Whether `table` delivers everything locally.
    pub(crate) fn delivers_locally(&self, family: Family, table: u32) -> Result<bool> {
        let mut request = RouteMessage::default();
        request.header.address_family = address_family(family);
        let routes = self.ask(RouteNetlinkMessage::GetRoute(request), NLM_F_DUMP);
        let routes = routes.with_context(|| format!("cannot list the {family} routes"))?;
        Ok(routes.iter().any(|route| self.is_local_route(route, table)))
    }

    fn is_local_route(&self, route: &RouteNetlinkMessage, table: u32) -> bool {
        let RouteNetlinkMessage::NewRoute(route) = route else { return false };
        let has = |attribute| route.attributes.contains(&attribute);
        route.header.kind == RouteType::Local
            && route.header.destination_prefix_length == 0
            && has(RouteAttribute::Table(table))
            && has(RouteAttribute::Oif(self.loopback))
    }

    fn loopback_address(&self, address: Ipv6Addr) -> AddressMessage {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet6;
        message.header.prefix_len = 128;
        message.header.index = self.loopback;
        message.attributes.push(AddressAttribute::Address(IpAddr::V6(address)));
        message
    }

    /// Every destination is local: `local default dev lo table TABLE`.
    fn local_route(&self, family: Family, table: u32) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.address_family = address_family(family);
        message.header.protocol = RouteProtocol::Boot;
        message.header.scope = RouteScope::Host;
        message.header.kind = RouteType::Local;
        message.attributes.push(RouteAttribute::Oif(self.loopback));
        message.attributes.push(RouteAttribute::Table(table));
        message
    }

    fn delivery_rules(&self, family: Family) -> Result<Vec<DeliveryRule>> {
        let mut request = RuleMessage::default();
        request.header.family = address_family(family);
        let answers = self.ask(RouteNetlinkMessage::GetRule(request), NLM_F_DUMP);
        let answers = answers.with_context(|| format!("cannot list the {family} routing rules"))?;
        Ok(answers.into_iter().filter_map(DeliveryRule::read).collect())
    }

    fn change(&self, message: RouteNetlinkMessage, flags: u16) -> Result<(), Errno> {
        self.ask(message, flags | NLM_F_ACK).map(|_| ())
    }

    /// Sends a request and collects the answers until the kernel says it is done.
    fn ask(&self, message: RouteNetlinkMessage, flags: u16) -> Result<Vec<RouteNetlinkMessage>, Errno> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | flags;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map_err(|error| errno(&error))?;
        let mut answers = Vec::new();
        loop {
            let (datagram, _) = self.socket.recv_from_full().map_err(|error| errno(&error))?;
            if read_datagram(&datagram, &mut answers)? {
                return Ok(answers);
            }
        }
    }
}

/// Reads one datagram of answers. Says whether it was the last.
fn read_datagram(mut bytes: &[u8], answers: &mut Vec<RouteNetlinkMessage>) -> Result<bool, Errno> {
    while !bytes.is_empty() {
        let message =
            NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes).map_err(|_| Errno::EBADMSG)?;
        // Messages are aligned to four bytes; a length of nothing would keep us here.
        let length = (message.header.length as usize).next_multiple_of(4).max(4);
        match message.payload {
            NetlinkPayload::Done(_) => return Ok(true),
            NetlinkPayload::Error(error) => {
                return error.code.map_or(Ok(true), |code| Err(Errno::from_raw(-code.get())));
            }
            NetlinkPayload::InnerMessage(answer) => answers.push(answer),
            _ => {}
        }
        bytes = bytes.get(length..).unwrap_or_default();
    }
    Ok(false)
}

/// A routing rule that delivers packets by a table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Delivery {
    /// Which packets.
    pub(crate) select: Selector,
    /// The table.
    pub(crate) table: u32,
    /// Whether we made the rule.
    pub(crate) is_ours: bool,
}

/// Which packets a routing rule is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Selector {
    /// Those with this mark.
    Mark(u32),
    /// TCP from 127.0.0.1 to an address that is not the machine's: what the application answers when the proxy has
    /// called it there from its client's address. The kernel looks for a route before it has restored the mark, and
    /// finds none that 127.0.0.1 may take. IPv6 lets ::1 take any.
    FromLoopback,
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mark(mark) => write!(f, "fwmark {mark}"),
            Self::FromLoopback => write!(f, "from {} ipproto tcp", Ipv4Addr::LOCALHOST),
        }
    }
}

/// A [`Delivery`] as the kernel describes it.
struct DeliveryRule {
    found: Delivery,
    message: RuleMessage,
}

impl DeliveryRule {
    fn read(message: RouteNetlinkMessage) -> Option<Self> {
        let RouteNetlinkMessage::NewRule(message) = message else { return None };
        let find = |read: fn(&RuleAttribute) -> Option<u32>| message.attributes.iter().find_map(read);
        let has = |attribute| message.attributes.contains(&attribute);
        let mark = find(|attribute| match attribute {
            RuleAttribute::FwMark(mark) => Some(*mark),
            _ => None,
        });
        let from_loopback = has(RuleAttribute::Source(Ipv4Addr::LOCALHOST.into()))
            && message.header.src_len == 32
            && has(RuleAttribute::IpProtocol(IpProtocol::Tcp));
        let select = match mark {
            Some(mark) => Selector::Mark(mark),
            None if from_loopback => Selector::FromLoopback,
            None => return None,
        };
        let table = find(|attribute| match attribute {
            RuleAttribute::Table(table) => Some(*table),
            _ => None,
        });
        let table = table.unwrap_or(message.header.table.into());
        let is_ours = has(RuleAttribute::Protocol(RouteProtocol::from(ORIGIN)));
        Some(Self { found: Delivery { select, table, is_ours }, message })
    }
}

fn delivery_rule(family: Family, select: Selector, table: u32) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = address_family(family);
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Table(table),
        RuleAttribute::Priority(PRIORITY),
        RuleAttribute::Protocol(RouteProtocol::from(ORIGIN)),
    ];
    match select {
        Selector::Mark(mark) => message.attributes.push(RuleAttribute::FwMark(mark)),
        Selector::FromLoopback => {
            message.header.src_len = 32;
            message.attributes.push(RuleAttribute::Source(Ipv4Addr::LOCALHOST.into()));
            message.attributes.push(RuleAttribute::IpProtocol(IpProtocol::Tcp));
        }
    }
    message
}

/// The `ip` command that does the same as our routing rule.
pub(crate) fn rule_command(family: Family, verb: &str, select: Selector, table: u32) -> String {
    format!("ip {} rule {verb} {select} lookup {table}", option(family))
}

/// The `ip` command that does the same as our route.
pub(crate) fn route_command(family: Family, verb: &str, table: u32) -> String {
    format!("ip {} route {verb} local default dev lo table {table}", option(family))
}

fn option(family: Family) -> &'static str {
    match family {
        Family::V4 => "-4",
        Family::V6 => "-6",
    }
}

fn address_family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

/// Whether a change was made, where `settled` means that there was nothing to change.
fn unless(answer: Result<(), Errno>, settled: Errno) -> Result<bool, Errno> {
    match answer {
        Ok(()) => Ok(true),
        Err(error) if error == settled => Ok(false),
        Err(error) => Err(error),
    }
}

fn errno(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
