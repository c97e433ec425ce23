//! The operators of the substitution format, by Envoy's names.

use super::{CertificatePart, FormatError, Holder, certificates};

/// A value of the request or connection. Names are Envoy's.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "Envoy documents each under the same name")]
pub enum Operator {
    /// `%REQ(name?other)%`: a request header or pseudo-header, in lower case; the second when the first is missing.
    RequestHeader(String, Option<String>),
    /// `%REQ_WITHOUT_QUERY(name?other)%`: the same up to its `?`.
    RequestHeaderWithoutQuery(String, Option<String>),
    /// `%QUERY_PARAM(name)%`: the first value of a parameter in the query.
    QueryParameter(String),
    /// `%RESP(name?other)%`: a response header.
    ResponseHeader(String, Option<String>),
    /// `%TRAILER(name?other)%`: a response trailer.
    ResponseTrailer(String, Option<String>),
    /// `%START_TIME%`, with a strftime format if one is written.
    StartTime(Option<String>),
    /// `%EMIT_TIME%`: when the line is written.
    EmitTime(Option<String>),
    /// `%ENVIRONMENT(name)%`: a variable of the proxy's own environment.
    Environment(String),
    /// `%GRPC_STATUS%` in one of its forms, and `%GRPC_STATUS_NUMBER%`.
    GrpcStatus(GrpcStatusForm),
    /// `%COMMON_DURATION(from:to:unit)%`
    CommonDuration(Span),
    /// One that Envoy has and this proxy knows nothing to say to: always missing.
    Unavailable(String),
    Protocol,
    UpstreamProtocol,
    ResponseCode,
    ResponseFlags,
    ResponseFlagsLong,
    ResponseCodeDetails,
    ConnectionTerminationDetails,
    DownstreamTransportFailureReason,
    UpstreamTransportFailureReason,
    BytesReceived,
    BytesSent,
    Duration,
    RequestDuration,
    ResponseDuration,
    ResponseTxDuration,
    UpstreamHost,
    UpstreamCluster,
    UpstreamLocalAddress,
    UpstreamLocalAddressWithoutPort,
    UpstreamLocalPort,
    UpstreamRemoteAddress,
    UpstreamRemoteAddressWithoutPort,
    UpstreamRemotePort,
    UpstreamRequestAttemptCount,
    DownstreamLocalAddress,
    DownstreamLocalAddressWithoutPort,
    DownstreamLocalPort,
    DownstreamRemoteAddress,
    DownstreamRemoteAddressWithoutPort,
    DownstreamRemotePort,
    DownstreamDirectRemoteAddress,
    DownstreamDirectRemoteAddressWithoutPort,
    /// `%DOWNSTREAM_PEER_SUBJECT%` and whatever else certificates tell.
    Certificate(Holder, CertificatePart),
    DownstreamTlsVersion,
    DownstreamTlsCipher,
    UpstreamTlsVersion,
    UpstreamTlsCipher,
    ConnectionId,
    UpstreamConnectionId,
    FilterChainName,
    AccessLogType,
    UniqueId,
    RequestedServerName,
    RouteName,
    Hostname,
    StreamId,
}

/// How a gRPC status is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum GrpcStatusForm {
    /// `NotFound`
    Camel,
    /// `NOT_FOUND`
    Snake,
    /// `5`
    Number,
}

/// The time between two moments of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Span {
    /// Where it begins.
    pub from: Moment,
    /// Where it ends.
    pub to: Moment,
    /// Fractions of a second in its unit.
    pub per_second: u32,
}

/// A moment of a request. Envoy has more; they are never known here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Moment {
    /// `DS_RX_BEG`: the request's head is there.
    RequestBegan,
    /// `DS_RX_END`: so is its body.
    RequestEnded,
    /// `US_RX_BEG`: the answer's head is there.
    AnswerBegan,
    /// `DS_TX_END`: the client has the whole answer.
    AnswerEnded,
}

