//! What the bytes in expressions mean.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::super::Side;
use super::super::kernel::{self, INTERFACE_LENGTH, expression, payload};
use super::super::wire::find;
use super::expressions::Value;
use crate::ports::{Port, PortRange};
use crate::ruleset::{Condition, ConnectionState, Family, Protocol};
use crate::settings::Interface;

pub(super) fn data(body: &[u8], kind: u16) -> Option<&[u8]> {
    find(find(body, kind)?, expression::DATA_VALUE)
}

pub(super) fn family(number: u32) -> Option<Family> {
    Family::BOTH.into_iter().find(|family| u32::from(kernel::family_number(*family)) == number)
}

pub(super) fn protocol(bytes: &[u8]) -> Option<Protocol> {
    [Protocol::Tcp, Protocol::Udp].into_iter().find(|protocol| [kernel::protocol_number(*protocol)] == bytes)
}

/// A whole name ends in zeros; without, it is the beginning of one.
pub(super) fn interface(bytes: &[u8]) -> Option<Interface> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let any_ending = if bytes.len() < INTERFACE_LENGTH && end == bytes.len() { "+" } else { "" };
    format!("{}{any_ending}", std::str::from_utf8(&bytes[..end]).ok()?).parse().ok()
}

pub(super) fn states(mask: u32) -> Option<BTreeSet<ConnectionState>> {
    let all = ConnectionState::ALL.map(|(state, _)| state);
    let known = all.iter().map(|state| kernel::state_bit(*state)).fold(0, |bits, bit| bits | bit);
    let asked = |state: &ConnectionState| mask & kernel::state_bit(*state) != 0;
    (mask & !known == 0).then(|| all.into_iter().filter(asked).collect())
}

pub(super) fn port_side(value: &Value) -> Option<Side> {
    let &Value::Payload { base: payload::TRANSPORT, offset, length: 2 } = value else { return None };
    [Side::Source, Side::Destination].into_iter().find(|side| side.offset_of_port() == offset)
}

pub(super) fn ports(value: &Value, from: &[u8], to: &[u8]) -> Option<Condition> {
    let port = |bytes: &[u8]| Port::new(u16::from_be_bytes(bytes.try_into().ok()?));
    let range = PortRange::new(port(from)?, port(to)?)?;
    Some(match port_side(value)? {
        Side::Source => Condition::SourcePort(range),
        Side::Destination => Condition::DestinationPort(range),
    })
}

/// Whole bytes may be left out at the end.
pub(super) fn address(family: Family, beginning: &[u8]) -> Option<IpAddr> {
    match family {
        Family::V4 => {
            let mut octets = [0; 4];
            octets.get_mut(..beginning.len())?.copy_from_slice(beginning);
            Some(octets.into())
        }
        Family::V6 => {
            let mut octets = [0; 16];
            octets.get_mut(..beginning.len())?.copy_from_slice(beginning);
            Some(octets.into())
        }
    }
}

/// How many bits a mask begins with; none when others follow later.
pub(super) fn prefix_length(mask: &[u8]) -> Option<u8> {
    let ones: u32 = mask.iter().map(|byte| byte.count_ones()).sum();
    let mut leading = mask.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 == 1));
    let together = leading.by_ref().take_while(|set| *set).count();
    (u32::try_from(together).ok()? == ones).then(|| u8::try_from(ones).ok())?
}
