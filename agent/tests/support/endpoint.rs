//! Servers in this process that the program connects to.

use std::{
    net::{IpAddr, SocketAddr, TcpListener},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use socket2::{Domain, Socket, Type};

use super::{Client, Message, PATIENCE, answer, eventually, ok};

/// Any port of loopback.
const ANYWHERE: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

/// A server that lasts as long as the process.
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    asked: Arc<Mutex<Vec<Message>>>,
    gate: Arc<Gate>,
}

/// Lets requests up to a number pass.
#[derive(Default)]
struct Gate {
    open_up_to: Mutex<usize>,
    opened: Condvar,
}

impl Gate {
    fn pass(&self, number: usize) {
        let closed = |open_up_to: &mut usize| *open_up_to < number;
        drop(self.opened.wait_timeout_while(self.open_up_to.lock().unwrap(), PATIENCE, closed).unwrap());
    }
}

impl Endpoint {
    /// Runs `behave` on every connection.
    pub(crate) fn start(behave: impl Fn(Client) + Send + Sync + 'static) -> Self {
        Self::at(ANYWHERE.into(), behave)
    }

    /// The same at an address.
    pub(crate) fn at(address: SocketAddr, behave: impl Fn(Client) + Send + Sync + 'static) -> Self {
        Self::listening(TcpListener::bind(address).unwrap(), behave)
    }

    /// The same with connections that hold little of what the endpoint does not read.
    pub(crate) fn narrow(behave: impl Fn(Client) + Send + Sync + 'static) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        // What the sender's side holds goes by the size of its segments.
        socket.set_tcp_mss(536).unwrap();
        socket.bind(&SocketAddr::from(ANYWHERE).into()).unwrap();
        socket.listen(128).unwrap();
        Self::listening(socket.into(), behave)
    }

    /// The same with a listener.
    pub(crate) fn listening(listener: TcpListener, behave: impl Fn(Client) + Send + Sync + 'static) -> Self {
        let address = listener.local_addr().unwrap();
        let (connections, behave) = (Arc::new(AtomicUsize::new(0)), Arc::new(behave));
        let counted = Arc::clone(&connections);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                counted.fetch_add(1, Ordering::SeqCst);
                let behave = Arc::clone(&behave);
                thread::spawn(move || behave(Client::of(stream)));
            }
        });
        Self { address, connections, asked: Arc::default(), gate: Arc::default() }
    }

    /// Answers with what `answer` says, which is given each request and its number from 1; nothing closes.
    pub(crate) fn answering(answer: impl Fn(&Message, usize) -> String + Send + Sync + 'static) -> Self {
        Self::answering_at(ANYWHERE.into(), answer)
    }

    /// The same at an address.
    pub(crate) fn answering_at(
        address: SocketAddr,
        answer: impl Fn(&Message, usize) -> String + Send + Sync + 'static,
    ) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&asked);
        let endpoint = Self::at(address, move |mut client| {
            while let Ok(request) = client.message() {
                let number = {
                    let mut asked = kept.lock().unwrap();
                    asked.push(request.clone());
                    asked.len()
                };
                let answer = answer(&request, number);
                if answer.is_empty() {
                    return;
                }
                client.send(answer);
            }
        });
        Self { asked, ..endpoint }
    }

    /// Answers every request with a status and its name, once it is [released](Self::release).
    pub(crate) fn held(name: &'static str, status: u16) -> Self {
        let gate = Arc::new(Gate::default());
        let passed = Arc::clone(&gate);
        let endpoint = Self::answering(move |_, number| {
            passed.pass(number);
            answer(status, name)
        });
        Self { gate, ..endpoint }
    }

    /// Lets the first so many requests be answered, those that are to come too.
    pub(crate) fn release(&self, requests: usize) {
        *self.gate.open_up_to.lock().unwrap() = requests;
        self.gate.opened.notify_all();
    }

    /// Answers every request with a status and its name.
    pub(crate) fn failing(name: &'static str, status: u16) -> Self {
        Self::answering(move |_, _| answer(status, name))
    }

    /// Answers every request with 200 and its name.
    pub(crate) fn named(name: &'static str) -> Self {
        Self::answering(move |_, _| ok(name))
    }

    /// Answers each line with its name and a line.
    pub(crate) fn opaque(name: &'static str) -> Self {
        Self::start(move |mut client| {
            while !client.line().is_empty() {
                client.send(format!("{name}\n"));
            }
        })
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// How many connections have come so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Every request so far.
    pub(crate) fn asked(&self) -> Vec<Message> {
        self.asked.lock().unwrap().clone()
    }

    /// How many requests have come so far.
    pub(crate) fn requests(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    /// The request that came last.
    pub(crate) fn last(&self) -> Message {
        self.asked.lock().unwrap().last().unwrap().clone()
    }

    /// Waits until so many requests have come.
    pub(crate) fn await_asked(&self, count: usize) -> Vec<Message> {
        eventually(&format!("{count} requests"), || self.requests() >= count);
        self.asked()
    }
}

/// An address of loopback that is the `n`th of many, as that of a pod, and a port.
pub(crate) fn pod(n: u8, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::from([127, 0, 1, n]), port)
}
