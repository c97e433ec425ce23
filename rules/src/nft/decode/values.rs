//! What the bytes in expressions mean.

use std::net::IpAddr;

use super::super::Side;
use super::super::kernel::{self, expression, payload};
use super::super::wire::find;
use super::expressions::Value;
use crate::ports::{Port, PortRange};
use crate::ruleset::{Condition, Family, Protocol};

pub(super) fn data(body: &[u8], kind: u16) -> Option<&[u8]> {
    find(find(body, kind)?, expression::DATA_VALUE)
}

pub(super) fn family(number: u32) -> Option<Family> {
    Family::BOTH.into_iter().find(|family| u32::from(kernel::family_number(*family)) == number)
}

pub(super) fn protocol(bytes: &[u8]) -> Option<Protocol> {
    [Protocol::Tcp, Protocol::Udp].into_iter().find(|protocol| [kernel::protocol_number(*protocol)] == bytes)
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
