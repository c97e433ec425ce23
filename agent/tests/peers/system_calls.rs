//! What a small request costs in system calls, counted by strace.

use std::{
    collections::HashMap,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
};

use super::{gateway::Gateway, h2spec::upstream};
use crate::support::skip;

const REQUESTS: usize = 1_000;

/// What moves bytes of a socket. Not `write`, by which workers also wake one another.
const RECEIVING: [&str; 4] = ["readv", "recvfrom", "recvmsg", "recvmmsg"];
const SENDING: [&str; 4] = ["sendto", "writev", "sendmsg", "sendmmsg"];

/// From the client, to the endpoint, from it, to the client; nothing is asked for in vain.
#[test]
fn a_small_request_is_two_receives_and_two_sends() {
    let gateway = Gateway::start(upstream(), "http");
    let mut client = TcpStream::connect(("127.0.0.1", gateway.port)).unwrap();
    client.set_nodelay(true).unwrap();
    (0..10).for_each(|_| ask(&mut client, "/warm"));
    let directory = tempfile::tempdir().unwrap();
    let trace = directory.path().join("trace");
    let Some(mut tracer) = attach(gateway.process_id(), &trace) else { return };
    ask(&mut client, "/begin");
    (0..REQUESTS).for_each(|_| ask(&mut client, "/counted"));
    ask(&mut client, "/end");
    // The tracer ends with what it traces.
    drop(gateway);
    tracer.wait().unwrap();
    let calls = calls_between(&fs::read_to_string(&trace).unwrap(), "GET /begin ", "GET /end ");
    let count = |names: &[&str]| names.iter().filter_map(|name| calls.get(*name)).sum::<usize>();
    // The first request counts too.
    let expected = 2 * (REQUESTS + 1);
    assert_eq!((count(&RECEIVING), count(&SENDING)), (expected, expected), "{calls:?}");
}

fn ask(client: &mut TcpStream, path: &str) {
    client.write_all(format!("GET {path} HTTP/1.1\r\nhost: a.com\r\n\r\n").as_bytes()).unwrap();
    let (mut answer, mut part) = (Vec::new(), [0; 1024]);
    while !answer.ends_with(b"\r\n\r\nhello") {
        let length = client.read(&mut part).unwrap();
        assert!(length > 0, "{}", String::from_utf8_lossy(&answer));
        answer.extend(&part[..length]);
    }
}

/// Has strace follow every thread of a process; `None` when there is no strace, or it may not.
fn attach(process: u32, trace: &Path) -> Option<Child> {
    let calls = [RECEIVING, SENDING].concat().join(",");
    let mut command = Command::new("strace");
    command.args(["-f", "-p", &process.to_string(), "-e", &format!("trace={calls}"), "-o"]).arg(trace);
    let Ok(mut tracer) = command.stderr(Stdio::piped()).spawn() else {
        skip("there is no strace here");
        return None;
    };
    let mut said = String::new();
    let mut speaking = BufReader::new(tracer.stderr.take()?);
    speaking.read_line(&mut said).unwrap();
    // It speaks again of every thread that begins, and would end if nobody could hear it.
    tracer.stderr = Some(speaking.into_inner());
    if !said.contains("attached") {
        tracer.wait().unwrap();
        eprintln!("skipped: strace cannot follow the process: {said}");
        return None;
    }
    Some(tracer)
}

/// How often a thread made each call, from the one that first shows one text to the one that first shows another.
fn calls_between(trace: &str, first: &str, last: &str) -> HashMap<String, usize> {
    let shows_first = trace.lines().find(|line| line.contains(first)).expect("the first request is seen");
    let thread = shows_first.split_whitespace().next().unwrap_or_default();
    let of_thread = trace.lines().filter(|line| line.split_whitespace().next() == Some(thread));
    let counted = of_thread.skip_while(|line| !line.contains(first)).take_while(|line| !line.contains(last));
    let mut calls = HashMap::new();
    for name in counted.filter_map(finished) {
        *calls.entry(name.to_owned()).or_default() += 1;
    }
    calls
}

/// The name of the call that is finished in a line: `7 name(…) = 1`, or `7 <... name resumed>…) = 1` when that of another
/// thread came between.
fn finished(line: &str) -> Option<&str> {
    let (_, call) = line.split_once(char::is_whitespace)?;
    let call = call.trim_start();
    match call.strip_prefix("<... ") {
        Some(resumed) => resumed.split_once(' ').map(|(name, _)| name),
        None => call.split_once('(').filter(|_| !call.ends_with("<unfinished ...>")).map(|(name, _)| name),
    }
}
