//! The access log on the agent's standard output.

use std::io::{Read, Write};

use super::{gateway, shop};
use crate::support::{PATIENCE, printed};

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
