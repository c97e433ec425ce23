//! What this proxy adds to a request, and what of the client's own fields it leaves out for that.

use std::{
    net::{IpAddr, SocketAddr},
    rc::Rc,
};

use snapshot::{Direction, HttpConnections, RequestHead};

use super::{
    FieldSink,
    certificate_field::CertificateField,
    control, is_of_offer,
    trusted_proxies::{forwarded_client, forwarded_scheme, last_forwarded},
};
use crate::{
    addresses::write_ip,
    connection::{Connection, NOBODY},
    http::PeerMetadata,
    upstream::Upstream,
    uuid::{UUID_LEN, uuid_v4},
};

/// What this proxy adds to a request, by the side of the workload it serves.
pub(in crate::http) struct Added {
    direction: Direction,
    /// How the client reached this proxy, or the trusted ones before it.
    scheme: &'static str,
    peer: IpAddr,
    /// The client as the trusted proxies before this one tell it, else the peer.
    client: IpAddr,
    /// Whether there are proxies before this gateway that are believed.
    has_trusted_proxies: bool,
    /// The port that clients of a gateway came by, where endpoints are told.
    port: Option<u16>,
    /// Whether the endpoint is told how often it was asked, as Istio does but towards the application.
    counts_attempts: bool,
    /// Present when the client sent none, or one that is not trusted.
    request_id: Option<[u8; UUID_LEN]>,
    client_certificate: CertificateField,
    /// What a proxy of the mesh before the endpoint is told of the workload.
    introduction: Option<Rc<PeerMetadata>>,
}

impl Added {
    /// Decides what to add. Gateways trust nothing that comes from outside the mesh; sidecars only fill gaps.
    pub(in crate::http) fn new(
        connection: &Connection,
        http: &HttpConnections,
        request: &impl RequestHead,
    ) -> Self {
        let direction = connection.direction;
        let headers = &connection.settings.headers;
        let replaced = direction == Direction::Gateway || request.header(REQUEST_ID).is_none();
        let request_id = (headers.request_id && replaced).then(|| uuid_v4(fastrand::u128(..)));
        let shown = connection.session().and_then(|session| session.client.as_ref());
        let client_certificate = CertificateField::new(http.forward_client_cert, shown);
        let (mut scheme, peer) = (connection.scheme(), connection.peer.ip());
        let mut client = peer;
        let proxies = connection.worker().settings.gateway_trusted_proxies;
        let has_trusted_proxies = direction == Direction::Gateway && proxies > 0;
        if has_trusted_proxies {
            client = forwarded_client(request, proxies).unwrap_or(peer);
            scheme = forwarded_scheme(request).unwrap_or(scheme);
        } else if direction != Direction::Gateway {
            client = last_forwarded(request).unwrap_or(peer);
        }
        let tells_port = headers.forwarded_port && direction == Direction::Gateway;
        let is_told = has_trusted_proxies && request.header(FORWARDED_PORT).is_some();
        connection.introduce(request);
        Self {
            direction,
            scheme,
            peer,
            client,
            has_trusted_proxies,
            port: (tells_port && !is_told).then(|| connection.destination.port()),
            counts_attempts: headers.attempt_count && direction != Direction::Inbound,
            request_id,
            client_certificate,
            introduction: None,
        }
    }

    /// What a gateway adds for a client that is known by its address only.
    #[cfg(any(test, fuzzing))]
    pub(in crate::http) fn of_gateway(peer: IpAddr) -> Self {
        let request_id = Some(uuid_v4(fastrand::u128(..)));
        let client_certificate = CertificateField::Removed;
        Self {
            direction: Direction::Gateway,
            scheme: "http",
            peer,
            client: peer,
            has_trusted_proxies: false,
            port: None,
            counts_attempts: true,
            request_id,
            client_certificate,
            introduction: None,
        }
    }

