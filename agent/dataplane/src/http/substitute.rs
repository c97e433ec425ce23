//! Values of header changes: text with operators such as `%REQ(:PATH)%`, filled in by what is known of a request.
//!
//! A value for an answer is made in two steps, because the request's head is gone when the answer comes: first what
//! the request tells, then what the answer tells. As in Envoy, what is not known is left out.

use std::{
    io::Write,
    net::{IpAddr, SocketAddr},
    time::SystemTime,
};

use snapshot::{Address, Format, Operator, Piece, RequestHead, UnixPath};

use super::{edits::RequestChanges, head::Added};
use crate::{connection::NOBODY, strftime, sys::HOSTNAME};

/// What is known when a request has been routed.
#[derive(Clone, Copy)]
pub(super) struct RequestFacts<'r> {
    /// Who has connected, and where to.
    pub(super) peer: SocketAddr,
    pub(super) destination: SocketAddr,
    /// The unix socket that the client came by: it stands for addresses that there are none of.
    pub(super) unix: Option<&'r UnixPath>,
    /// From the client hello.
    pub(super) server_name: Option<&'r str>,
    pub(super) head: &'r dyn RequestHead,
    pub(super) added: &'r Added,
    /// `HTTP/1.1` and the like.
    pub(super) protocol: &'static str,
    pub(super) start: SystemTime,
    pub(super) route: Option<&'r str>,
    pub(super) cluster: Option<&'r str>,
}

/// What is known when the head of an answer is there.
#[derive(Clone, Copy)]
pub(super) struct AnswerFacts<'a> {
    pub(super) status: u16,
    pub(super) flags: &'a str,
    pub(super) details: &'a str,
    pub(super) upstream: Option<&'a Address>,
    /// The first line of a field by name.
    pub(super) field: &'a dyn Fn(&str) -> Option<Vec<u8>>,
}

/// A value with everything filled in that the request tells.
pub(super) struct Value<'v>(Vec<Part<'v>>);

enum Part<'v> {
    Text(Vec<u8>),
    /// Known only with the answer.
    Later(&'v Operator, Option<usize>),
}

impl<'v> Value<'v> {
    /// Text that is the same whatever comes.
    pub(super) fn fixed(text: &[u8]) -> Self {
        Self(vec![Part::Text(text.to_vec())])
    }

    /// Fills in what the request tells, as `changes` have left it so far.
    pub(super) fn of(format: &'v Format, request: &RequestFacts<'_>, changes: &RequestChanges<'_>) -> Self {
        let part = |piece: &'v Piece| match piece {
            Piece::Text(text) => Part::Text(text.clone().into_bytes()),
            Piece::Operator { operator, max_length } if is_of_answer(operator) => {
                Part::Later(operator, *max_length)
            }
            Piece::Operator { operator, max_length } => {
                let value = request.value(operator, changes).unwrap_or_default();
                Part::Text(cut(value, *max_length))
            }
        };
        Self(format.pieces().iter().map(part).collect())
    }

    /// The value as it is sent; bytes that may not stand in a field are left out.
    pub(super) fn finish(&self, answer: Option<&AnswerFacts<'_>>) -> Vec<u8> {
        let mut whole = Vec::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => whole.extend_from_slice(text),
                Part::Later(operator, max_length) => {
                    let value = answer.and_then(|answer| answer.value(operator)).unwrap_or_default();
                    whole.extend(cut(value, *max_length));
                }
            }
        }
        whole.retain(|byte| *byte == b'\t' || !byte.is_ascii_control());
        whole
    }
}

fn cut(mut value: Vec<u8>, max_length: Option<usize>) -> Vec<u8> {
    value.truncate(max_length.unwrap_or(usize::MAX));
    value
}

fn is_of_answer(operator: &Operator) -> bool {
    matches!(
        operator,
        Operator::ResponseHeader(..)
            | Operator::ResponseCode
            | Operator::ResponseFlags
            | Operator::ResponseCodeDetails
            | Operator::UpstreamHost
            | Operator::UpstreamRemoteAddress
            | Operator::GrpcStatus(_)
    )
}

