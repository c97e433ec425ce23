//! Handshakes that come to nothing: what the client is told, what is logged and counted, and that a flood of them does
//! not keep others from being served.

use std::{
    io::Write,
    sync::{Arc, Mutex},
};

use dataplane::{AccessLog, Settings};

use crate::{
    support::{Client, Proxy, Upstream, eventually},
    tls::{connect, counts, hello, make, tls_draft},
};

/// Where access log lines go.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    pub(crate) fn settings(&self) -> Settings {
        Settings { access_log: Some(AccessLog::start(self.clone()).unwrap()), ..Settings::default() }
    }

    /// The first line with this text; workers hand theirs over twice a second.
    pub(crate) fn with(&self, text: &str) -> String {
        let mut found = None;
        eventually(&format!("a line with {text}"), || {
            let lines = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
            found = lines.lines().find(|line| line.contains(text)).map(str::to_owned);
            found.is_some()
        });
        found.unwrap()
    }
}

/// The fatal alert in the clear that ends the connection.
fn alert(client: &mut Client) -> Option<u8> {
    match client.rest_or_reset()[..] {
        [21, 3, _, 0, 2, 2, code] => Some(code),
        _ => None,
    }
}

#[test]
fn the_client_and_the_log_are_told_why() {
    let a = make(&["a.com"]);
    let (upstream, lines) = (Upstream::echoing_heads(), Lines::default());
    let proxy = Proxy::start(lines.settings(), |address| {
        let servers = [("a.com", Some(&a)), ("bare.com", None)];
        let mut draft = tls_draft(address, upstream.address, &servers);
        draft.tls_contexts[1].missing = Some("Secret ns/bare holds no key".to_owned());
        draft
    });
    const DECODE_ERROR: u8 = 50;
    const INTERNAL_ERROR: u8 = 80;
    const UNRECOGNIZED_NAME: u8 = 112;
    let told = |bytes: &[u8]| alert(proxy.connect().send(bytes));
    assert_eq!(told(&hello("nobody.com", &a)), Some(UNRECOGNIZED_NAME));
    assert_eq!(told(&hello("bare.com", &a)), Some(INTERNAL_ERROR));
    assert_eq!(told(&[22, 3, 3, 0, 4, 9, 9, 9, 9]), Some(DECODE_ERROR));
    // What does not speak TLS would not understand.
    assert_eq!(told(b"GET / HTTP/1.1\r\n\r\n"), None);
    // A client that trusts somebody else.
    assert!(connect(&proxy, "a.com", &[&make(&["a.com"])]).is_err());
    assert!(lines.with(" nobody.com ").contains(" 0 NR filter_chain_not_found - "));
    assert!(lines.with(" bare.com ").contains(" 0 - - Secret_ns/bare_holds_no_key "));
    assert!(lines.with(" a.com ").contains(" 0 - - received_fatal_alert:_"), "{}", lines.with(" a.com "));
    let counts = counts(&proxy);
    assert_eq!((counts.no_filter_chain, counts.failed_handshakes), (2, 3));
}

#[test]
fn a_probe_that_says_nothing_is_no_failed_handshake() {
    let a = make(&["a.com"]);
    let upstream = Upstream::echoing_heads();
    let proxy =
        Proxy::start(Settings::default(), |address| tls_draft(address, upstream.address, &[("*", Some(&a))]));
    for _ in 0..5 {
        drop(proxy.connect());
    }
    assert_eq!(connect(&proxy, "a.com", &[&a]).unwrap().get("/").status(), "200");
    eventually("nobody is left", || counts(&proxy).active_connections == 0);
    assert_eq!((counts(&proxy).connections, counts(&proxy).failed_handshakes), (6, 0));
}

#[test]
fn half_handshakes_make_room_for_newer_ones() {
    const MOST: usize = 20;
    let a = make(&["a.com"]);
    let upstream = Upstream::echoing_heads();
    let settings = Settings { max_handshakes: MOST, ..Settings::default() };
    let proxy = Proxy::start(settings, |address| tls_draft(address, upstream.address, &[("*", Some(&a))]));
    let mut served = connect(&proxy, "a.com", &[&a]).unwrap();
    let hello = hello("a.com", &a);
    // Silent, in the middle of the hello, and after it; every tenth client wants to be served.
    let mut half = Vec::new();
    for index in 0..10 * MOST {
        let mut client = proxy.connect();
        client.send(&hello[..[0, hello.len() / 2, hello.len()][index % 3]]);
        half.push(client);
        if index % 10 == 0 {
            assert_eq!(connect(&proxy, "a.com", &[&a]).unwrap().get("/").status(), "200", "{index}");
        }
    }
    assert_eq!(served.get("/").status(), "200");
    // The last ones wait on; the others are closed.
    eventually("the others are closed", || counts(&proxy).active_connections == MOST as u64 + 1);
    let counts = counts(&proxy);
    assert_eq!((counts.crowded_out_handshakes, counts.failed_handshakes), (9 * MOST as u64, 0));
}