    /// Introduces the workload to the proxy of the mesh that stands before an endpoint, if one does.
    pub(in crate::http) fn introduce(&mut self, connection: &Connection, endpoint: &Upstream) {
        if self.direction != Direction::Inbound && endpoint.is_in_mesh() {
            self.introduction.clone_from(&connection.worker().metadata);
        }
    }

    /// The client's address; without its port when other proxies tell it.
    pub(in crate::http) fn remote(&self, peer: SocketAddr) -> SocketAddr {
        if self.client == self.peer { peer } else { SocketAddr::new(self.client, 0) }
    }

    /// Whether this proxy says itself how the client came, whatever is said so far.
    fn says_scheme(&self) -> bool {
        !self.direction.believes_scheme(self.has_trusted_proxies)
    }

    fn is_gateway(&self) -> bool {
        self.direction == Direction::Gateway
    }

    /// Whether a field of the client's is dropped because this proxy writes its own.
    fn replaces(&self, name: &str) -> bool {
        let own = match name.len() {
            4 => name.eq_ignore_ascii_case("host"),
            12 => self.request_id.is_some() && name.eq_ignore_ascii_case(REQUEST_ID),
            14 => name.eq_ignore_ascii_case("content-length"),
            15 => self.is_gateway() && name.eq_ignore_ascii_case(FORWARDED_FOR),
            16 => self.port.is_some() && name.eq_ignore_ascii_case(FORWARDED_PORT),
            17 => self.says_scheme() && name.eq_ignore_ascii_case(FORWARDED_PROTO),
            23 => !self.keeps_certificates() && name.eq_ignore_ascii_case(FORWARDED_CLIENT_CERT),
            21 => self.counts_attempts && name.eq_ignore_ascii_case(ATTEMPT_COUNT),
            _ => false,
        };
        own || is_of_offer(name) || control::is_dropped(name, self.direction)
    }

    /// Whether what a field of [`TOLD_OF_CLIENTS`] says of the client is for this proxy to say.
    pub(super) fn says(&self, field: &str, request: &impl RequestHead) -> bool {
        match field {
            FORWARDED_PROTO => self.says_scheme() || request.header(field).is_none(),
            FORWARDED_CLIENT_CERT => !self.keeps_certificates(),
            _ => self.is_gateway(),
        }
    }

    fn keeps_certificates(&self) -> bool {
        matches!(self.client_certificate, CertificateField::Kept)
    }

    /// Writes a field as it goes upstream if no route changes it; nothing when there is none.
    pub(in crate::http) fn record_field(&self, name: &str, request: &impl RequestHead, out: &mut Vec<u8>) {
        match name {
            FORWARDED_FOR if self.is_gateway() => self.write_forwarded_for(out, request),
            FORWARDED_PROTO if self.says_scheme() || request.header(name).is_none() => {
                out.extend_from_slice(self.scheme.as_bytes());
            }
            EXTERNAL_ADDRESS if self.is_gateway() => {
                if self.knows_client() {
                    write_ip(out, self.client);
                }
            }
            REQUEST_ID if self.request_id.is_some() => out.extend(self.request_id.iter().flatten()),
            FORWARDED_PORT if self.port.is_some() => {
                out.extend(self.port.iter().flat_map(|port| port.to_string().into_bytes()));
            }
            ATTEMPT_COUNT if self.counts_attempts => out.push(b'1'),
            FORWARDED_CLIENT_CERT if !self.keeps_certificates() => {
                self.client_certificate.write(out, request);
            }
            _ if self.replaces(name) && !is_of_offer(name) => {}
            _ => out.extend_from_slice(request.header(name).unwrap_or_default()),
        }
    }

