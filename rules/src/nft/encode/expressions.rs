//! The expressions of one rule: what it asks of a packet, and what it does with it.

use std::net::IpAddr;

use ipnet::IpNet;

use super::super::kernel::{
    self, REGISTER, VERDICT_REGISTER, compare, ct, expression, meta, payload, rule, set, verdict,
};
use super::super::layout::InetRule;
use super::super::wire::Attributes;
use super::super::{Side, chain_name};
use super::{PortSet, value};
use crate::bytes::INTERFACE_LENGTH;
use crate::ports::PortRange;
use crate::ruleset::{Condition, Family, Match, Rule, Target};
use crate::settings::Owner;

/// The expressions of one rule, and the sets they look into.
pub(super) struct Expressions<'a> {
    pub(super) list: Attributes,
    pub(super) sets: Vec<PortSet>,
    next_set: &'a mut u32,
    /// Whether the rule has made sure of the address family that its addresses are of.
    family_asked: bool,
}

/// Each port is an element of its own; what is listed in one rule is a handful.
const MOST_PORTS_IN_A_SET: usize = 1024;

type Encoded = Result<(), &'static str>;

impl<'a> Expressions<'a> {
    pub(super) fn of(rule: &InetRule, next_set: &'a mut u32) -> Result<Self, &'static str> {
        let mut expressions =
            Self { list: Attributes::default(), sets: Vec::new(), next_set, family_asked: false };
        for m in &rule.rule.matches {
            expressions.condition(m, &rule.rule)?;
        }
        expressions.target(&rule.rule.target, rule.family)?;
        Ok(expressions)
    }

    fn add(&mut self, name: &str, fill: impl FnOnce(&mut Attributes)) {
        self.list.nested(rule::EXPRESSION, |expression| {
            expression.text(rule::EXPRESSION_NAME, name).nested(rule::EXPRESSION_BODY, fill);
        });
    }

    fn condition(&mut self, m: &Match, whole: &Rule) -> Encoded {
        match &m.condition {
            Condition::InInterface(interface) => {
                self.meta(meta::IN_INTERFACE);
                self.compare(m.negated, &interface_name(interface.as_str()));
            }
            Condition::OutInterface(interface) => {
                self.meta(meta::OUT_INTERFACE);
                self.compare(m.negated, &interface_name(interface.as_str()));
            }
            Condition::Source(net) => self.address(net, Side::Source, m.negated),
            Condition::Destination(net) => self.address(net, Side::Destination, m.negated),
            Condition::Protocol(protocol) => {
                self.meta(meta::PROTOCOL);
                self.compare(m.negated, &[kernel::protocol_number(*protocol)]);
            }
            Condition::SourcePort(range) => self.ports(whole, Side::Source, *range, m.negated)?,
            Condition::DestinationPort(range) => self.ports(whole, Side::Destination, *range, m.negated)?,
            Condition::DestinationPorts(list) => self.port_set(whole, list, m.negated)?,
            Condition::User(owner) => self.owner(meta::USER, owner, m.negated)?,
            Condition::Group(owner) => self.owner(meta::GROUP, owner, m.negated)?,
            Condition::Mark(mark) => {
                self.meta(meta::MARK);
                self.compare(m.negated, &mark.to_ne_bytes());
            }
            Condition::ConnectionMark(mark) => {
                self.load("ct", ct::MARK);
                self.compare(m.negated, &mark.to_ne_bytes());
            }
            Condition::ConnectionState(states) => {
                let bits = states.iter().fold(0, |all, state| all | state.bit());
                self.load("ct", ct::STATE);
                self.mask(&bits.to_ne_bytes());
                // Some bit is left when the connection is in one of the states.
                self.compare(!m.negated, &[0; 4]);
            }
            Condition::Comment(_) => {}
            Condition::Other(_) => return Err("one of its conditions was not made here"),
        }
        Ok(())
    }

    fn meta(&mut self, key: u32) {
        self.load("meta", key);
    }

    fn load(&mut self, name: &str, key: u32) {
        self.add(name, |body| {
            body.number(expression::LOAD_INTO, REGISTER).number(expression::LOAD_KEY, key);
        });
    }

    fn compare(&mut self, negated: bool, with: &[u8]) {
        self.compare_how(if negated { compare::UNEQUAL } else { compare::EQUAL }, with);
    }

    fn compare_how(&mut self, how: u32, with: &[u8]) {
        self.add("cmp", |body| {
            body.number(expression::COMPARE_REGISTER, REGISTER).number(expression::COMPARE_HOW, how);
            value(body, expression::COMPARE_WITH, with);
        });
    }

    fn mask(&mut self, mask: &[u8]) {
        let length = u32::try_from(mask.len()).unwrap_or_default();
        self.add("bitwise", |body| {
            body.number(expression::BITWISE_FROM, REGISTER)
                .number(expression::BITWISE_INTO, REGISTER)
                .number(expression::BITWISE_LENGTH, length);
            value(body, expression::BITWISE_MASK, mask);
            value(body, expression::BITWISE_XOR, &vec![0; mask.len()]);
        });
    }

    fn payload(&mut self, base: u32, offset: u32, length: usize) {
        let length = u32::try_from(length).unwrap_or_default();
        self.add("payload", |body| {
            body.number(expression::PAYLOAD_INTO, REGISTER)
                .number(expression::PAYLOAD_BASE, base)
                .number(expression::PAYLOAD_OFFSET, offset)
                .number(expression::PAYLOAD_LENGTH, length);
        });
    }

    /// Whole bytes of an address are compared as they are; what ends within a byte is masked.
    fn address(&mut self, net: &IpNet, side: Side, negated: bool) {
        let family = if net.addr().is_ipv4() { Family::V4 } else { Family::V6 };
        if !self.family_asked {
            self.meta(meta::FAMILY);
            self.compare(false, &[kernel::family_number(family)]);
            self.family_asked = true;
        }
        let address = octets(net.network());
        let prefix = usize::from(net.prefix_len());
        let whole = prefix > 0 && prefix.is_multiple_of(8);
        let length = if whole { prefix / 8 } else { address.len() };
        self.payload(payload::NETWORK, side.offset_of_address(family), length);
        if !whole {
            self.mask(&octets(net.netmask()));
        }
        self.compare(negated, &address[..length]);
    }

    fn ports(&mut self, whole: &Rule, side: Side, range: PortRange, negated: bool) -> Encoded {
        self.port_loaded(whole, side)?;
        let [first, last] = [range.first(), range.last()].map(|port| port.number().to_be_bytes());
        if first == last {
            self.compare(negated, &first);
        } else if negated {
            self.add("range", |body| {
                body.number(expression::COMPARE_REGISTER, REGISTER)
                    .number(expression::COMPARE_HOW, compare::UNEQUAL);
                value(body, expression::COMPARE_WITH, &first);
                value(body, expression::RANGE_END, &last);
            });
        } else {
            self.compare_how(compare::AT_LEAST, &first);
            self.compare_how(compare::AT_MOST, &last);
        }
        Ok(())
    }

    fn port_loaded(&mut self, whole: &Rule, side: Side) -> Encoded {
        // Whatever stands where TCP and UDP have their ports must not be taken for one.
        let told = |m: &Match| matches!(m.condition, Condition::Protocol(_)) && !m.negated;
        if !whole.matches.iter().any(told) {
            return Err("it asks for a port without a protocol");
        }
        self.payload(payload::TRANSPORT, side.offset_of_port(), 2);
        Ok(())
    }

    fn port_set(&mut self, whole: &Rule, list: &[PortRange], negated: bool) -> Encoded {
        self.port_loaded(whole, Side::Destination)?;
        let ports: Vec<_> =
            list.iter().flat_map(|range| range.first().number()..=range.last().number()).collect();
        if ports.len() > MOST_PORTS_IN_A_SET {
            return Err("it lists more than 1024 ports");
        }
        *self.next_set += 1;
        let id = *self.next_set;
        self.sets.push(PortSet { id, ports });
        self.add("lookup", |body| {
            body.text(expression::LOOKUP_SET, set::ANONYMOUS_NAME)
                .number(expression::LOOKUP_REGISTER, REGISTER)
                .number(expression::LOOKUP_SET_ID, id)
                .number(expression::LOOKUP_FLAGS, if negated { expression::LOOKUP_INVERTED } else { 0 });
        });
        Ok(())
    }

    fn owner(&mut self, key: u32, owner: &Owner, negated: bool) -> Encoded {
        let Owner::Id(id) = owner else { return Err("it names a user or group that has no number here") };
        self.meta(key);
        self.compare(negated, &id.to_ne_bytes());
        Ok(())
    }

    fn target(&mut self, target: &Target, family: Option<Family>) -> Encoded {
        if let Target::Tproxy { port, mark } = target {
            self.immediate(&port.number().to_be_bytes());
            self.add("tproxy", |body| {
                body.number(
                    expression::TPROXY_FAMILY,
                    family.map_or(0, |only| kernel::family_number(only).into()),
                )
                .number(expression::TPROXY_PORT_REGISTER, REGISTER);
            });
            self.set_mark(*mark);
        }
        self.add("counter", |body| {
            body.bytes(expression::COUNTER_BYTES, &[0; 8]).bytes(expression::COUNTER_PACKETS, &[0; 8]);
        });
        match target {
            Target::Continue => {}
            Target::Return => self.verdict(verdict::RETURN, None),
            Target::Accept | Target::Tproxy { .. } => self.verdict(verdict::ACCEPT, None),
            Target::Drop => self.verdict(verdict::DROP, None),
            Target::Jump(chain) => self.verdict(verdict::JUMP, Some(&chain_name(chain))),
            Target::Redirect(port) => {
                self.immediate(&port.number().to_be_bytes());
                self.add("redir", |body| {
                    body.number(expression::REDIR_PORT_REGISTER, REGISTER);
                });
            }
            Target::SetMark(mark) => self.set_mark(*mark),
            Target::SaveMark => {
                self.meta(meta::MARK);
                self.store("ct", ct::MARK, expression::CT_SET_FROM);
            }
            Target::RestoreMark => {
                self.load("ct", ct::MARK);
                self.store("meta", meta::MARK, expression::META_SET_FROM);
            }
            Target::Zone(zone) => {
                self.immediate(&zone.to_ne_bytes());
                self.store("ct", ct::ZONE, expression::CT_SET_FROM);
            }
            Target::Other(_) => return Err("its target was not made here"),
        }
        Ok(())
    }

    fn set_mark(&mut self, mark: u32) {
        self.immediate(&mark.to_ne_bytes());
        self.store("meta", meta::MARK, expression::META_SET_FROM);
    }

    fn store(&mut self, name: &str, key: u32, from: u16) {
        self.add(name, |body| {
            body.number(expression::LOAD_KEY, key).number(from, REGISTER);
        });
    }

    fn immediate(&mut self, bytes: &[u8]) {
        self.add("immediate", |body| {
            body.number(expression::IMMEDIATE_INTO, REGISTER);
            value(body, expression::IMMEDIATE_DATA, bytes);
        });
    }

    fn verdict(&mut self, code: i32, chain: Option<&str>) {
        self.add("immediate", |body| {
            body.number(expression::IMMEDIATE_INTO, VERDICT_REGISTER);
            body.nested(expression::IMMEDIATE_DATA, |data| {
                data.nested(expression::DATA_VERDICT, |verdict| {
                    verdict.bytes(expression::VERDICT_CODE, &code.to_be_bytes());
                    if let Some(chain) = chain {
                        verdict.text(expression::VERDICT_CHAIN, chain);
                    }
                });
            });
        });
    }
}

/// A whole name is compared with its ending zeros, the beginning of one without.
fn interface_name(name: &str) -> Vec<u8> {
    if let Some(beginning) = name.strip_suffix('+') {
        return beginning.as_bytes().to_vec();
    }
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(INTERFACE_LENGTH, 0);
    bytes
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}
