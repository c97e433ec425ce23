//! Processes that send and receive inside a namespace: this very test program, told by a variable which part to play.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::harness::Namespace;

const PART: &str = "POSTERN_TEST_PART";

/// Who a process is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Who {
    pub(crate) user: u32,
    pub(crate) group: u32,
}

/// One packet to send.
#[derive(Clone, Debug)]
pub(crate) struct Send {
    pub(crate) who: Who,
    pub(crate) udp: bool,
    pub(crate) source: Option<IpAddr>,
    pub(crate) destination: SocketAddr,
}

impl Namespace {
    /// Sends the first packet of a connection, whether anybody listens or not.
    pub(crate) fn send(&self, send: &Send) {
        let Send { who, udp, source, destination } = send;
        let source = source.map_or("-".to_owned(), |address| address.to_string());
        let part = format!("send {} {} {udp} {source} {destination}", who.user, who.group);
        assert!(part_command(self, &part).status().unwrap().success(), "{part}");
    }

    /// Starts a part that goes on until it is dropped, once it says that it is ready.
    pub(crate) fn start(&self, part: &str) -> Running {
        let mut child = part_command(self, part).stderr(Stdio::piped()).spawn().unwrap();
        let mut ready = [0];
        child.stderr.as_mut().unwrap().read_exact(&mut ready).unwrap();
        Running { child }
    }

    /// Runs a part to its end and returns what it said.
    pub(crate) fn ask(&self, part: &str) -> String {
        let output = part_command(self, part).stderr(Stdio::piped()).output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    }
}

/// A part being played; stopped when dropped.
pub(crate) struct Running {
    child: Child,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn part_command(namespace: &Namespace, part: &str) -> Command {
    let program = std::env::current_exe().unwrap();
    let arguments = ["--exact", "roles::part", "--nocapture", "--test-threads=1"];
    let mut command = namespace.command(program.to_str().unwrap(), &arguments);
    command.env(PART, part).stdout(Stdio::null());
    command
}

/// Plays the part named by the variable; as a test of its own it does nothing.
#[test]
fn part() {
    let Ok(part) = std::env::var(PART) else { return };
    let words: Vec<_> = part.split(' ').collect();
    match words.as_slice() {
        ["send", user, group, udp, source, destination] => {
            become_user(user, group);
            send(*udp == "true", source.parse().ok(), destination.parse().unwrap());
        }
        ["listen", user, address] => {
            become_user(user, user);
            application(address.parse().unwrap());
        }
        ["application", address] => application(address.parse().unwrap()),
        ["visit", address] => visit(address.parse().unwrap()),
        ["transparent-listener", address] => transparent_listener(address.parse().unwrap()),
        ["transparent-proxy", address] => transparent_proxy(address.parse().unwrap()),
        ["answer", user, address, text] => {
            become_user(user, user);
            answer(address.parse().unwrap(), text);
        }
        ["announce", address, name] => announce(address.parse().unwrap(), name),
        ["reach", user, group, targets @ ..] => {
            become_user(user, group);
            for target in targets {
                say(&format!("{user} {group} {target}: {}\n", reach(target)));
            }
        }
        ["query", user, port, destination] => {
            become_user(user, user);
            say(&query(port.parse().unwrap(), destination.parse().unwrap()));
        }
        ["get", address, path] => say(&crate::watch::get(address, path)),
        ["ask", address] => say(&ask(address.parse().unwrap())),
        other => panic!("unknown part {other:?}"),
    }
}

/// Ownership of a socket is what its process was when it made the socket.
fn become_user(user: &str, group: &str) {
    setgroups(&[]).unwrap();
    setgid(Gid::from_raw(group.parse().unwrap())).unwrap();
    setuid(Uid::from_raw(user.parse().unwrap())).unwrap();
}

fn send(udp: bool, source: Option<IpAddr>, destination: SocketAddr) {
    let (kind, protocol) = if udp { (Type::DGRAM, Protocol::UDP) } else { (Type::STREAM, Protocol::TCP) };
    let socket = Socket::new(Domain::for_address(destination), kind, Some(protocol)).unwrap();
    if let Some(source) = source {
        socket.bind(&SockAddr::from(SocketAddr::new(source, 0))).unwrap();
    }
    // Shorter than the second after which the kernel would send the packet again; refusals are as good as answers.
    let connected = socket.connect_timeout(&destination.into(), Duration::from_millis(300));
    if udp && connected.is_ok() {
        let _ = socket.send(b"?");
    }
}

fn say(text: &str) {
    std::io::stderr().write_all(text.as_bytes()).unwrap();
}

/// Answers every connection with the address it came from.
fn application(address: SocketAddr) {
    let listener = std::net::TcpListener::bind(address).unwrap();
    say("!");
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let text = format!("application saw {}", stream.peer_addr().unwrap());
        let _ = stream.write_all(text.as_bytes());
    }
}