    /// The scheme as the client sees it.
    pub(in crate::http) fn scheme(&self) -> &'static str {
        self.scheme
    }

    /// Calls `visit` for every line that goes to the endpoint if no route changes it, without framing.
    pub(in crate::http) fn visit(&self, request: &dyn RequestHead, visit: &mut dyn FnMut(&str, &[u8])) {
        let mut sink = Visiting(visit);
        let has_scheme = self.write_received(&mut sink, request);
        self.write_own(&mut sink, request, has_scheme);
    }

    /// Writes the client's fields that go on; says whether `x-forwarded-proto` is among what the client sent.
    pub(super) fn write_received(
        &self,
        sink: &mut impl FieldSink,
        request: &(impl RequestHead + ?Sized),
    ) -> bool {
        let mut has_scheme = false;
        request.visit_headers(&mut |name, value| {
            has_scheme = has_scheme || name.eq_ignore_ascii_case(FORWARDED_PROTO);
            if !self.replaces(name) {
                sink.field(name, value);
            }
        });
        has_scheme
    }

    /// Writes what this proxy says itself.
    pub(super) fn write_own(
        &self,
        sink: &mut impl FieldSink,
        request: &(impl RequestHead + ?Sized),
        has_scheme: bool,
    ) {
        if self.says_scheme() || !has_scheme {
            sink.field(FORWARDED_PROTO, self.scheme.as_bytes());
        }
        if self.is_gateway() {
            let told = self.tells_peer() || request.header(FORWARDED_FOR).is_some();
            if told {
                sink.field_with(FORWARDED_FOR, |out| self.write_forwarded_for(out, request));
            }
            if self.knows_client() {
                sink.field_with(EXTERNAL_ADDRESS, |out| write_ip(out, self.client));
            }
        }
        if let Some(port) = self.port {
            sink.field(FORWARDED_PORT, itoa::Buffer::new().format(port).as_bytes());
        }
        if let CertificateField::Replaced(_) | CertificateField::Appended(_) = &self.client_certificate {
            sink.field_with(FORWARDED_CLIENT_CERT, |out| self.client_certificate.write(out, request));
        }
        if let Some(id) = &self.request_id {
            sink.field(REQUEST_ID, id);
        }
        if self.counts_attempts {
            sink.field(ATTEMPT_COUNT, b"1");
        }
        if let Some(introduction) = &self.introduction {
            introduction.write(sink);
        }
    }

    fn write_forwarded_for(&self, out: &mut Vec<u8>, request: &(impl RequestHead + ?Sized)) {
        let before = out.len();
        write_values(out, FORWARDED_FOR, request);
        if self.tells_peer() {
            write_ip(out, self.peer);
        } else {
            // Without the comma of the last, where there is any: other fields may stand before.
            out.truncate(out.len().saturating_sub(1).max(before));
        }
    }

    /// Whether anybody has told the client's address.
    fn knows_client(&self) -> bool {
        self.client != NOBODY.ip()
    }

    /// Whether the client has an address: those of unix sockets have none, and add nothing to what others have told.
    fn tells_peer(&self) -> bool {
        self.peer != NOBODY.ip()
    }
}

/// Writes the values of a field that the client sent, each with a comma behind it; empty ones say nothing.
pub(super) fn write_values(out: &mut Vec<u8>, field: &str, request: &(impl RequestHead + ?Sized)) {
    request.visit_headers(&mut |name, value| {
        if name.eq_ignore_ascii_case(field) && !value.is_empty() {
            out.extend_from_slice(value);
            out.push(b',');
        }
    });
}

/// Says how often the request has been sent to an endpoint.
pub(in crate::http) const ATTEMPT_COUNT: &str = "x-envoy-attempt-count";
/// Says how long the endpoint has for its answer, in milliseconds.
pub(in crate::http) const EXPECTED_TIMEOUT: &str = "x-envoy-expected-rq-timeout-ms";
const EXTERNAL_ADDRESS: &str = "x-envoy-external-address";
const REQUEST_ID: &str = "x-request-id";
const FORWARDED_PORT: &str = "x-forwarded-port";
pub(super) const FORWARDED_FOR: &str = "x-forwarded-for";
pub(super) const FORWARDED_CLIENT_CERT: &str = "x-forwarded-client-cert";
pub(super) const FORWARDED_PROTO: &str = "x-forwarded-proto";
/// Fields about the client that are not for the client to write where it is not trusted.
pub(super) const TOLD_OF_CLIENTS: [&str; 4] =
    [FORWARDED_CLIENT_CERT, FORWARDED_FOR, FORWARDED_PROTO, EXTERNAL_ADDRESS];

