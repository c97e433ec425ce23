//! Native nftables, by netlink: our tables are read back, and changed in one transaction.

use std::os::fd::AsFd;

use anyhow::{Context, Result, anyhow, bail};
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::libc::MSG_DONTWAIT;
use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use rules::nft::decode::{self, Dump};
use rules::nft::encode::Change;
use rules::parse::Found;
use rules::ruleset::Family;

use crate::iptables::Unusable;
use message::{Answer, Request};

mod message;

/// What nftables holds in this namespace.
#[derive(Debug)]
pub(crate) struct NftablesState {
    /// Our tables, for IPv4 and IPv6.
    pub(crate) ours: [Found; 2],
    /// Whether there are tables of the kind that iptables makes for either family.
    pub(crate) tables_of_iptables: bool,
}

/// `linux/netlink.h`, NETLINK_NETFILTER.
pub(crate) const NETFILTER: isize = 12;

/// Reads our tables, with counters. Changes nothing.
pub(crate) fn look() -> Result<NftablesState, Unusable> {
    read(Connection::state)
}

/// Reads the tables that iptables has made, for IPv4 and IPv6, as far as they can be understood without it.
pub(crate) fn look_at_iptables() -> Result<[Found; 2], Unusable> {
    read(Connection::tables_of_iptables)
}

fn read<T>(read: impl Fn(&Connection) -> Result<T, Errno>) -> Result<T, Unusable> {
    let unusable = |reason: String| Unusable { program: "nftables".to_owned(), reason };
    let connection = Connection::open().map_err(|error| unusable(format!("{error:#}")))?;
    // What is changed while it is read has to be read again.
    const MOST_TRIES: usize = 10;
    let mut error = Errno::EINTR;
    for _ in 0..MOST_TRIES {
        match read(&connection) {
            Ok(found) => return Ok(found),
            Err(Errno::EINTR | Errno::ENOENT) => {}
            Err(other) => {
                error = other;
                break;
            }
        }
    }
    Err(unusable(format!("cannot be read: {}{}", error.desc(), remedy(error))))
}

/// Makes all changes at once, or none.
pub(crate) fn run(changes: &[Change]) -> Result<()> {
    for change in changes {
        tracing::debug!("nft {}", change.words);
    }
    Connection::open()?.run(changes)
}

struct Connection {
    socket: Socket,
}

impl Connection {
    fn open() -> Result<Self> {
        let mut socket = Socket::new(NETFILTER).context("cannot open a netlink socket for nftables")?;
        socket.bind(&SocketAddr::new(0, 0)).context("cannot bind a netlink socket")?;
        socket.connect(&SocketAddr::new(0, 0)).context("cannot reach the kernel by netlink")?;
        Ok(Self { socket })
    }

    fn state(&self) -> Result<NftablesState, Errno> {
        let tables = self.ask(&Request::tables())?;
        let tables_of_iptables = tables.iter().any(Answer::is_of_iptables);
        let mut dump = Dump::default();
        let ours =
            tables.into_iter().filter(|table| table.is_inet() && decode::table_of(&table.body).is_some());
        dump.tables = bodies(ours);
        if dump.tables.is_empty() {
            return Ok(NftablesState { ours: decode::decode(&dump), tables_of_iptables });
        }
        dump.chains = bodies(self.ask(&Request::chains())?);
        for table in dump.tables.iter().filter_map(|table| decode::table_of(table)) {
            dump.rules.extend(bodies(self.ask(&Request::rules(decode::rules_request(table)))?));
        }
        for (table, set) in decode::sets_of(&dump.rules) {
            dump.elements
                .extend(bodies(self.ask(&Request::elements(decode::elements_request(&table, &set)))?));
        }
        Ok(NftablesState { ours: decode::decode(&dump), tables_of_iptables })
    }

    fn tables_of_iptables(&self) -> Result<[Found; 2], Errno> {
        let lists = [Request::tables(), Request::all_chains(), Request::all_rules()];
        let [tables, chains, rules] = lists.map(|request| self.ask(&request));
        let (tables, chains, rules) = (tables?, chains?, rules?);
        Ok(Family::BOTH.map(|family| {
            let of_family =
                |answers: &[Answer]| bodies(answers.iter().filter(|answer| answer.is_for(family)).cloned());
            let (tables, chains, rules) = (of_family(&tables), of_family(&chains), of_family(&rules));
            decode::decode_iptables(&Dump { tables, chains, rules, elements: Vec::new() }, family)
        }))
    }

    /// Everything that the kernel answers to a request for a list.
    fn ask(&self, request: &Request) -> Result<Vec<Answer>, Errno> {
        self.socket.send(&request.bytes(), 0).map_err(|error| errno(&error))?;
        let mut answers = Vec::new();
        loop {
            let (datagram, _) = self.socket.recv_from_full().map_err(|error| errno(&error))?;
            for answer in Answer::read_all(&datagram) {
                let answer = answer?;
                if answer == Answer::DONE {
                    return Ok(answers);
                }
                answers.push(answer);
            }
        }
    }

    fn run(&self, changes: &[Change]) -> Result<()> {
        let batch = message::batch(changes);
        self.make_room(batch.len()).context("cannot make room for the transaction")?;
        self.socket.send(&batch, 0).with_context(|| {
            format!(
                "cannot send the transaction of {} bytes to nftables; sysctl net.core.wmem_max limits it",
                batch.len()
            )
        })?;
        let mut buffer = Vec::with_capacity(64 * 1024);
        // The kernel has answered all there is to answer when sending returns.
        while self.socket.recv(&mut buffer, MSG_DONTWAIT).is_ok_and(|length| length > 0) {
            if let Some((number, error)) = message::first_refusal(&buffer) {
                bail!(refusal(changes, number, error));
            }
            buffer.clear();
        }
        Ok(())
    }
}

impl Connection {
    /// The whole batch has to fit, twice over as the kernel counts. Going beyond the kernel's usual limit takes the
    /// capability of the machine itself, which the root of a user namespace lacks; what we write seldom needs it.
    fn make_room(&self, length: usize) -> nix::Result<()> {
        let (socket, wanted) = (self.socket.as_fd(), length * 2 + 4096);
        if getsockopt(&socket, sockopt::SndBuf)? >= wanted {
            return Ok(());
        }
        setsockopt(&socket, sockopt::SndBufForce, &wanted).or_else(|error| match error {
            Errno::EPERM => setsockopt(&socket, sockopt::SndBuf, &wanted),
            other => Err(other),
        })
    }
}

fn bodies(answers: impl IntoIterator<Item = Answer>) -> Vec<Vec<u8>> {
    answers.into_iter().map(|answer| answer.body).collect()
}

fn refusal(changes: &[Change], number: u32, error: Errno) -> anyhow::Error {
    let change = usize::try_from(number).ok().and_then(|number| changes.get(number.checked_sub(1)?));
    let words = change.map_or("the transaction", |change| change.words.as_str());
    anyhow!("nftables refused `{words}`: {}{}", error.desc(), remedy(error))
}

fn remedy(error: Errno) -> &'static str {
    match error {
        Errno::EPERM | Errno::EACCES => "; it needs the capability NET_ADMIN",
        Errno::ENOENT | Errno::EOPNOTSUPP | Errno::EPROTONOSUPPORT | Errno::EINVAL | Errno::EAFNOSUPPORT => {
            "; the kernel may lack a module: load it on the node with `modprobe -a nf_tables nft_chain_nat nft_redir \
             nft_ct nft_tproxy`"
        }
        _ => "",
    }
}

fn errno(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
