//! What the fuzz target of access log lines calls.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, SystemTime},
};

use snapshot::Format;

use super::{Entry, JsonFormat, LogFormat, Recorded};
use crate::tls::{ClientCertificate, Session};

/// One line as text and one as JSON, of a request whose fields are the pieces of `fields` between zeros, in turns.
pub(crate) fn lines(format: Format, fields: &[u8]) -> [Vec<u8>; 2] {
    let json = LogFormat::json(vec![("only".to_owned(), JsonFormat::Text(format.clone()))]);
    [line(&LogFormat::text(&format), fields), line(&json, fields)]
}

fn line(format: &LogFormat, fields: &[u8]) -> Vec<u8> {
    let mut values = fields.split(|byte| *byte == 0).cycle();
    let mut next = || values.next().unwrap_or_default();
    let said = String::from_utf8_lossy(next()).into_owned();
    let request = request(format, next);
    let client =
        ClientCertificate { subject: "CN=a\\,b".to_owned(), uris: said.clone(), ..Default::default() };
    let session = Session { version: "TLSv1.3", client: Some(client.into()), ..Session::default() };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 80));
    let entry = Entry {
        start: SystemTime::UNIX_EPOCH,
        duration: Duration::from_millis(3),
        request: Some(&request),
        status: 200,
        flags: "UF,URX",
        details: "via_upstream",
        termination: "",
        transport_failure: Some("refused"),
        received: 1,
        sent: 2,
        request_ended: None,
        answer_began: Some(Duration::from_millis(1)),
        grpc_status: Some(fields.len() as u8),
        attempts: 1,
        upstream_protocol: Some("HTTP/1.1"),
        upstream: Some(&address.into()),
        cluster: Some("outbound|80||a"),
        own_end: None,
        connection: 7,
        chain: None,
        downstream_local: address,
        downstream_remote: address,
        downstream_direct_remote: address,
        downstream_unix: None,
        server_name: Some(&said),
        session: Some(&session),
        route: Some("default"),
    };
    let mut out = Vec::new();
    format.write_line(&entry, &mut out);
    out
}

fn request<'f>(format: &LogFormat, mut next: impl FnMut() -> &'f [u8]) -> Recorded {
    let slots = format.slots();
    let mut request = Recorded::default();
    request.start("HTTP/1.1");
    let mut push = |request: &mut Recorded, wanted| {
        request.push(wanted, |_, out| out.extend_from_slice(next()));
    };
    slots.request.iter().for_each(|wanted| push(&mut request, wanted));
    request.begin_answer();
    slots.answer.iter().for_each(|wanted| push(&mut request, wanted));
    request.begin_trailers();
    slots.trailers.iter().for_each(|wanted| push(&mut request, wanted));
    request
}