/// The operator that is written as `name(argument)`.
pub(super) fn operator(name: &str, argument: Option<&str>, written: &str) -> Result<Operator, FormatError> {
    let bad = || FormatError::BadArgument(name.to_owned());
    let operator = match (name, argument) {
        (
            "REQ" | "REQUEST_HEADER" | "REQ_WITHOUT_QUERY" | "QUERY_PARAM" | "RESP" | "RESPONSE_HEADER"
            | "TRAILER" | "RESPONSE_TRAILER" | "ENVIRONMENT" | "COMMON_DURATION",
            None | Some(""),
        ) => {
            return Err(bad());
        }
        ("REQ" | "REQUEST_HEADER", Some(names)) => header(names, Operator::RequestHeader),
        ("REQ_WITHOUT_QUERY", Some(names)) => header(names, Operator::RequestHeaderWithoutQuery),
        ("QUERY_PARAM", Some(name)) => Operator::QueryParameter(name.to_owned()),
        ("RESP" | "RESPONSE_HEADER", Some(names)) => header(names, Operator::ResponseHeader),
        ("TRAILER" | "RESPONSE_TRAILER", Some(names)) => header(names, Operator::ResponseTrailer),
        ("ENVIRONMENT", Some(name)) => Operator::Environment(name.to_owned()),
        ("START_TIME", format) => Operator::StartTime(format.map(str::to_owned)),
        ("EMIT_TIME", format) => Operator::EmitTime(format.map(str::to_owned)),
        ("COMMON_DURATION", Some(argument)) => span(argument, written).ok_or_else(bad)?,
        // Ours have no blanks.
        ("RESPONSE_CODE_DETAILS", Some("ALLOW_WHITESPACES")) => Operator::ResponseCodeDetails,
        ("REQUESTED_SERVER_NAME", Some(source)) => match source.split(':').next() {
            Some("SNI_ONLY") => Operator::RequestedServerName,
            // Of the request, where the client hello has none or in any case.
            Some("SNI_FIRST" | "HOST_FIRST") => Operator::Unavailable(written.to_owned()),
            _ => return Err(bad()),
        },
        (name, Some(bits))
            if name.ends_with("_ADDRESS_WITHOUT_PORT") && plain(name).is_some() && is_mask(bits) =>
        {
            Operator::Unavailable(written.to_owned())
        }
        ("GRPC_STATUS", None | Some("CAMEL_STRING")) => Operator::GrpcStatus(GrpcStatusForm::Camel),
        ("GRPC_STATUS", Some("SNAKE_STRING")) => Operator::GrpcStatus(GrpcStatusForm::Snake),
        ("GRPC_STATUS", Some("NUMBER")) | ("GRPC_STATUS_NUMBER", None) => {
            Operator::GrpcStatus(GrpcStatusForm::Number)
        }
        (name, argument) if certificates::exists(name) => {
            certificates::operator(name, argument).ok_or_else(bad)?
        }
        (name, _) if UNAVAILABLE.contains(&name) => Operator::Unavailable(written.to_owned()),
        (name, None) => plain(name).ok_or_else(|| FormatError::UnknownOperator(written.to_owned()))?,
        (name, Some(_)) if plain(name).is_some() => return Err(bad()),
        _ => return Err(FormatError::UnknownOperator(written.to_owned())),
    };
    Ok(operator)
}

fn header(names: &str, make: fn(String, Option<String>) -> Operator) -> Operator {
    let (first, second) = match names.split_once('?') {
        Some((first, second)) => (first, Some(second.to_ascii_lowercase())),
        None => (names, None),
    };
    make(first.to_ascii_lowercase(), second)
}

/// `DS_RX_BEG:US_RX_BEG:ms`
fn span(argument: &str, written: &str) -> Option<Operator> {
    let mut words = argument.split(':');
    let (from, to, unit) = (words.next()?, words.next()?, words.next()?);
    let per_second = match unit {
        "ms" => 1_000,
        "us" => 1_000_000,
        "ns" => 1_000_000_000,
        _ => return None,
    };
    let known = |name: &str| OTHER_MOMENTS.contains(&name) || moment(name).is_some();
    if words.next().is_some() || !known(from) || !known(to) {
        return None;
    }
    Some(match (moment(from), moment(to)) {
        (Some(from), Some(to)) => Operator::CommonDuration(Span { from, to, per_second }),
        _ => Operator::Unavailable(written.to_owned()),
    })
}

fn moment(name: &str) -> Option<Moment> {
    Some(match name {
        "DS_RX_BEG" => Moment::RequestBegan,
        "DS_RX_END" => Moment::RequestEnded,
        "US_RX_BEG" => Moment::AnswerBegan,
        "DS_TX_END" => Moment::AnswerEnded,
        _ => return None,
    })
}

