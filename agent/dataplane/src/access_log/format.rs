//! What an access log line looks like (MeshConfig `accessLogFormat`, `accessLogEncoding`).

use std::{
    borrow::Cow,
    fmt::{self, Write as _},
    io::Write as _,
    net::SocketAddr,
};

use snapshot::{Format, Operator, Piece};

use super::{Entry, RequestLine};
use crate::{strftime, sys::HOSTNAME, tls::ClientCertificate};

/// The look of access log lines, taken apart once.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogFormat {
    shape: Shape,
    /// Request fields that lines show, by slot.
    fields: Vec<Wanted>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Shape {
    Text(Vec<Part>),
    /// Keys as they are written, quotes included.
    Json(Vec<(String, Vec<Part>)>),
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Part {
    Text(String),
    /// A request field by slot.
    Field(usize, Option<usize>),
    Operator(Operator, Option<usize>),
}

/// A request field that lines show, in lower case, and the one shown when it is missing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    pub(crate) other: Option<String>,
}

/// Istio's default line.
const DEFAULT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" \
    %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \
    \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
    %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \
    \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% \
    %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% \
    %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

/// Keys and values of Istio's default JSON line.
const DEFAULT_JSON: [(&str, &str); 23] = [
    ("start_time", "%START_TIME%"),
    ("route_name", "%ROUTE_NAME%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("duration", "%DURATION%"),
    ("upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
];

/// Key that Istio's default JSON line has beside those of [`DEFAULT_JSON`].
const FAILURE_REASON: (&str, &str) =
    ("upstream_transport_failure_reason", "%UPSTREAM_TRANSPORT_FAILURE_REASON%");

impl Default for LogFormat {
    /// Istio's default text.
    fn default() -> Self {
        Self::text(&own(DEFAULT))
    }
}

fn own(format: &str) -> Format {
    Format::parse(format).expect("our own formats are well-formed")
}

impl LogFormat {
    /// Lines of text. A line end is added when the format has none.
    pub fn text(format: &Format) -> Self {
        let mut fields = Vec::new();
        let mut parts = parts(format, &mut fields);
        if !format.source().ends_with('\n') {
            parts.push(Part::Text("\n".to_owned()));
        }
        Self { shape: Shape::Text(parts), fields }
    }

    /// A JSON object per line, keys sorted. A value that is one operator for a number is a number, one
    /// that is not known is `null`.
    pub fn json(values: &[(String, Format)]) -> Self {
        let mut fields = Vec::new();
        let values = values.iter().map(|(key, format)| (json_text(key), parts(format, &mut fields)));
        let mut values: Vec<_> = values.collect();
        values.sort_by(|(a, _), (b, _)| a.cmp(b));
        Self { shape: Shape::Json(values), fields }
    }

    /// Istio's default JSON.
    pub fn default_json() -> Self {
        let keys = DEFAULT_JSON.into_iter().chain([FAILURE_REASON]);
        let values: Vec<_> = keys.map(|(key, format)| (key.to_owned(), own(format))).collect();
        Self::json(&values)
    }

    /// The request fields to remember for a line, by slot.
    pub(crate) fn fields(&self) -> &[Wanted] {
        &self.fields
    }

    pub(super) fn write_line(&self, entry: &Entry<'_>, out: &mut Vec<u8>) {
        match &self.shape {
            Shape::Text(parts) => {
                for part in parts {
                    match part {
                        Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                        part => write_or_dash(entry, part, out),
                    }
                }
            }
            Shape::Json(values) => write_json(entry, values, out),
        }
    }
}

fn parts(format: &Format, fields: &mut Vec<Wanted>) -> Vec<Part> {
    let part = |piece: &Piece| match piece {
        Piece::Text(text) => Part::Text(text.clone()),
        Piece::Operator { operator: Operator::RequestHeader(name, other), max_length } => {
            let wanted = Wanted { name: name.clone(), other: other.clone() };
            let known = fields.iter().position(|field| *field == wanted);
            let slot = known.unwrap_or_else(|| {
                fields.push(wanted);
                fields.len() - 1
            });
            Part::Field(slot, *max_length)
        }
        Piece::Operator { operator, max_length } => Part::Operator(operator.clone(), *max_length),
    };
    format.pieces().iter().map(part).collect()
}

fn write_or_dash(entry: &Entry<'_>, part: &Part, out: &mut Vec<u8>) {
    let start = out.len();
    let max_length = entry.write_part(part, out);
    if out.len() == start {
        out.push(b'-');
    }
    out.truncate(start + max_length.unwrap_or(usize::MAX).min(out.len() - start));
}

fn write_json(entry: &Entry<'_>, values: &[(String, Vec<Part>)], out: &mut Vec<u8>) {
    out.push(b'{');
    for (index, (key, parts)) in values.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(key.as_bytes());
        out.push(b':');
        match parts.as_slice() {
            [Part::Operator(operator, None)] if is_number(operator) => {
                let start = out.len();
                entry.write_operator(operator, out);
                null_if_empty(start, out);
            }
            [Part::Field(slot, max_length)] => write_json_value(entry.field(*slot), *max_length, out),
            [Part::Operator(operator, max_length)] => {
                let mut value = Vec::new();
                entry.write_operator(operator, &mut value);
                write_json_value(&value, *max_length, out);
            }
            parts => {
                let mut value = Vec::new();
                for part in parts {
                    match part {
                        Part::Text(text) => value.extend_from_slice(text.as_bytes()),
                        part => write_or_dash(entry, part, &mut value),
                    }
                }
                out.extend_from_slice(json_text(&String::from_utf8_lossy(&value)).as_bytes());
            }
        }
    }
    out.extend_from_slice(b"}\n");
}

fn write_json_value(value: &[u8], max_length: Option<usize>, out: &mut Vec<u8>) {
    let value = &value[..max_length.unwrap_or(usize::MAX).min(value.len())];
    let start = out.len();
    if !value.is_empty() {
        out.extend_from_slice(json_text(&String::from_utf8_lossy(value)).as_bytes());
    }
    null_if_empty(start, out);
}

fn null_if_empty(start: usize, out: &mut Vec<u8>) {
    if out.len() == start {
        out.extend_from_slice(b"null");
    }
}

/// Text as a JSON string, quotes included.
fn json_text(text: &str) -> String {
    let mut json = String::with_capacity(text.len() + 2);
    json.push('"');
    for char in text.chars() {
        match char {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\n' => json.push_str("\\n"),
            '\r' => json.push_str("\\r"),
            '\t' => json.push_str("\\t"),
            char if char.is_control() => _ = write!(json, "\\u{:04x}", u32::from(char)),
            char => json.push(char),
        }
    }
    json.push('"');
    json
}

fn is_number(operator: &Operator) -> bool {
    matches!(
        operator,
        Operator::ResponseCode
            | Operator::BytesReceived
            | Operator::BytesSent
            | Operator::Duration
            | Operator::DownstreamLocalPort
            | Operator::DownstreamRemotePort
    )
}

impl Entry<'_> {
    /// The certificate that the client has shown.
    fn client(&self) -> Option<&ClientCertificate> {
        self.session?.client.as_deref()
    }

    fn field(&self, slot: usize) -> &[u8] {
        self.request.map_or(&b""[..], |line| line.get(slot))
    }

    /// Writes a value, or nothing when it is not known; returns how long it may be.
    fn write_part(&self, part: &Part, out: &mut Vec<u8>) -> Option<usize> {
        match part {
            Part::Text(text) => {
                out.extend_from_slice(text.as_bytes());
                None
            }
            Part::Field(slot, max_length) => {
                out.extend_from_slice(&harmless(self.field(*slot)));
                *max_length
            }
            Part::Operator(operator, max_length) => {
                self.write_operator(operator, out);
                *max_length
            }
        }
    }

    /// Envoy's braces hold what the transport says, too.
    fn write_details(&self, out: &mut Vec<u8>) {
        match (self.details.strip_suffix('}'), self.transport_failure) {
            (Some(details), Some(reason)) => put(Some(format_args!("{details}|{reason}}}")), out),
            _ => text(Some(self.details), out),
        }
    }

    fn write_operator(&self, operator: &Operator, out: &mut Vec<u8>) {
        let address = |address: Option<SocketAddr>, out: &mut Vec<u8>| put(address, out);
        match operator {
            Operator::StartTime(None) => put(Some(humantime::format_rfc3339_millis(self.start)), out),
            Operator::StartTime(format) => out.extend(strftime::format(format.as_deref(), self.start)),
            Operator::Protocol => text(self.request.map(RequestLine::protocol), out),
            Operator::ResponseCode => put(Some(self.status), out),
            // In JSON too Envoy writes `-` for none.
            Operator::ResponseFlags if self.flags.is_empty() => out.push(b'-'),
            Operator::ResponseFlags => text(Some(self.flags), out),
            Operator::ConnectionTerminationDetails | Operator::DownstreamTransportFailureReason => {
                text(Some(self.termination), out);
            }
            Operator::ResponseCodeDetails => self.write_details(out),
            Operator::UpstreamTransportFailureReason => text(self.transport_failure, out),
            Operator::BytesReceived => put(Some(self.received), out),
            Operator::BytesSent => put(Some(self.sent), out),
            Operator::Duration | Operator::RequestDuration | Operator::ResponseDuration => {
                put(Some(self.duration.as_millis()), out);
            }
            // The only field of an answer that is remembered: this proxy writes it itself.
            Operator::ResponseHeader(name, _) if name == "x-envoy-upstream-service-time" => {
                put(self.service_time, out);
            }
            Operator::UpstreamHost | Operator::UpstreamRemoteAddress => address(self.upstream, out),
            Operator::UpstreamLocalAddress => address(self.upstream_local, out),
            Operator::UpstreamCluster => text(self.cluster, out),
            Operator::DownstreamLocalAddress => address(Some(self.downstream_local), out),
            Operator::DownstreamLocalAddressWithoutPort => put(Some(self.downstream_local.ip()), out),
            Operator::DownstreamLocalPort => put(Some(self.downstream_local.port()), out),
            Operator::DownstreamRemoteAddress | Operator::DownstreamDirectRemoteAddress => {
                address(Some(self.downstream_remote), out);
            }
            Operator::DownstreamRemoteAddressWithoutPort
            | Operator::DownstreamDirectRemoteAddressWithoutPort => {
                put(Some(self.downstream_remote.ip()), out);
            }
            Operator::DownstreamRemotePort => put(Some(self.downstream_remote.port()), out),
            Operator::DownstreamTlsVersion => text(self.session.map(|session| session.version), out),
            // Distinguished names are escaped already.
            Operator::DownstreamPeerSubject => text(self.client().map(|shown| &*shown.subject), out),
            Operator::DownstreamPeerUriSan => {
                out.extend_from_slice(&harmless(self.client().map_or("", |shown| &shown.uris).as_bytes()));
            }
            Operator::RequestedServerName => {
                out.extend_from_slice(&harmless(self.server_name.unwrap_or_default().as_bytes()));
            }
            Operator::RouteName => text(self.route, out),
            Operator::Hostname => text(Some(HOSTNAME.as_str()), out),
            _ => {}
        }
    }
}

fn put(value: Option<impl fmt::Display>, out: &mut Vec<u8>) {
    if let Some(value) = value {
        // Writing into memory cannot fail.
        _ = write!(out, "{value}");
    }
}

fn text(value: Option<&str>, out: &mut Vec<u8>) {
    out.extend_from_slice(value.unwrap_or_default().as_bytes());
}

/// A peer's bytes as they may stand between quotes: nothing in them can end the field or the line.
fn harmless(bytes: &[u8]) -> Cow<'_, [u8]> {
    let plain = |byte: &u8| (b' '..=b'~').contains(byte) && !matches!(byte, b'"' | b'\\');
    if bytes.iter().all(plain) { bytes.into() } else { bytes.escape_ascii().collect::<Vec<u8>>().into() }
}
