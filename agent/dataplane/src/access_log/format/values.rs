//! What the operators of a format stand for in one line.

use std::{
    fmt,
    io::Write as _,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use snapshot::{Address, CertificatePart, GrpcStatusForm, Holder, Moment, Operator, Span};

use super::{Part, Slot};
use crate::{
    access_log::{Entry, Recorded},
    addresses::{write_ip, write_socket_address},
    connection::NOBODY,
    strftime,
    sys::HOSTNAME,
    tls::UpstreamSession,
    uuid::uuid_v4,
};

impl Entry<'_> {
    fn upstream_local(&self) -> Option<SocketAddr> {
        self.own_end?.address
    }

    fn upstream_session(&self) -> Option<&UpstreamSession> {
        self.own_end?.session.as_ref()
    }

    /// Distinguished names are escaped already, other names are not.
    fn write_certificate(&self, holder: Holder, part: &CertificatePart, out: &mut Vec<u8>) {
        let client = || self.session?.client.as_deref();
        let of_client = || self.session?.shown.as_deref();
        let of_endpoint = || self.upstream_session().map(|session| &session.shown);
        let shown = match (holder, part) {
            (Holder::Client, CertificatePart::Subject) => {
                return text(client().map(|shown| &*shown.subject), out);
            }
            (Holder::Client, CertificatePart::Uris) => return text(client().map(|shown| &*shown.uris), out),
            (Holder::Client, _) => of_client().and_then(|shown| shown.peer.as_ref()),
            (Holder::OwnForClient, _) => of_client().and_then(|shown| shown.own.as_ref()),
            (Holder::Endpoint, _) => of_endpoint().and_then(|shown| shown.peer.as_ref()),
            (Holder::OwnForEndpoint, _) => of_endpoint().and_then(|shown| shown.own.as_ref()),
        };
        if let Some(shown) = shown {
            shown.write(part, out);
        }
    }

    /// Envoy's name for what the line is about.
    fn kind(&self) -> &'static str {
        match (self.request, self.cluster) {
            (Some(_), _) => "DownstreamEnd",
            (None, Some(_)) => "TcpConnectionEnd",
            // The listener's own: nothing took the connection on.
            (None, None) => "NotSet",
        }
    }

    pub(super) fn field(&self, slot: Slot) -> &[u8] {
        self.request.map_or(&b""[..], |line| line.get(slot))
    }

    /// Writes a value as it is, or nothing when it is not known; returns how long it may be.
    pub(super) fn write_part(&self, part: &Part, out: &mut Vec<u8>) -> Option<usize> {
        match part {
            Part::Text(text) => {
                out.extend_from_slice(text.as_bytes());
                None
            }
            Part::Field(slot, max_length) => {
                out.extend_from_slice(self.field(*slot));
                *max_length
            }
            Part::Operator(operator, max_length) => {
                self.write_operator(operator, out);
                *max_length
            }
        }
    }

    /// An address of the client's side; the unix socket where that stands for it.
    fn write_downstream(
        &self,
        of: SocketAddr,
        write: impl Fn(Option<SocketAddr>, &mut Vec<u8>),
        out: &mut Vec<u8>,
    ) {
        match self.downstream_unix.filter(|_| of == NOBODY) {
            Some(path) => text(Some(path.as_str()), out),
            None => write(Some(of), out),
        }
    }

    fn write_downstream_port(&self, of: SocketAddr, out: &mut Vec<u8>) {
        number((of != NOBODY).then(|| of.port()), out);
    }

    /// Envoy's braces hold what the transport says, too.
    fn write_details(&self, out: &mut Vec<u8>) {
        match (self.details.strip_suffix('}'), self.transport_failure) {
            (Some(details), Some(reason)) => put(Some(format_args!("{details}|{reason}}}")), out),
            _ => text(Some(self.details), out),
        }
    }

    pub(super) fn write_operator(&self, operator: &Operator, out: &mut Vec<u8>) {
        match operator {
            Operator::StartTime(None) => put(Some(humantime::format_rfc3339_millis(self.start)), out),
            Operator::StartTime(format) => out.extend(strftime::format(format.as_deref(), self.start)),
            Operator::EmitTime(format) => {
                out.extend(strftime::format(format.as_deref(), self.start + self.duration));
            }
            Operator::Protocol => text(self.request.map(Recorded::protocol), out),
            Operator::UpstreamProtocol => text(self.upstream_protocol, out),
            Operator::ResponseCode => number(Some(self.status), out),
            // In JSON too Envoy writes `-` for none.
            Operator::ResponseFlags if self.flags.is_empty() => out.push(b'-'),
            Operator::ResponseFlags => text(Some(self.flags), out),
            Operator::ResponseFlagsLong => self.write_long_flags(out),
            Operator::ConnectionTerminationDetails | Operator::DownstreamTransportFailureReason => {
                text(Some(self.termination), out);
            }
            Operator::ResponseCodeDetails => self.write_details(out),
            Operator::UpstreamTransportFailureReason => text(self.transport_failure, out),
            Operator::BytesReceived => number(Some(self.received), out),
            Operator::BytesSent => number(Some(self.sent), out),
            Operator::Duration => milliseconds(Some(self.duration), out),
            Operator::RequestDuration => milliseconds(self.moment(Moment::RequestEnded), out),
            Operator::ResponseDuration => milliseconds(self.moment(Moment::AnswerBegan), out),
            Operator::ResponseTxDuration => {
                milliseconds(self.between(Moment::AnswerBegan, Moment::AnswerEnded), out);
            }
            Operator::CommonDuration(Span { from, to, per_second }) => {
                let span = self.between(*from, *to);
                number(span.map(|span| span.as_nanos() * u128::from(*per_second) / 1_000_000_000), out);
            }
            Operator::GrpcStatus(form) => self.write_grpc_status(*form, out),
            Operator::UpstreamRequestAttemptCount => number(Some(self.attempts), out),
            Operator::ResponseHeader(..) => milliseconds(self.moment(Moment::AnswerBegan), out),
            Operator::UpstreamHost | Operator::UpstreamRemoteAddress => match self.upstream {
                Some(Address::Unix(path)) => text(Some(path.as_str()), out),
                upstream => address(upstream.and_then(Address::socket), out),
            },
            Operator::UpstreamRemoteAddressWithoutPort => match self.upstream {
                Some(Address::Unix(path)) => text(Some(path.as_str()), out),
                upstream => ip(upstream.and_then(Address::ip), out),
            },
            Operator::UpstreamRemotePort => number(self.upstream.and_then(Address::port), out),
            Operator::UpstreamLocalAddress => address(self.upstream_local(), out),
            Operator::UpstreamLocalAddressWithoutPort => {
                ip(self.upstream_local().map(|from| from.ip()), out);
            }
            Operator::UpstreamLocalPort => number(self.upstream_local().map(|from| from.port()), out),
            Operator::UpstreamCluster => text(self.cluster, out),
            Operator::DownstreamLocalAddress => self.write_downstream(self.downstream_local, address, out),
            Operator::DownstreamLocalAddressWithoutPort => {
                self.write_downstream(self.downstream_local, ip_of, out);
            }
            Operator::DownstreamLocalPort => self.write_downstream_port(self.downstream_local, out),
            Operator::DownstreamRemoteAddress => self.write_downstream(self.downstream_remote, address, out),
            Operator::DownstreamRemoteAddressWithoutPort => {
                self.write_downstream(self.downstream_remote, ip_of, out);
            }
            Operator::DownstreamDirectRemoteAddress => {
                self.write_downstream(self.downstream_direct_remote, address, out);
            }
            Operator::DownstreamDirectRemoteAddressWithoutPort => {
                self.write_downstream(self.downstream_direct_remote, ip_of, out);
            }
            Operator::DownstreamRemotePort => self.write_downstream_port(self.downstream_remote, out),
            Operator::DownstreamTlsCipher => text(self.session.map(|session| session.cipher), out),
            Operator::DownstreamTlsVersion => text(self.session.map(|session| session.version), out),
            Operator::Certificate(holder, part) => self.write_certificate(*holder, part, out),
            Operator::UpstreamTlsCipher => text(self.upstream_session().map(|session| session.cipher), out),
            Operator::UpstreamTlsVersion => text(self.upstream_session().map(|session| session.version), out),
            Operator::ConnectionId => number(Some(self.connection), out),
            Operator::UpstreamConnectionId => number(Some(self.own_end.map_or(0, |end| end.id)), out),
            Operator::FilterChainName => text(self.chain, out),
            Operator::AccessLogType => text(Some(self.kind()), out),
            Operator::UniqueId => out.extend(uuid_v4(fastrand::u128(..))),
            Operator::RequestedServerName => {
                text(self.server_name, out);
            }
            Operator::RouteName => text(self.route, out),
            Operator::Hostname => text(Some(HOSTNAME.as_str()), out),
            // Filled in, or remembered by slot, when the format is read.
            Operator::RequestHeader(..)
            | Operator::RequestHeaderWithoutQuery(..)
            | Operator::QueryParameter(_)
            | Operator::ResponseTrailer(..)
            | Operator::StreamId
            | Operator::Environment(_)
            | Operator::Unavailable(_) => {}
        }
    }

    /// When a moment was, from the request's head on.
    fn moment(&self, moment: Moment) -> Option<Duration> {
        match moment {
            Moment::RequestBegan => self.request.map(|_| Duration::ZERO),
            Moment::RequestEnded => self.request_ended,
            Moment::AnswerBegan => self.answer_began,
            Moment::AnswerEnded => (self.status != 0).then_some(self.duration),
        }
    }

    fn between(&self, from: Moment, to: Moment) -> Option<Duration> {
        self.moment(to)?.checked_sub(self.moment(from)?)
    }

    fn write_long_flags(&self, out: &mut Vec<u8>) {
        let long = |flag| LONG_FLAGS.iter().find(|(short, _)| *short == flag).map_or(flag, |(_, long)| *long);
        for (index, flag) in self.flags.split(',').enumerate() {
            if index > 0 {
                out.push(b',');
            }
            text(Some(long(flag)), out);
        }
    }

    fn write_grpc_status(&self, form: GrpcStatusForm, out: &mut Vec<u8>) {
        let Some(status) = self.grpc_status else { return };
        match (form, GRPC.get(usize::from(status))) {
            (GrpcStatusForm::Camel, Some(camel)) => text(Some(camel), out),
            (GrpcStatusForm::Snake, Some(camel)) => {
                for (index, byte) in camel.bytes().enumerate() {
                    if index > 0 && byte.is_ascii_uppercase() && *camel != "OK" {
                        out.push(b'_');
                    }
                    out.push(byte.to_ascii_uppercase());
                }
            }
            (GrpcStatusForm::Number, _) | (_, None) => number(Some(status), out),
        }
    }
}

