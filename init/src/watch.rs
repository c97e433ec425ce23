//! What `watch` needs besides the rules: when to look, when to stop, and the figures it tells.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, Result};
use netlink_sys::{Socket, SocketAddr as NetlinkAddress};
use nix::poll::{PollFd, PollFlags};
use rules::flags::{Flag, FlagKind, RawSettings};
use rules::invalid::{Invalid, Problem};
use rules::settings::duration;

use crate::nftables::NETFILTER;
use crate::stop::{self, Stop};

pub(crate) mod metrics;

/// How to watch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Settings {
    /// How long to wait at most before looking again: legacy iptables tells nobody of its changes.
    pub(crate) interval: Duration,
    /// Where the figures can be asked for.
    pub(crate) metrics: Option<SocketAddr>,
}

/// The flags of `watch`.
pub(crate) const FLAGS: &[&Flag] = &[&INTERVAL, &METRICS];

static INTERVAL: Flag = Flag {
    long: "interval",
    short: None,
    variables: &[],
    kind: FlagKind::Value("DURATION"),
    default: "30s",
    help: "look again after this time, even if the kernel has told of no change",
};
static METRICS: Flag = Flag {
    long: "metrics-address",
    short: None,
    variables: &[],
    kind: FlagKind::Value("ADDR:PORT"),
    default: "",
    help: "serve the figures here at /metrics, in the text format of Prometheus",
};

impl Settings {
    /// Reads both flags, every problem at once.
    pub(crate) fn read(raw: &RawSettings, problems: &mut Vec<Problem>) -> Self {
        let mut refuse = |flag: &Flag, invalid: Invalid| {
            if let Some(given) = raw.of(flag) {
                problems.push(Problem::Invalid { origin: given.origin.clone(), invalid });
            }
        };
        let interval = match raw.of(&INTERVAL).map(|given| duration(&given.text)) {
            Some(Ok(interval)) => interval,
            Some(Err(invalid)) => {
                refuse(&INTERVAL, invalid);
                USUAL_INTERVAL
            }
            None => USUAL_INTERVAL,
        };
        let metrics = raw.of(&METRICS).and_then(|given| {
            let expected = "an address and a port, for example 127.0.0.1:15099";
            let invalid = |_| refuse(&METRICS, Invalid::new("address", &given.text, expected));
            given.text.parse().map_err(invalid).ok()
        });
        Self { interval, metrics }
    }
}

const USUAL_INTERVAL: Duration = Duration::from_secs(30);

/// Waits for the next reason to look.
pub(crate) struct ChangeWatch {
    stop: Stop,
    changes: Option<Socket>,
}

/// Why the waiting ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reason {
    /// The time is over, or the kernel told of a change.
    Look,
    /// Somebody asks us to stop.
    Stop,
}

/// Group of netlink messages about changes of nftables (linux/netfilter/nfnetlink.h, NFNLGRP_NFTABLES).
const NFTABLES_GROUP: u32 = 7;

impl ChangeWatch {
    /// Listens from now on. SIGTERM and SIGINT no longer end the process by themselves.
    pub(crate) fn open() -> Result<Self> {
        let stop = Stop::listen()?;
        let changes = subscribe();
        if let Err(error) = &changes {
            tracing::warn!(
                "the kernel does not tell of changes, so looking goes by the clock alone: {error:#}"
            );
        }
        Ok(Self { stop, changes: changes.ok() })
    }

    /// Waits until something happened, but no longer than `most`.
    pub(crate) fn wait(&self, most: Duration) -> Result<Reason> {
        let mut descriptors = vec![self.stop.descriptor()];
        descriptors
            .extend(self.changes.as_ref().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)));
        stop::wait(&mut descriptors, most)?;
        self.forget_changes();
        self.reason()
    }

    /// Lets this much time pass, whatever changes meanwhile.
    pub(crate) fn pause(&self, time: Duration) -> Result<Reason> {
        stop::wait(&mut [self.stop.descriptor()], time)?;
        self.reason()
    }

    fn reason(&self) -> Result<Reason> {
        Ok(if self.stop.is_asked()? { Reason::Stop } else { Reason::Look })
    }

    /// Requests to stop, for whoever has to wait while looking.
    pub(crate) fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Drops what the kernel has told so far; how much it was does not matter.
    ///
    /// Only ever before looking: what happens while we look has to wake us again, be it our own repair.
    fn forget_changes(&self) {
        let Some(socket) = &self.changes else { return };
        let mut buffer = Vec::with_capacity(64 * 1024);
        // A full queue is reported as an error once, and is as good as a message.
        while socket.recv(&mut buffer, 0).is_ok_and(|length| length > 0) {
            buffer.clear();
        }
    }
}

fn subscribe() -> Result<Socket> {
    let mut socket = Socket::new(NETFILTER).context("cannot open a netlink socket")?;
    socket.bind(&NetlinkAddress::new(0, 0)).context("cannot bind a netlink socket")?;
    socket.set_non_blocking(true).context("cannot make a netlink socket non-blocking")?;
    socket.add_membership(NFTABLES_GROUP).context("cannot subscribe to changes of nftables")?;
    Ok(socket)
}
