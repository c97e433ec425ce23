//! The expressions of one rule, read one after the other as the kernel evaluates them.

use std::collections::HashMap;

use ipnet::IpNet;

use super::super::kernel::{VERDICT_REGISTER, compare, ct, expression, meta, payload, verdict};
use super::super::wire::{find, number, text};
use super::super::{Side, chain, words};
use super::Sets;
use super::values::{address, data, family, port_side, ports, protocol};
use crate::bytes::{interface, prefix_length};
use crate::extension;
use crate::parse::Counters;
use crate::ports::{Port, PortRange};
use crate::ruleset::{Condition, ConnectionState, Family, Match, Rule, Target};
use crate::settings::Owner;

/// A rule as far as it can be read.
pub(super) struct Read {
    /// The only family whose packets can meet it.
    pub(super) family: Option<Family>,
    pub(super) rule: Rule,
    pub(super) counters: Option<Counters>,
}

/// Reads expressions in order.
pub(super) struct Reader<'s> {
    table: &'s str,
    sets: &'s Sets,
    registers: HashMap<u32, Value>,
    family: Option<Family>,
    matches: Vec<Match>,
    steps: Vec<Step>,
    counters: Option<Counters>,
}

/// What a register holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Value {
    Meta(u32),
    Ct(u32),
    Payload {
        base: u32,
        offset: u32,
        length: usize,
    },
    /// Of another value, the bits of the mask.
    Masked(Box<Self>, Vec<u8>),
    /// Another value that is known to be at least this.
    AtLeast(Box<Self>, Vec<u8>),
    Bytes(Vec<u8>),
}

/// One thing that the rule does.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Step {
    Target(Target),
    Tproxy(Family, Port),
}

impl<'s> Reader<'s> {
    /// A reader of rules in this table; `family` is the only one whose packets come there, if it is not for both.
    pub(super) fn new(table: &'s str, sets: &'s Sets, family: Option<Family>) -> Self {
        Self {
            table,
            sets,
            registers: HashMap::new(),
            family,
            matches: Vec::new(),
            steps: Vec::new(),
            counters: None,
        }
    }

    /// Reads the next expression. One that is not understood becomes a condition of which nothing is known.
    pub(super) fn read(&mut self, name: &str, body: &[u8]) {
        if self.understands(name, body).is_none() {
            self.matches.push(Condition::Other(format!("[{name}]")).into());
        }
    }

    pub(super) fn finish(mut self) -> Read {
        // A lower bound that no upper one followed.
        if self.registers.values().any(|value| matches!(value, Value::AtLeast(..))) {
            self.matches.push(Condition::Other("[cmp]".to_owned()).into());
        }
        let target = self.target();
        Read { family: self.family, rule: Rule::new(self.matches, target), counters: self.counters }
    }

    fn target(&mut self) -> Target {
        match std::mem::take(&mut self.steps).as_slice() {
            [] => Target::Continue,
            [Step::Target(target)] => target.clone(),
            &[
                Step::Tproxy(family, port),
                Step::Target(Target::SetMark(mark)),
                Step::Target(Target::Accept),
            ] => {
                self.family = Some(family);
                Target::Tproxy { port, mark }
            }
            steps => {
                let word = |step: &Step| match step {
                    Step::Target(target) => words::target(target, None).replace("counter ", ""),
                    Step::Tproxy(_, port) => format!("tproxy to :{port}"),
                };
                Target::Other(steps.iter().map(word).collect::<Vec<_>>().join(" "))
            }
        }
    }

    fn understands(&mut self, name: &str, body: &[u8]) -> Option<()> {
        match name {
            "counter" => self.counters = super::counters(body),
            "meta" => self.load_or_store(body, Value::Meta, expression::META_SET_FROM, set_meta)?,
            "ct" => self.load_or_store(body, Value::Ct, expression::CT_SET_FROM, set_ct)?,
            "payload" => self.load(number(body, expression::PAYLOAD_INTO)?, loaded_payload(body)?),
            "bitwise" => self.mask(body)?,
            "cmp" => self.compare(body)?,
            "range" => self.range(body)?,
            "lookup" => self.look_up(body)?,
            "immediate" => self.immediate(body)?,
            "match" => self.matches.extend(extension_of(body, extension::conditions)?),
            "target" => {
                let family = self.family?;
                let target = extension_of(body, |name, revision, info| {
                    extension::target(name, revision, info, family)
                })?;
                self.steps.push(Step::Target(target));
            }
            "redir" => {
                let port = self.port(number(body, expression::REDIR_PORT_REGISTER)?)?;
                self.steps.push(Step::Target(Target::Redirect(port)));
            }
            "tproxy" => {
                let port = self.port(number(body, expression::TPROXY_PORT_REGISTER)?)?;
                self.steps.push(Step::Tproxy(family(number(body, expression::TPROXY_FAMILY)?)?, port));
            }
            _ => return None,
        }
        Some(())
    }

