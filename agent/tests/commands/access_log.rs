//! The access log on the agent's standard output.

use std::io::{Read, Write};

use super::{gateway, shop};
use crate::support::{PATIENCE, eventually, printed, send};

/// The access log goes to a pipe that is full: requests are served, and what is lost is counted.
#[test]
fn an_access_log_that_nobody_reads_holds_nothing_up() {
    let (directory, port) = shop();
    let mesh = directory.path().join("mesh.yaml");
    std::fs::write(&mesh, "accessLogFile: /dev/stdout\n").unwrap();
    let (_log, mut full) = std::io::pipe().unwrap();
    full.write_all(&vec![b'\n'; 64 << 10]).unwrap();
    let flags = ["--mesh-config", mesh.to_str().unwrap()];
    let running = gateway(directory.path()).flags(&flags).output(full).start();
    running.await_ready();
    let lost = || {
        let metrics = printed(&["request", "GET", "/stats/prometheus", "--admin", &running.interfaces.stats]);
        let line = metrics.lines().find(|line| line.starts_with("postern_access_log_lost_lines_total "));
        line.unwrap().rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    // Long lines, more than wait for their reader.
    let request =
        format!("GET /gone HTTP/1.1\r\nhost: www.shop.com\r\nuser-agent: {}\r\n\r\n", "a".repeat(50_000));
    let mut client = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut asked = 0;
    while lost() == 0 {
        assert!(asked < 1000, "nothing is lost");
        for _ in 0..50 {
            client.write_all(request.as_bytes()).unwrap();
            let mut answer = [0; 12];
            client.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"HTTP/1.1 410");
            let mut rest = Vec::new();
            while !rest.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                client.read_exact(&mut byte).unwrap();
                rest.push(byte[0]);
            }
            asked += 1;
        }
    }
}

/// What the mesh says of the access log counts at the start: half of it, taken up later, would be in the wrong format.
#[test]
fn an_access_log_that_is_asked_for_later_waits_for_the_next_start() {
    let (directory, port) = shop();
    let running = gateway(directory.path()).start();
    running.await_ready();
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |-\n    \
                accessLogFile: /dev/stdout\n    accessLogFormat: \"later %PATH%\\n\"\n";
    std::fs::write(directory.path().join("mesh.yaml"), yaml).unwrap();
    let findings = || printed(&["request", "GET", "/findings", "--admin", &running.interfaces.admin]);
    eventually("it is told", || findings().contains("says of the access log has changed since the start"));
    let asked = send(port, "GET /gone HTTP/1.1\nhost: www.shop.com\n\n");
    assert_eq!(asked.status(), 410);
    // What is to be written is written before the end.
    printed(&["request", "POST", "/quitquitquit", "--admin", &running.interfaces.admin]);
    running.await_end();
    assert_eq!(running.access_log(), "");
}
