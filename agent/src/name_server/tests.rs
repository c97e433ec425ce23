use std::{
    io::{Read, Write},
    net::{IpAddr, TcpListener as StdListener, TcpStream as StdStream, UdpSocket as StdSocket},
    thread,
    time::SystemTime,
};

use hickory_resolver::proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RData, RecordType},
};
use snapshot::{Draft, NameTable};

use super::*;
use crate::status::Published;

/// A server on a free port that knows these services and asks this name server about others.
fn server(services: &[(&str, &[&str])], upstream: SocketAddr) -> SocketAddr {
    let mut names = NameTable::default();
    for (name, addresses) in services {
        let addresses: Vec<IpAddr> = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        names.add([name.parse().unwrap()], &addresses);
    }
    let status = Arc::new(Status::default());
    let snapshot = Arc::new(Draft { names, ..Draft::default() }.finish());
    status.publish(Published { version: 1, at: SystemTime::now(), snapshot, findings: Vec::new() });
    let resolv_conf = "nameserver 192.0.2.1\nsearch prod.svc.cluster.local svc.cluster.local\n";
    let servers = Servers::read(resolv_conf, Some(&upstream.to_string())).unwrap();
    let port = StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    NameServer::open(port, servers, status).unwrap().start().unwrap();
    (Ipv4Addr::LOCALHOST, port).into()
}

/// A port that nobody listens on.
fn nobody() -> SocketAddr {
    StdSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn question(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message.to_vec().unwrap()
}

fn by_datagram(server: SocketAddr, question: &[u8]) -> Message {
    let socket = StdSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket.send_to(question, server).unwrap();
    let mut answer = [0; 4096];
    let (length, from) = socket.recv_from(&mut answer).unwrap();
    assert_eq!(from, server);
    Message::from_vec(&answer[..length]).unwrap()
}

fn by_connection(server: SocketAddr, question: &[u8]) -> Message {
    let mut stream = StdStream::connect(server).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(&u16::try_from(question.len()).unwrap().to_be_bytes()).unwrap();
    stream.write_all(question).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).unwrap();
    Message::from_vec(&answer).unwrap()
}

/// The records of an answer: name, time to live, value.
fn records(answer: &Message) -> Vec<String> {
    let text = |data: &RData| match data {
        RData::A(ip) => ip.to_string(),
        RData::AAAA(ip) => ip.to_string(),
        RData::CNAME(name) => name.to_string(),
        other => panic!("{other:?}"),
    };
    answer
        .answers
        .iter()
        .map(|record| format!("{} {} {}", record.name, record.ttl, text(&record.data)))
        .collect()
}

#[test]
fn names_of_services_are_answered_by_family() {
    let server =
        server(&[("web.prod.svc.cluster.local", &["10.96.0.7"]), ("*.a.com", &["fd00::1"])], nobody());
    for ask in [by_datagram, by_connection] {
        let asked = |name: &str, kind| {
            let answer = ask(server, &question(name, kind));
            assert_eq!((answer.metadata.id, answer.metadata.response_code), (4711, ResponseCode::NoError));
            records(&answer)
        };
        let web = "Web.prod.svc.cluster.local.";
        assert_eq!(asked(web, RecordType::A), [format!("{web} 30 10.96.0.7")]);
        assert!(asked(web, RecordType::AAAA).is_empty(), "no data, but no error: the name exists");
        assert_eq!(asked("x.a.com.", RecordType::AAAA), ["x.a.com. 30 fd00::1"]);
    }
}

#[test]
fn the_first_name_of_a_search_is_answered_with_the_services_own() {
    let server = server(&[("a.com", &["10.0.0.1"])], nobody());
    let answer = by_datagram(server, &question("a.com.prod.svc.cluster.local.", RecordType::A));
    assert_eq!(records(&answer), ["a.com.prod.svc.cluster.local. 30 a.com.", "a.com. 30 10.0.0.1"]);
    // The second is not ours to answer.
    let answer = by_datagram(server, &question("a.com.svc.cluster.local.", RecordType::A));
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
}