/// Connects again and again, and says something.
fn visit(address: SocketAddr) {
    say("!");
    loop {
        if let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
            let _ = stream.write_all(b"something that is no nonce at all");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Is there for TPROXY to find, and takes nothing.
fn transparent_listener(address: SocketAddr) {
    let listener = transparent(address);
    if address.is_ipv6() {
        listener.set_only_v6(true).unwrap();
    }
    listener.bind(&address.into()).unwrap();
    listener.listen(1024).unwrap();
    say("!");
    loop {
        std::thread::park();
    }
}

/// Takes what TPROXY gives, and goes on to the application with the client's address.
fn transparent_proxy(address: SocketAddr) {
    let listener = transparent(address);
    listener.bind(&address.into()).unwrap();
    listener.listen(8).unwrap();
    say("!");
    loop {
        let (client, peer) = listener.accept().unwrap();
        let original = client.local_addr().unwrap().as_socket().unwrap();
        let application = transparent(original);
        application.set_mark(1337).unwrap();
        // Its own port: with the client's, both connections would be one to connection tracking.
        application.bind(&SocketAddr::new(peer.as_socket().unwrap().ip(), 0).into()).unwrap();
        application.connect_timeout(&original.into(), Duration::from_secs(2)).unwrap();
        let mut answer = String::new();
        TcpStream::from(application).read_to_string(&mut answer).unwrap();
        let text = format!("proxy was asked for {original}; {answer}");
        let _ = TcpStream::from(client).write_all(text.as_bytes());
    }
}

fn transparent(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP)).unwrap();
    socket.set_reuse_address(true).unwrap();
    match address {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true).unwrap(),
        SocketAddr::V6(_) => socket.set_ip_transparent_v6(true).unwrap(),
    }
    socket
}

/// Answers every datagram with `text`.
fn answer(address: SocketAddr, text: &str) {
    let socket = std::net::UdpSocket::bind(address).unwrap();
    say("!");
    loop {
        let (_, peer) = socket.recv_from(&mut [0; 64]).unwrap();
        let _ = socket.send_to(text.as_bytes(), peer);
    }
}

/// Tells everybody who connects its name, captured or not, and for which address it was taken.
fn announce(address: SocketAddr, name: &str) {
    let listener = transparent(address);
    listener.bind(&address.into()).unwrap();
    listener.listen(64).unwrap();
    say("!");
    loop {
        let (client, _) = listener.accept().unwrap();
        let taken_for = client.local_addr().unwrap().as_socket().unwrap();
        let _ = TcpStream::from(client).write_all(format!("{name} as {taken_for}").as_bytes());
    }
}

/// Who answers at `tcp/ADDRESS` or `udp/ADDRESS`; what went wrong, if nobody does.
fn reach(target: &str) -> String {
    let (protocol, address) = target.split_once('/').unwrap();
    let address: SocketAddr = address.parse().unwrap();
    let answer = if protocol == "udp" { answer_by_udp(address) } else { answer_by_tcp(address) };
    answer.unwrap_or_else(|error| format!("nobody ({:?})", error.kind()))
}

const PATIENCE: Duration = Duration::from_secs(10);

fn answer_by_tcp(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn answer_by_udp(address: SocketAddr) -> std::io::Result<String> {
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = std::net::UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(address)?;
    socket.send(b"?")?;
    let mut text = [0; 64];
    let length = socket.recv(&mut text)?;
    Ok(String::from_utf8_lossy(&text[..length]).into_owned())
}

/// Sends a datagram from this port, and returns the answer.
fn query(port: u16, destination: SocketAddr) -> String {
    let socket = std::net::UdpSocket::bind(("0.0.0.0", port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    socket.connect(destination).unwrap();
    socket.send(b"?").unwrap();
    let mut text = [0; 64];
    let length = socket.recv(&mut text).unwrap();
    String::from_utf8_lossy(&text[..length]).into_owned()
}

/// Connects, and returns what the other side says, behind the own address.
fn ask(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    let own = stream.local_addr().unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    format!("client is {own}; {answer}")
}