/// Whether it is how many bits of an address are shown.
fn is_mask(bits: &str) -> bool {
    bits.parse::<u8>().is_ok_and(|bits| bits <= 128)
}

const OTHER_MOMENTS: [&str; 10] = [
    "DS_CX_BEG",
    "DS_CX_END",
    "US_CX_BEG",
    "US_CX_END",
    "US_HS_END",
    "US_TX_BEG",
    "US_TX_END",
    "US_RX_BODY_BEG",
    "US_RX_END",
    "DS_TX_BEG",
];

/// Operators without argument.
const PLAIN: [(&str, Operator); 52] = [
    ("PROTOCOL", Operator::Protocol),
    ("UPSTREAM_PROTOCOL", Operator::UpstreamProtocol),
    ("RESPONSE_CODE", Operator::ResponseCode),
    ("RESPONSE_FLAGS", Operator::ResponseFlags),
    ("RESPONSE_FLAGS_LONG", Operator::ResponseFlagsLong),
    ("RESPONSE_CODE_DETAILS", Operator::ResponseCodeDetails),
    ("CONNECTION_TERMINATION_DETAILS", Operator::ConnectionTerminationDetails),
    ("DOWNSTREAM_TRANSPORT_FAILURE_REASON", Operator::DownstreamTransportFailureReason),
    ("UPSTREAM_TRANSPORT_FAILURE_REASON", Operator::UpstreamTransportFailureReason),
    ("BYTES_RECEIVED", Operator::BytesReceived),
    ("BYTES_SENT", Operator::BytesSent),
    ("DURATION", Operator::Duration),
    ("REQUEST_DURATION", Operator::RequestDuration),
    ("RESPONSE_DURATION", Operator::ResponseDuration),
    ("RESPONSE_TX_DURATION", Operator::ResponseTxDuration),
    ("UPSTREAM_HOST", Operator::UpstreamHost),
    ("UPSTREAM_CLUSTER", Operator::UpstreamCluster),
    ("UPSTREAM_CLUSTER_RAW", Operator::UpstreamCluster),
    ("UPSTREAM_LOCAL_ADDRESS", Operator::UpstreamLocalAddress),
    ("UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", Operator::UpstreamLocalAddressWithoutPort),
    ("UPSTREAM_LOCAL_PORT", Operator::UpstreamLocalPort),
    ("UPSTREAM_REMOTE_ADDRESS", Operator::UpstreamRemoteAddress),
    ("UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", Operator::UpstreamRemoteAddressWithoutPort),
    ("UPSTREAM_REMOTE_PORT", Operator::UpstreamRemotePort),
    ("UPSTREAM_REQUEST_ATTEMPT_COUNT", Operator::UpstreamRequestAttemptCount),
    ("DOWNSTREAM_LOCAL_ADDRESS", Operator::DownstreamLocalAddress),
    ("DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", Operator::DownstreamLocalAddressWithoutPort),
    ("DOWNSTREAM_LOCAL_PORT", Operator::DownstreamLocalPort),
    // What the client dialled is where it arrived.
    ("DOWNSTREAM_DIRECT_LOCAL_ADDRESS", Operator::DownstreamLocalAddress),
    ("DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT", Operator::DownstreamLocalAddressWithoutPort),
    ("DOWNSTREAM_DIRECT_LOCAL_PORT", Operator::DownstreamLocalPort),
    ("DOWNSTREAM_REMOTE_ADDRESS", Operator::DownstreamRemoteAddress),
    ("DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", Operator::DownstreamRemoteAddressWithoutPort),
    ("DOWNSTREAM_REMOTE_PORT", Operator::DownstreamRemotePort),
    ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS", Operator::DownstreamDirectRemoteAddress),
    ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT", Operator::DownstreamDirectRemoteAddressWithoutPort),
    ("DOWNSTREAM_DIRECT_REMOTE_PORT", Operator::DownstreamRemotePort),
    ("DOWNSTREAM_TLS_VERSION", Operator::DownstreamTlsVersion),
    ("DOWNSTREAM_TLS_CIPHER", Operator::DownstreamTlsCipher),
    ("UPSTREAM_TLS_VERSION", Operator::UpstreamTlsVersion),
    ("UPSTREAM_TLS_CIPHER", Operator::UpstreamTlsCipher),
    ("CONNECTION_ID", Operator::ConnectionId),
    ("UPSTREAM_CONNECTION_ID", Operator::UpstreamConnectionId),
    ("FILTER_CHAIN_NAME", Operator::FilterChainName),
    ("ACCESS_LOG_TYPE", Operator::AccessLogType),
    ("UNIQUE_ID", Operator::UniqueId),
    ("REQUESTED_SERVER_NAME", Operator::RequestedServerName),
    ("ROUTE_NAME", Operator::RouteName),
    ("HOSTNAME", Operator::Hostname),
    ("STREAM_ID", Operator::StreamId),
    ("UPSTREAM_HOST_NAME", Operator::UpstreamHost),
    ("UPSTREAM_HOST_NAME_WITHOUT_PORT", Operator::UpstreamRemoteAddressWithoutPort),
];

