//! Questions that the snapshot answers.

use std::net::IpAddr;

use hickory_resolver::proto::{
    op::{Edns, Message, MessageType, OpCode, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME},
    },
};
use snapshot::NameTable;

use super::ask::Transport;

use crate::bounds;

/// How long answers may be used, in seconds; Istio's.
const TTL: u32 = 30;

/// A question about one name.
pub(super) struct Question(Message);

impl Question {
    /// Reads a message; `None` when it is no question.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let message = Message::from_vec(bytes).ok()?;
        (message.metadata.message_type == MessageType::Query).then_some(Self(message))
    }

    /// The answer, if it is about addresses of a service. `search` is what the client's resolver adds to short names
    /// first: a service's name with it is answered with the service's, which saves the client the rest of its search.
    pub(super) fn answer(&self, table: &NameTable, search: Option<&str>, over: Transport) -> Option<Vec<u8>> {
        let [query] = &*self.0.queries else { return None };
        let is_asked = query.query_class == DNSClass::IN && self.0.metadata.op_code == OpCode::Query;
        if !is_asked || !matches!(query.query_type, RecordType::A | RecordType::AAAA) {
            return None;
        }
        let name = query.name.to_ascii().to_ascii_lowercase();
        let name = name.trim_end_matches('.');
        let (addresses, alias) = match table.addresses(name) {
            Some(addresses) => (addresses, None),
            None => {
                let short = name.strip_suffix(search?)?;
                (table.addresses(short)?, Some(Name::from_ascii(format!("{short}.")).ok()?))
            }
        };
        let is_asked_for = |ip: &&IpAddr| ip.is_ipv4() == (query.query_type == RecordType::A);
        let mut found: Vec<IpAddr> = addresses.iter().filter(is_asked_for).copied().collect();
        // Clients take the first: not always the same.
        let turn = fastrand::usize(..found.len().max(1));
        found.rotate_left(turn);
        let owner = alias.clone().unwrap_or_else(|| query.name.clone());
        let mut answer = self.begun();
        if let Some(alias) = alias {
            let alias = RData::CNAME(CNAME(alias));
            answer.add_answer(Record::from_rdata(query.name.clone(), TTL, alias));
        }
        if over == Transport::Udp {
            // As many as there is room for: clients that never connect when told that some are left out can do with
            // these. What goes over a connection is cut where a message must end, which also tells the client so.
            let room = self.room(&answer, query.query_type)?;
            answer.metadata.truncation = found.len() > room;
            found.truncate(room);
        }
        for ip in found {
            let data = match ip {
                IpAddr::V4(ip) => RData::A(A(ip)),
                IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
            };
            answer.add_answer(Record::from_rdata(owner.clone(), TTL, data));
        }
        answer.to_vec().ok()
    }

    fn begun(&self) -> Message {
        let mut answer = Message::response(self.0.metadata.id, OpCode::Query);
        answer.metadata.authoritative = true;
        answer.metadata.recursion_available = true;
        answer.metadata.recursion_desired = self.0.metadata.recursion_desired;
        answer.add_queries(self.0.queries.iter().cloned());
        if self.0.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(bounds::DNS_DATAGRAM);
            answer.set_edns(edns);
        }
        answer
    }

    /// How many more addresses of this family there is room for in `answer`, one datagram.
    fn room(&self, answer: &Message, kind: RecordType) -> Option<usize> {
        let most = usize::from(self.0.max_payload().min(bounds::DNS_DATAGRAM));
        // The name was written before, so each repeats it in two bytes (RFC 1035 §4.1.4).
        let each = if kind == RecordType::A { 16 } else { 28 };
        Some(most.saturating_sub(answer.to_vec().ok()?.len()) / each)
    }
}

/// Says that nobody could be asked.
pub(super) fn failure(asked: &[u8]) -> Vec<u8> {
    let Some(Question(asked)) = Question::read(asked) else { return Vec::new() };
    let mut answer = Message::error_msg(asked.metadata.id, asked.metadata.op_code, ResponseCode::ServFail);
    answer.metadata.recursion_desired = asked.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    answer.add_queries(asked.queries);
    answer.to_vec().unwrap_or_default()
}
