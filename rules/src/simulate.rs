//! Walks one packet through a rule set, as the kernel would, and keeps the trail.
//!
//! Outgoing: raw, mangle and nat OUTPUT, and what leaves by `lo` comes back in through raw and mangle PREROUTING, where
//! translation has been decided already. Incoming: raw, mangle and nat PREROUTING. Translation is asked for the first
//! packet of a connection only. MARK, CONNMARK and CT let the walk go on; the first zone stays. TPROXY ends its table
//! only, so a packet can be redirected after it.

use std::fmt;

use crate::packet::{Direction, Packet};
use crate::ports::Port;
use crate::ruleset::{Chain, ChainName, ConnectionState, Rule, RuleSet, TableName, Target};

mod condition;

/// Packets with this mark are delivered locally, whatever their destination: the routing rule of TPROXY.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LocalDelivery {
    /// The mark.
    pub mark: u32,
    /// The routing table that says so.
    pub table: u32,
}

/// Where a packet went, and by which rules.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Walk<'r> {
    /// Every rule visited, in order.
    pub visits: Vec<Visit<'r>>,
    /// What became of the packet.
    pub verdict: Verdict,
    /// The conntrack zone, if a rule set one.
    pub zone: Option<u16>,
    /// The packet's mark at the end.
    pub mark: u32,
    /// The connection's mark at the end.
    pub connection_mark: u32,
    /// The routing table by which the packet is delivered locally, if its mark says so.
    pub delivered_by: Option<u32>,
    /// Whether every rule visited could be read. If not, the verdict holds unless such a rule decides otherwise.
    pub certain: bool,
}

/// One rule visited.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Visit<'r> {
    /// The table.
    pub table: TableName,
    /// The chain.
    pub chain: &'r ChainName,
    /// The rule's number in its chain, counted from 1.
    pub number: usize,
    /// How many jumps lead here from the built-in chain.
    pub depth: usize,
    /// The rule.
    pub rule: &'r Rule,
    /// Whether the packet met it.
    pub outcome: Outcome,
}

/// Whether a packet meets a rule.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// Every condition holds.
    Met,
    /// Some condition does not.
    Passed,
    /// Some condition cannot be read, and all others hold.
    Unknown,
}

/// What becomes of a packet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It goes to this local port instead; the original destination can be asked for.
    Redirect(Port),
    /// It goes to the transparent socket on this port, with this mark.
    Tproxy {
        /// The port.
        port: Port,
        /// The mark.
        mark: u32,
    },
    /// Both: it goes to the transparent socket on `port`, which takes `redirected` for the port that was asked for.
    TproxyRedirected {
        /// The port of the socket.
        port: Port,
        /// The mark.
        mark: u32,
        /// The port redirected to.
        redirected: Port,
    },
    /// The first packet of a connection goes on as it is: the connection is not intercepted.
    Return,
    /// A packet goes on as it is: by a rule that says so, or as a later packet of its connection.
    Accept,
    /// It is dropped.
    Drop,
    /// A rule of others decides, in these words.
    Other(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redirect(port) => write!(f, "REDIRECT to port {port}"),
            Self::Tproxy { port, mark } => write!(f, "TPROXY to port {port} mark {mark}"),
            Self::TproxyRedirected { port, mark, redirected } => {
                write!(f, "TPROXY to port {port} mark {mark}, and REDIRECT to port {redirected}")
            }
            Self::Return => f.write_str("RETURN (not intercepted)"),
            Self::Accept => f.write_str("ACCEPT"),
            Self::Drop => f.write_str("DROP"),
            Self::Other(text) => write!(f, "{} (rule of others)", text.trim_start_matches("-j ")),
        }
    }
}

impl fmt::Display for Walk<'_> {
    /// The verdict, with what else the walk did to the packet.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.verdict.fmt(f)?;
        if let Some(zone) = self.zone {
            write!(f, ", zone {zone}")?;
        }
        if let Some(table) = self.delivered_by {
            write!(f, ", mark {} delivered to lo by table {table}", self.mark)?;
        }
        if !self.certain {
            f.write_str(", unless a rule that cannot be read decides otherwise")?;
        }
        Ok(())
    }
}

/// Walks `packet` through `rules`. `deliveries` are the routing rules of TPROXY that there are.
pub fn simulate<'r>(packet: &Packet, rules: &'r RuleSet, deliveries: &[LocalDelivery]) -> Walk<'r> {
    let mut walker = Walker::new(packet, rules);
    let verdict = match packet.direction {
        Direction::In => walker.incoming(),
        Direction::Out => walker.outgoing(deliveries),
    };
    let mark = walker.packet.mark;
    let on_its_way = matches!(verdict, Verdict::Return | Verdict::Accept | Verdict::Other(_));
    let delivery = deliveries.iter().find(|delivery| on_its_way && delivery.mark == mark);
    let delivered_by = delivery.map(|delivery| delivery.table);
    Walk {
        visits: walker.visits,
        verdict,
        zone: walker.zone,
        mark,
        connection_mark: walker.packet.connection_mark,
        delivered_by,
        certain: walker.certain,
    }
}

/// The kernel refuses rules that jump in a circle; text read from elsewhere may hold one, or several: then the ways
/// through them are too many to walk.
const DEEPEST: usize = 32;
const MOST_VISITS: usize = 100_000;

struct Walker<'r> {
    rules: &'r RuleSet,
    /// The packet as rules have changed it so far.
    packet: Packet,
    visits: Vec<Visit<'r>>,
    zone: Option<u16>,
    accepted: bool,
    /// The transparent socket that has taken it.
    socket: Option<Port>,
    certain: bool,
}