impl RequestFacts<'_> {
    /// An address of the client's side; the unix socket where that stands for it.
    fn downstream(&self, of: SocketAddr, text_of: impl Fn(SocketAddr) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
        match self.unix.filter(|_| of == NOBODY) {
            Some(path) => text(path.as_str()),
            None => text_of(of),
        }
    }

    fn downstream_port(&self, of: SocketAddr) -> Option<Vec<u8>> {
        (of != NOBODY).then(|| text(of.port())).flatten()
    }

    fn value(&self, operator: &Operator, changes: &RequestChanges<'_>) -> Option<Vec<u8>> {
        let (local, remote) = (self.destination, self.added.remote(self.peer));
        match operator {
            Operator::RequestHeader(name, other) => self
                .field(name, changes)
                .or_else(|| other.as_deref().and_then(|other| self.field(other, changes))),
            Operator::RequestHeaderWithoutQuery(name, other) => {
                let mut value = self.value(&Operator::RequestHeader(name.clone(), other.clone()), changes)?;
                value.truncate(value.iter().position(|byte| *byte == b'?').unwrap_or(value.len()));
                Some(value)
            }
            Operator::Environment(name) => std::env::var(name).ok().map(String::into_bytes),
            Operator::StartTime(format) => Some(strftime::format(format.as_deref(), self.start)),
            Operator::Protocol => text(self.protocol),
            Operator::RouteName => self.route.and_then(text),
            Operator::UpstreamCluster => self.cluster.and_then(text),
            Operator::DownstreamLocalAddress => self.downstream(local, text),
            Operator::DownstreamLocalAddressWithoutPort => self.downstream(local, |local| text(local.ip())),
            Operator::DownstreamLocalPort => self.downstream_port(local),
            Operator::DownstreamRemoteAddress => self.downstream(remote, text),
            Operator::DownstreamRemoteAddressWithoutPort => {
                self.downstream(remote, |remote| text(remote.ip()))
            }
            Operator::DownstreamDirectRemoteAddress => self.downstream(self.peer, text),
            Operator::DownstreamDirectRemoteAddressWithoutPort => {
                self.downstream(self.peer, |peer| text(peer.ip()))
            }
            Operator::DownstreamRemotePort => self.downstream_port(remote),
            Operator::RequestedServerName => self.server_name.and_then(text),
            Operator::Hostname => text(HOSTNAME.as_str()),
            Operator::StreamId => self.field("x-request-id", changes),
            _ => None,
        }
    }

    /// The first line of a field as the endpoint gets it, as in Envoy.
    fn field(&self, name: &str, changes: &RequestChanges<'_>) -> Option<Vec<u8>> {
        match name {
            ":path" => text(changes.path().unwrap_or(self.head.path_and_query())),
            ":authority" | "host" => text(changes.authority().unwrap_or(self.head.authority())),
            ":method" => text(self.head.method()),
            ":scheme" => text(self.added.scheme()),
            _ => {
                let mut first = None;
                if !changes.fields.drops(name) {
                    self.added.visit(self.head, &mut |found, value| {
                        if first.is_none() && found.eq_ignore_ascii_case(name) {
                            first = Some(value.to_vec());
                        }
                    });
                }
                first.or_else(|| changes.fields.lines(name).into_iter().next())
            }
        }
    }
}

impl AnswerFacts<'_> {
    fn value(&self, operator: &Operator) -> Option<Vec<u8>> {
        match operator {
            Operator::ResponseHeader(name, other) => {
                (self.field)(name).or_else(|| other.as_deref().and_then(self.field))
            }
            Operator::ResponseCode => text(self.status),
            Operator::ResponseFlags => text(if self.flags.is_empty() { "-" } else { self.flags }),
            Operator::ResponseCodeDetails => text(self.details),
            Operator::UpstreamHost | Operator::UpstreamRemoteAddress => self.upstream.and_then(text),
            Operator::GrpcStatus(_) => (self.field)("grpc-status"),
            _ => None,
        }
    }
}

/// The text of a value; `None` when there is none.
fn text(value: impl IntoText) -> Option<Vec<u8>> {
    let text = value.into_text();
    (!text.is_empty()).then_some(text)
}

trait IntoText {
    fn into_text(self) -> Vec<u8>;
}

impl IntoText for &str {
    fn into_text(self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }
}

macro_rules! displayed {
    ($($kind:ty),*) => {$(
        impl IntoText for $kind {
            fn into_text(self) -> Vec<u8> {
                let mut text = Vec::new();
                // Writing into memory cannot fail.
                _ = write!(text, "{self}");
                text
            }
        }
    )*};
}

displayed!(u16, IpAddr, SocketAddr, &Address);