    fn load(&mut self, register: u32, value: Value) {
        self.registers.insert(register, value);
    }

    fn load_or_store(
        &mut self,
        body: &[u8],
        value: fn(u32) -> Value,
        from: u16,
        set: fn(u32, &Value) -> Option<Target>,
    ) -> Option<()> {
        let key = number(body, expression::LOAD_KEY)?;
        if let Some(register) = number(body, from) {
            let target = set(key, self.registers.get(&register)?)?;
            self.steps.push(Step::Target(target));
            return Some(());
        }
        self.load(number(body, expression::LOAD_INTO)?, value(key));
        Some(())
    }

    fn mask(&mut self, body: &[u8]) -> Option<()> {
        let mask = data(body, expression::BITWISE_MASK)?;
        let changes_nothing = data(body, expression::BITWISE_XOR)?.iter().all(|byte| *byte == 0);
        let value = self.registers.get(&number(body, expression::BITWISE_FROM)?)?.clone();
        let masked = changes_nothing.then(|| Value::Masked(Box::new(value), mask.to_vec()))?;
        self.load(number(body, expression::BITWISE_INTO)?, masked);
        Some(())
    }

    fn compare(&mut self, body: &[u8]) -> Option<()> {
        let register = number(body, expression::COMPARE_REGISTER)?;
        let with = data(body, expression::COMPARE_WITH)?;
        let value = self.registers.get(&register)?.clone();
        let negated = match (number(body, expression::COMPARE_HOW)?, value) {
            (compare::EQUAL, _) => false,
            (compare::UNEQUAL, _) => true,
            (compare::AT_LEAST, value) => {
                self.load(register, Value::AtLeast(Box::new(value), with.to_vec()));
                return Some(());
            }
            (compare::AT_MOST, Value::AtLeast(value, from)) => {
                self.matches.push(ports(&value, &from, with)?.into());
                self.load(register, *value);
                return Some(());
            }
            _ => return None,
        };
        let value = self.registers.get(&register)?;
        if let (Value::Meta(meta::FAMILY), &[number], false) = (value, with, negated) {
            self.family = Some(family(number.into())?);
            return Some(());
        }
        let matched = self.condition(value, with)?;
        self.matches.push(Match { negated: matched.negated != negated, ..matched });
        Some(())
    }

    /// What it means that `value` equals `with`.
    fn condition(&self, value: &Value, with: &[u8]) -> Option<Match> {
        let native = || Some(u32::from_ne_bytes(with.try_into().ok()?));
        let condition = match value {
            Value::Meta(meta::IN_INTERFACE) => Condition::InInterface(interface(with)?),
            Value::Meta(meta::OUT_INTERFACE) => Condition::OutInterface(interface(with)?),
            Value::Meta(meta::PROTOCOL) => Condition::Protocol(protocol(with)?),
            Value::Meta(meta::USER) => Condition::User(Owner::Id(native()?)),
            Value::Meta(meta::GROUP) => Condition::Group(Owner::Id(native()?)),
            Value::Meta(meta::MARK) => Condition::Mark(native()?),
            Value::Ct(ct::MARK) => Condition::ConnectionMark(native()?),
            Value::Masked(inner, mask) if **inner == Value::Ct(ct::STATE) && native()? == 0 => {
                // No bit left means: in none of the states.
                let states = ConnectionState::in_mask(u32::from_ne_bytes(mask.as_slice().try_into().ok()?))?;
                return Some(!Match::from(Condition::ConnectionState(states)));
            }
            Value::Payload { base: payload::TRANSPORT, .. } => ports(value, with, with)?,
            Value::Payload { base: payload::NETWORK, length, .. } => {
                self.address(value, with, u8::try_from(length * 8).ok()?)?
            }
            Value::Masked(inner, mask) => self.address(inner, with, prefix_length(mask)?)?,
            _ => return None,
        };
        Some(condition.into())
    }