/// How a chain ends.
enum End {
    /// Back to the caller; from a built-in chain, on to the next table.
    Return,
    /// On to the next table.
    Accept,
    /// Here.
    Final(Verdict),
}

impl<'r> Walker<'r> {
    fn new(packet: &Packet, rules: &'r RuleSet) -> Self {
        Self {
            rules,
            packet: packet.clone(),
            visits: Vec::new(),
            zone: None,
            accepted: false,
            socket: None,
            certain: true,
        }
    }

    fn incoming(&mut self) -> Verdict {
        let tables = [TableName::Raw, TableName::Mangle, TableName::Nat];
        let decided = self.tables(&tables, &ChainName::PREROUTING);
        match (decided, self.socket) {
            (Some(Verdict::Redirect(redirected)), Some(port)) => {
                Verdict::TproxyRedirected { port, mark: self.packet.mark, redirected }
            }
            (Some(decided), _) => decided,
            (None, _) => self.uncaptured(),
        }
    }

    fn outgoing(&mut self, deliveries: &[LocalDelivery]) -> Verdict {
        let tables = [TableName::Raw, TableName::Mangle, TableName::Nat];
        if let Some(verdict) = self.tables(&tables, &ChainName::OUTPUT) {
            return verdict;
        }
        if deliveries.iter().any(|delivery| delivery.mark == self.packet.mark) {
            self.packet.out_interface = Some("lo".to_owned());
        }
        if self.packet.out_interface.as_deref() == Some("lo") {
            self.packet.comes_back_in();
            if let Some(verdict) = self.tables(&tables[..2], &ChainName::PREROUTING) {
                return verdict;
            }
        }
        self.uncaptured()
    }

    /// No rule has decided against it, nor for another destination.
    fn uncaptured(&self) -> Verdict {
        if let Some(port) = self.socket {
            return Verdict::Tproxy { port, mark: self.packet.mark };
        }
        let first = matches!(self.packet.state, ConnectionState::New | ConnectionState::Related);
        if first && !self.accepted { Verdict::Return } else { Verdict::Accept }
    }

    fn tables(&mut self, tables: &[TableName], chain: &ChainName) -> Option<Verdict> {
        tables.iter().find_map(|&table| {
            if table == TableName::Nat && !self.asks_translation() {
                return None;
            }
            match self.chain(table, chain, 0) {
                End::Return => None,
                End::Accept => {
                    self.accepted = true;
                    None
                }
                End::Final(verdict) => Some(verdict),
            }
        })
    }

    fn asks_translation(&self) -> bool {
        matches!(self.packet.state, ConnectionState::New | ConnectionState::Related)
    }

    fn chain(&mut self, table: TableName, name: &ChainName, depth: usize) -> End {
        let Some(chain) = self.find(table, name) else { return End::Return };
        for (index, rule) in chain.rules.iter().enumerate() {
            if self.visits.len() == MOST_VISITS {
                self.certain = false;
                return End::Return;
            }
            let outcome = condition::outcome(rule, &self.packet);
            self.certain &= outcome != Outcome::Unknown;
            self.visits.push(Visit { table, chain: &chain.name, number: index + 1, depth, rule, outcome });
            if outcome != Outcome::Met {
                continue;
            }
            match self.target(table, &rule.target, depth) {
                None => {}
                Some(end) => return end,
            }
        }
        End::Return
    }

    fn find(&self, table: TableName, name: &ChainName) -> Option<&'r Chain> {
        self.rules.tables.get(&table)?.chains.iter().find(|chain| chain.name == *name)
    }

    /// What a target does to the packet, and how it ends the chain, if it does.
    fn target(&mut self, table: TableName, target: &Target, depth: usize) -> Option<End> {
        match target {
            Target::Continue => {}
            Target::Return => return Some(End::Return),
            Target::Accept => return Some(End::Accept),
            Target::Drop => return Some(End::Final(Verdict::Drop)),
            Target::Redirect(port) => return Some(End::Final(Verdict::Redirect(*port))),
            Target::Tproxy { port, mark } => {
                self.packet.mark = *mark;
                self.socket = Some(*port);
                return Some(End::Accept);
            }
            Target::Jump(name) => return self.jump(table, name, depth),
            Target::SetMark(mark) => self.packet.mark = *mark,
            Target::SaveMark => self.packet.connection_mark = self.packet.mark,
            Target::RestoreMark => self.packet.mark = self.packet.connection_mark,
            Target::Zone(zone) => self.zone = self.zone.or(Some(*zone)),
            Target::Other(text) => return self.foreign(text),
        }
        None
    }

    fn jump(&mut self, table: TableName, name: &ChainName, depth: usize) -> Option<End> {
        if depth == DEEPEST {
            self.certain = false;
            return None;
        }
        match self.chain(table, name, depth + 1) {
            End::Return => None,
            end => Some(end),
        }
    }

    /// A target that is not ours: it ends the walk unless it is known only to note or mark something.
    fn foreign(&mut self, text: &str) -> Option<End> {
        const GO_ON: [&str; 13] = [
            "LOG", "NFLOG", "MARK", "CONNMARK", "CT", "NOTRACK", "TRACE", "TCPMSS", "TOS", "DSCP", "TTL",
            "SET", "CHECKSUM",
        ];
        let name = text.split_whitespace().nth(1).unwrap_or_default();
        if GO_ON.contains(&name) {
            // A mark of others could be one that rules further down ask for.
            self.certain &= !matches!(name, "MARK" | "CONNMARK");
            return None;
        }
        Some(End::Final(Verdict::Other(text.to_owned())))
    }
}

#[cfg(test)]
mod tests;