/// Names of gRPC's statuses, from 0 on.
const GRPC: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// Envoy's long names of the flags that are set here.
const LONG_FLAGS: [(&str, &str); 18] = [
    ("DC", "DownstreamConnectionTermination"),
    ("DI", "DelayInjected"),
    ("DPE", "DownstreamProtocolError"),
    ("DR", "DownstreamRemoteReset"),
    ("DT", "DurationTimeout"),
    ("FI", "FaultInjected"),
    ("NC", "NoClusterFound"),
    ("NR", "NoRouteFound"),
    ("OM", "OverloadManagerTerminated"),
    ("SI", "StreamIdleTimeout"),
    ("UC", "UpstreamConnectionTermination"),
    ("UF", "UpstreamConnectionFailure"),
    ("UH", "NoHealthyUpstream"),
    ("UO", "UpstreamOverflow"),
    ("UPE", "UpstreamProtocolError"),
    ("UR", "UpstreamRemoteReset"),
    ("URX", "UpstreamRetryLimitExceeded"),
    ("UT", "UpstreamRequestTimeout"),
];

fn put(value: Option<impl fmt::Display>, out: &mut Vec<u8>) {
    if let Some(value) = value {
        // Writing into memory cannot fail.
        _ = write!(out, "{value}");
    }
}

fn number(value: Option<impl itoa::Integer>, out: &mut Vec<u8>) {
    if let Some(value) = value {
        out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }
}

fn milliseconds(value: Option<Duration>, out: &mut Vec<u8>) {
    number(value.map(|value| value.as_millis()), out);
}

fn address(value: Option<SocketAddr>, out: &mut Vec<u8>) {
    if let Some(value) = value {
        write_socket_address(out, value);
    }
}

fn ip(value: Option<IpAddr>, out: &mut Vec<u8>) {
    if let Some(value) = value {
        write_ip(out, value);
    }
}

fn ip_of(value: Option<SocketAddr>, out: &mut Vec<u8>) {
    ip(value.map(|value| value.ip()), out);
}

fn text(value: Option<&str>, out: &mut Vec<u8>) {
    out.extend_from_slice(value.unwrap_or_default().as_bytes());
}