/// Shows fields instead of writing them.
struct Visiting<'v>(&'v mut dyn FnMut(&str, &[u8]));

impl FieldSink for Visiting<'_> {
    fn field(&mut self, name: &str, value: &[u8]) {
        (self.0)(name, value);
    }

    fn field_with(&mut self, name: &str, write: impl FnOnce(&mut Vec<u8>)) {
        let mut value = Vec::new();
        write(&mut value);
        (self.0)(name, &value);
    }
}

#[cfg(test)]
mod tests {
    use snapshot::Underscores;

    use super::*;
    use crate::{
        http::head::{Http1Head, write_request_head},
        upgrades::Upgrades,
    };

    fn forwarded(direction: Direction, head: &str) -> String {
        let mut slots = http1::HeaderSlots::new();
        let request =
            http1::parse_request(head.as_bytes(), &http1::Limits::default(), &mut slots).unwrap().unwrap();
        let nominated = http1::connection_names(request.headers);
        let head = Http1Head::new(&request, &nominated, (&Upgrades::default(), Underscores::Allowed));
        let added = Added {
            direction,
            scheme: "http",
            peer: "10.0.0.9".parse().unwrap(),
            client: "10.0.0.9".parse().unwrap(),
            has_trusted_proxies: false,
            port: None,
            counts_attempts: direction != Direction::Inbound,
            request_id: (direction == Direction::Gateway || head.header(REQUEST_ID).is_none())
                .then(|| uuid_v4(0)),
            client_certificate: CertificateField::Removed,
            introduction: None,
        };
        let mut out = Vec::new();
        write_request_head(&mut out, &head, &added, request.body, (None, None));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn gateways_replace_what_clients_claim() {
        let head = "GET /a?b HTTP/1.1\r\nHost: a.com\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\n\
                    X-Request-Id: mine\r\nConnection: close, x-secret\r\nX-Secret: 1\r\nX-Kept: 2\r\n\
                    X-Envoy-Attempt-Count: 7\r\nX-Envoy-Ip-Tags: t\r\nX-Envoy-Retry-On: 5xx\r\n\r\n";
        assert_eq!(
            forwarded(Direction::Gateway, head),
            "GET /a?b HTTP/1.1\r\nhost: a.com\r\nX-Kept: 2\r\nx-forwarded-proto: http\r\n\
             x-forwarded-for: 1.2.3.4,10.0.0.9\r\nx-envoy-external-address: 10.0.0.9\r\nx-request-id: 00000000-0000-4000-8000-000000000000\r\n\
             x-envoy-attempt-count: 1\r\n\r\n"
        );
    }

    #[test]
    fn sidecars_only_fill_gaps() {
        let head = "POST / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\nX-Request-Id: mine\r\n\
                    Content-Length: 3\r\n\r\n";
        assert_eq!(
            forwarded(Direction::Outbound, head),
            "POST / HTTP/1.1\r\nhost: a\r\nX-Forwarded-For: 1.2.3.4\r\nX-Request-Id: mine\r\n\
             content-length: 3\r\nx-forwarded-proto: http\r\nx-envoy-attempt-count: 1\r\n\r\n"
        );
        let head = "GET / HTTP/1.1\r\nHost: a\r\nx-forwarded-proto: https\r\n\r\n";
        assert!(!forwarded(Direction::Inbound, head).contains("proto: http\r\n"));
        let head = "GET / HTTP/1.1\r\nHost: a\r\nx-envoy-attempt-count: 2\r\n\r\n";
        assert!(forwarded(Direction::Inbound, head).contains("x-envoy-attempt-count: 2\r\n"));
    }
}