/// Answers every question with what it was asked, after messages that answer something else or nothing.
fn echoing() -> SocketAddr {
    let (udp, tcp) = loop {
        let udp = StdSocket::bind("127.0.0.1:0").unwrap();
        if let Ok(tcp) = StdListener::bind(udp.local_addr().unwrap()) {
            break (udp, tcp);
        }
    };
    let address = udp.local_addr().unwrap();
    let answer = |asked: &[u8]| {
        let mut answer = Message::from_vec(asked).unwrap().into_response();
        answer.metadata.response_code = ResponseCode::NXDomain;
        answer.to_vec().unwrap()
    };
    thread::spawn(move || {
        let mut asked = [0; 4096];
        while let Ok((length, from)) = udp.recv_from(&mut asked) {
            let asked = &asked[..length];
            let other = question("forged.example.com.", RecordType::A);
            for message in [&[0; 12][..], &asked[..2], asked, &answer(&other), &answer(asked)[..11], b""] {
                udp.send_to(message, from).unwrap();
            }
            udp.send_to(&answer(asked), from).unwrap();
        }
    });
    thread::spawn(move || {
        for mut stream in tcp.incoming().flatten() {
            let mut asked = vec![0; 2];
            stream.read_exact(&mut asked).unwrap();
            let mut asked = vec![0; usize::from(u16::from_be_bytes([asked[0], asked[1]]))];
            stream.read_exact(&mut asked).unwrap();
            let answer = answer(&asked);
            stream.write_all(&u16::try_from(answer.len()).unwrap().to_be_bytes()).unwrap();
            stream.write_all(&answer).unwrap();
        }
    });
    address
}

#[test]
fn other_names_and_other_questions_are_passed_on() {
    let server = server(&[("web", &["10.0.0.1"])], echoing());
    for ask in [by_datagram, by_connection] {
        for (name, kind) in [("elsewhere.example.com.", RecordType::A), ("web.", RecordType::TXT)] {
            let answer = ask(server, &question(name, kind));
            assert_eq!(
                (answer.metadata.id, answer.metadata.response_code),
                (4711, ResponseCode::NXDomain),
                "{name}"
            );
            assert_eq!(answer.queries[0].name.to_ascii(), name);
        }
    }
}

#[test]
fn nobody_to_ask_is_a_failure_and_what_is_no_question_is_dropped() {
    let server = server(&[("web", &["10.0.0.1"])], nobody());
    let socket = StdSocket::bind("127.0.0.1:0").unwrap();
    for junk in [&b""[..], b"x", &[0xff; 600]] {
        socket.send_to(junk, server).unwrap();
    }
    let answer = by_datagram(server, &question("elsewhere.example.com.", RecordType::A));
    assert_eq!((answer.metadata.id, answer.metadata.response_code), (4711, ResponseCode::ServFail));
    assert_eq!(records(&by_datagram(server, &question("web.", RecordType::A))), ["web. 30 10.0.0.1"]);
}

#[test]
fn an_answer_holds_as_many_addresses_as_there_is_room_for() {
    let many: Vec<String> = (0..5000).map(|n| format!("10.1.{}.{}", n / 250, n % 250)).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let six: Vec<String> = (1..=200).map(|n| format!("fd00::{n:x}")).collect();
    let six: Vec<&str> = six.iter().map(String::as_str).collect();
    let server = server(&[("web", &many[..200]), ("web6", &six), ("huge", &many)], nobody());
    // 512 bytes are 12 of the head, 9 or 10 of the question, and records of 16 or 28.
    for (name, kind, held) in [("web.", RecordType::A, 30), ("web6.", RecordType::AAAA, 17)] {
        let asked = question(name, kind);
        let cut = by_datagram(server, &asked);
        assert!(cut.metadata.truncation, "{name}");
        assert_eq!(cut.answers.len(), held, "{name}");
        let whole = by_connection(server, &asked);
        assert!(!whole.metadata.truncation, "{name}");
        assert_eq!(whole.answers.len(), 200, "{name}");
    }
    let most = by_connection(server, &question("huge.", RecordType::A));
    assert!(most.metadata.truncation && most.answers.len() > 1000, "{}", most.answers.len());
}

#[test]
fn name_servers_are_those_of_the_pod_or_those_given() {
    let conf = "nameserver 10.96.0.10\nnameserver fd00::a\nsearch a.svc.cluster.local\n";
    let read = |instead| Servers::read(conf, instead).map(|servers| format!("{servers:?}"));
    let of_pod = read(None).unwrap();
    assert!(
        of_pod.contains("[10.96.0.10:53, [fd00::a]:53]") && of_pod.contains(".a.svc.cluster.local"),
        "{of_pod}"
    );
    assert!(read(Some("10.0.0.1,10.0.0.2:5353")).unwrap().contains("[10.0.0.1:53, 10.0.0.2:5353]"));
    let wrong = read(Some("dns.example.com")).unwrap_err();
    assert!(wrong.contains("`dns.example.com` in POSTERN_DNS_SERVERS"), "{wrong}");
}
