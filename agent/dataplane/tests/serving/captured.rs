//! Captured connections: original destinations, inspection, opaque relays. The original destination is injected.

use std::{
    net::{Shutdown, SocketAddr},
    sync::OnceLock,
    time::Duration,
};

use crate::support::{Client, Proxy, Upstream, eventually, free_address, sidecar_draft};
use dataplane::Settings;
use snapshot::{Binding, Direction, Discovery, Listener};

// One per test that needs one: `Settings::original_destination` is a plain function.
static SPEAKS_FIRST: OnceLock<SocketAddr> = OnceLock::new();
static ECHOES: OnceLock<SocketAddr> = OnceLock::new();

fn echo() -> Upstream {
    Upstream::start(|client| {
        let (mut from, mut to) = (client.0.try_clone().unwrap(), client.0);
        _ = std::io::copy(&mut from, &mut to);
        _ = to.shutdown(Shutdown::Write);
    })
}

fn sidecar(upstreams: &[SocketAddr], original_destination: dataplane::OriginalDestination) -> Proxy {
    let settings = Settings { original_destination, ..Settings::default() };
    Proxy::start(settings, |address| sidecar_draft(address, upstreams))
}

#[test]
fn http_is_routed_and_opaque_bytes_go_where_they_were_going() {
    let echo = echo();
    ECHOES.set(echo.address).unwrap();
    let web = Upstream::echoing_heads();
    let proxy = sidecar(&[web.address], |_| Ok(ECHOES.get().copied()));
    let answer = proxy.connect().get("/routed");
    assert_eq!((answer.status(), answer.field("server")), ("200", Some("envoy")));
    let mut client = proxy.connect();
    assert_eq!(client.send(b"\x00opaque").exactly(7), b"\x00opaque");
    client.0.shutdown(Shutdown::Write).unwrap();
    assert!(client.rest().is_empty());
}

#[test]
fn a_listener_that_is_dialled_serves_by_its_own_address() {
    let web = Upstream::echoing_heads();
    let refuse: dataplane::OriginalDestination = |_| panic!("nobody redirected the connection");
    let settings = Settings { original_destination: refuse, ..Settings::default() };
    let proxy = Proxy::start(settings, |address| {
        let mut draft = sidecar_draft(address, &[web.address]);
        draft.listeners[0].binding = Binding::Dialled(address);
        // One for captured connections to the port, which is not meant.
        let captured = ([0, 0, 0, 0], address.port()).into();
        draft.listeners.push(Listener {
            binding: Binding::Captured(captured),
            filter_chains: vec![],
            default_filter_chain: None,
            ..draft.listeners[0].clone()
        });
        draft
    });
    assert_eq!(proxy.connect().get("/dialled").status(), "200");
}

#[test]
fn requests_of_the_first_version_that_name_no_host_go_where_they_were_going() {
    const CHECK: &str = "OPTIONS / HTTP/1.0\r\nuser-agent: check\r\n\r\n";
    let dialled = Upstream::start(|mut client| {
        let head = client.until(b"\r\n\r\n");
        client.send("HTTP/1.0 200 OK\r\n\r\n").send(head);
    });
    static DIALLED: OnceLock<SocketAddr> = OnceLock::new();
    DIALLED.set(dialled.address).unwrap();
    let web = Upstream::echoing_heads();
    let proxy = sidecar(&[web.address], |_| Ok(DIALLED.get().copied()));
    let answer = format!("HTTP/1.0 200 OK\r\n\r\n{CHECK}");
    assert_eq!(proxy.connect().send(CHECK).rest(), answer.as_bytes());
    // In pieces: the fields decide when they come.
    let mut client = proxy.connect();
    let (line, fields) = CHECK.split_at("OPTIONS / HTTP/1.0\r\n".len());
    client.send(line);
    eventually("both connections are open", || dialled.connections() == 2);
    assert_eq!(client.send(fields).rest(), answer.as_bytes());
    let named = proxy.connect().send("GET /routed HTTP/1.0\r\naccept: */*\r\nhost: a\r\n\r\n").answer();
    assert_eq!((named.status(), named.field("server")), ("200", Some("envoy")));
    assert_eq!((dialled.connections(), web.connections()), (2, 1));
}