    /// The address that stands there in a packet of the family made sure of before.
    fn address(&self, value: &Value, with: &[u8], prefix: u8) -> Option<Condition> {
        let &Value::Payload { base: payload::NETWORK, offset, .. } = value else { return None };
        let family = self.family?;
        let net = IpNet::new(address(family, with)?, prefix).ok()?;
        let stands_at = |side: Side| side.offset_of_address(family) == offset;
        if stands_at(Side::Source) {
            return Some(Condition::Source(net));
        }
        stands_at(Side::Destination).then_some(Condition::Destination(net))
    }

    fn range(&mut self, body: &[u8]) -> Option<()> {
        let value = self.registers.get(&number(body, expression::COMPARE_REGISTER)?)?;
        let [from, to] = [expression::COMPARE_WITH, expression::RANGE_END].map(|kind| data(body, kind));
        let negated = number(body, expression::COMPARE_HOW)? == compare::UNEQUAL;
        let condition = ports(value, from?, to?)?;
        self.matches.push(Match { negated, condition });
        Some(())
    }

    fn look_up(&mut self, body: &[u8]) -> Option<()> {
        let value = self.registers.get(&number(body, expression::LOOKUP_REGISTER)?)?;
        let names = (self.table.to_owned(), text(body, expression::LOOKUP_SET)?.to_owned());
        let is_destination = port_side(value)? == Side::Destination;
        let ports = self.sets.get(&names).filter(|_| is_destination)?;
        let ports = ports.iter().map(|port| Port::new(*port).map(PortRange::from)).collect::<Option<_>>()?;
        let negated = number(body, expression::LOOKUP_FLAGS).unwrap_or(0) & expression::LOOKUP_INVERTED != 0;
        self.matches.push(Match { negated, condition: Condition::DestinationPorts(ports) });
        Some(())
    }

    fn immediate(&mut self, body: &[u8]) -> Option<()> {
        let data = find(body, expression::IMMEDIATE_DATA)?;
        let register = number(body, expression::IMMEDIATE_INTO)?;
        if register != VERDICT_REGISTER {
            self.load(register, Value::Bytes(find(data, expression::DATA_VALUE)?.to_vec()));
            return Some(());
        }
        let decision = find(data, expression::DATA_VERDICT)?;
        let target = match number(decision, expression::VERDICT_CODE)?.cast_signed() {
            verdict::DROP => Target::Drop,
            verdict::ACCEPT => Target::Accept,
            verdict::RETURN => Target::Return,
            verdict::JUMP => Target::Jump(chain(text(decision, expression::VERDICT_CHAIN)?)),
            _ => Target::Other("[verdict]".to_owned()),
        };
        self.steps.push(Step::Target(target));
        Some(())
    }

    fn port(&self, register: u32) -> Option<Port> {
        let Value::Bytes(bytes) = self.registers.get(&register)? else { return None };
        Port::new(u16::from_be_bytes(bytes.get(..2)?.try_into().ok()?))
    }
}

fn loaded_payload(body: &[u8]) -> Option<Value> {
    Some(Value::Payload {
        base: number(body, expression::PAYLOAD_BASE)?,
        offset: number(body, expression::PAYLOAD_OFFSET)?,
        length: usize::try_from(number(body, expression::PAYLOAD_LENGTH)?).ok()?,
    })
}

fn set_meta(key: u32, value: &Value) -> Option<Target> {
    match (key, value) {
        (meta::MARK, Value::Bytes(mark)) => {
            Some(Target::SetMark(u32::from_ne_bytes(mark.get(..4)?.try_into().ok()?)))
        }
        (meta::MARK, Value::Ct(ct::MARK)) => Some(Target::RestoreMark),
        _ => None,
    }
}

fn set_ct(key: u32, value: &Value) -> Option<Target> {
    match (key, value) {
        (ct::MARK, Value::Meta(meta::MARK)) => Some(Target::SaveMark),
        (ct::ZONE, Value::Bytes(zone)) => {
            Some(Target::Zone(u16::from_ne_bytes(zone.get(..2)?.try_into().ok()?)))
        }
        _ => None,
    }
}

/// An extension of iptables inside nftables.
fn extension_of<T>(body: &[u8], read: impl Fn(&str, u8, &[u8]) -> Option<T>) -> Option<T> {
    let revision = u8::try_from(number(body, expression::EXTENSION_REVISION)?).ok()?;
    read(text(body, expression::EXTENSION_NAME)?, revision, find(body, expression::EXTENSION_INFO)?)
}