fn plain(name: &str) -> Option<Operator> {
    PLAIN.iter().find(|(known, _)| *known == name).map(|(_, operator)| operator.clone())
}

/// What Envoy knows and this proxy does not: filters it has not got, and what it does not measure.
const UNAVAILABLE: [&str; 67] = [
    "BYTES_RETRANSMITTED",
    "CEL",
    "CLUSTER_METADATA",
    "COALESCE",
    "CUSTOM_FLAGS",
    "DOWNSTREAM_CX_RTT",
    "DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED",
    "DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_SENT",
    "DOWNSTREAM_DETECTED_CLOSE_TYPE",
    "DOWNSTREAM_DIRECT_LOCAL_ADDRESS_ENDPOINT_ID",
    "DOWNSTREAM_HANDSHAKE_DURATION",
    "DOWNSTREAM_HEADER_BYTES_RECEIVED",
    "DOWNSTREAM_HEADER_BYTES_SENT",
    "DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID",
    "DOWNSTREAM_LOCAL_CLOSE_REASON",
    "DOWNSTREAM_LOCAL_OTHERNAME_SAN",
    "DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1",
    "DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256",
    "DOWNSTREAM_PEER_CHAIN_SERIALS",
    "DOWNSTREAM_PEER_ISSUER_FINGERPRINT_256",
    "DOWNSTREAM_PEER_ISSUER_SERIAL",
    "DOWNSTREAM_PEER_OTHERNAME_SAN",
    "DOWNSTREAM_TLS_GROUP",
    "DOWNSTREAM_TLS_SESSION_ID",
    "DOWNSTREAM_WIRE_BYTES_RECEIVED",
    "DOWNSTREAM_WIRE_BYTES_SENT",
    "DYNAMIC_METADATA",
    "EMIT_TIME_LOCAL",
    "FILTER_STATE",
    "LISTENER_NAME",
    "LOCAL_REPLY_BODY",
    "METADATA",
    "PACKETS_RETRANSMITTED",
    "PATH",
    "QUERY_PARAMS",
    "REQUEST_HEADERS_BYTES",
    "REQUEST_TX_DURATION",
    "RESPONSE_HEADERS_BYTES",
    "RESPONSE_TRAILERS_BYTES",
    "ROUNDTRIP_DURATION",
    "SPAN_ID",
    "START_TIME_LOCAL",
    "TLS_JA3_FINGERPRINT",
    "TLS_JA4_FINGERPRINT",
    "TRACE_ID",
    "TYPED_CEL",
    "UPSTREAM_CONNECTION_IDS_ATTEMPTED",
    "UPSTREAM_CONNECTION_POOL_READY_DURATION",
    "UPSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED",
    "UPSTREAM_DECOMPRESSED_HEADER_BYTES_SENT",
    "UPSTREAM_DETECTED_CLOSE_TYPE",
    "UPSTREAM_FILTER_STATE",
    "UPSTREAM_HEADER_BYTES_RECEIVED",
    "UPSTREAM_HEADER_BYTES_SENT",
    "UPSTREAM_HOSTS_ATTEMPTED",
    "UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT",
    "UPSTREAM_HOST_NAMES_ATTEMPTED",
    "UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT",
    "UPSTREAM_LOCAL_CLOSE_REASON",
    "UPSTREAM_METADATA",
    "UPSTREAM_REMOTE_ADDRESS_ENDPOINT_ID",
    "UPSTREAM_SERVER_NAME",
    "UPSTREAM_TLS_GROUP",
    "UPSTREAM_TLS_SESSION_ID",
    "UPSTREAM_WIRE_BYTES_RECEIVED",
    "UPSTREAM_WIRE_BYTES_SENT",
    "VIRTUAL_CLUSTER_NAME",
];