#[test]
fn half_closed_connections_still_carry_the_answer() {
    let answers_at_the_end = Upstream::start(|mut client| {
        let heard = client.rest();
        client.send(heard.len().to_string());
    });
    static AT_THE_END: OnceLock<SocketAddr> = OnceLock::new();
    AT_THE_END.set(answers_at_the_end.address).unwrap();
    let proxy = sidecar(&[], |_| Ok(AT_THE_END.get().copied()));
    let mut client = proxy.connect();
    client.send(vec![7; 1_000_000]);
    client.0.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.rest(), b"1000000");
}

#[test]
fn a_server_that_speaks_first_is_heard_without_the_client_saying_anything() {
    let mail = Upstream::start(|mut client| {
        client.send("220 mail ready\r\n");
        let heard = client.exactly(6);
        client.send(heard);
    });
    SPEAKS_FIRST.set(mail.address).unwrap();
    let proxy = sidecar(&[], |_| Ok(SPEAKS_FIRST.get().copied()));
    let mut client = proxy.connect();
    assert_eq!(client.until(b"\r\n"), b"220 mail ready\r\n");
    assert_eq!(client.send("EHLO\r\n").exactly(6), b"EHLO\r\n");
}

#[test]
fn a_client_that_is_slow_to_speak_http_is_still_routed() {
    let silent = Upstream::start(|mut client| _ = client.rest());
    static SILENT: OnceLock<SocketAddr> = OnceLock::new();
    SILENT.set(silent.address).unwrap();
    let web = Upstream::echoing_heads();
    let proxy = sidecar(&[web.address], |_| Ok(SILENT.get().copied()));
    let mut client = proxy.connect();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(client.get("/late").status(), "200");
    assert_eq!((silent.connections(), web.connections()), (1, 1));
}

#[test]
fn connections_to_the_proxy_itself_are_refused() {
    let direct = sidecar(&[], |_| Ok(None));
    assert!(direct.connect().rest().is_empty());
    let looped =
        sidecar(&[], |stream| Ok(Some(SocketAddr::from(([10, 0, 0, 1], stream.local_addr()?.port())))));
    assert!(looped.connect().rest().is_empty());
    assert_eq!(looped.runtime.block_on(looped.plane.counts()).looped, 1);
}

#[test]
fn whoever_dials_the_proxy_itself_is_not_sent_back_to_it() {
    for direction in [Direction::Gateway, Direction::Outbound] {
        let proxy = Proxy::start(Settings::default(), |address| {
            let mut draft = sidecar_draft(address, &[]);
            draft.clusters[0].discovery = Discovery::OriginalDestination;
            draft.listeners[0].direction = direction;
            draft.listeners[0].binding = match direction {
                Direction::Outbound => Binding::Dialled(address),
                Direction::Gateway | Direction::Inbound => Binding::Socket(address),
            };
            draft
        });
        assert!(proxy.connect().send(b"\x00opaque").rest().is_empty());
        let answer = proxy.connect().get("/original");
        assert_eq!((answer.status(), answer.text()), ("503", "no healthy upstream"));
        assert_eq!(proxy.runtime.block_on(proxy.plane.counts()).connections, 2, "{direction:?}");
    }
}

#[test]
fn an_original_destination_nobody_listens_on_closes_the_connection() {
    static NOBODY: OnceLock<SocketAddr> = OnceLock::new();
    NOBODY.set(free_address()).unwrap();
    let proxy = sidecar(&[], |_| Ok(NOBODY.get().copied()));
    let mut client: Client = proxy.connect();
    assert!(client.send(b"\x00").rest().is_empty());
}
