//! Who sends a probe. The kernel goes by the user and group of the thread that makes the socket.

use std::fmt;

use nix::unistd::{Gid, Uid, getegid, geteuid, setfsgid, setfsuid};
use rules::settings::{Owner, OwnerGroups, Settings};

/// A user and a group.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Identity {
    /// The user.
    pub(crate) user: u32,
    /// The group.
    pub(crate) group: u32,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "uid {} gid {}", self.user, self.group)
    }
}

impl Identity {
    fn current() -> Self {
        Self { user: geteuid().as_raw(), group: getegid().as_raw() }
    }

    /// Makes the calling thread create its sockets as this user and group. Says whether the kernel allowed it.
    ///
    /// Only the identity for file access changes, which is what a socket is marked with, and only for this thread.
    pub(crate) fn take_on(self) -> bool {
        let (user, group) = (Uid::from_raw(self.user), Gid::from_raw(self.group));
        setfsgid(group);
        setfsuid(user);
        // The calls do not fail; asking again tells what holds.
        setfsgid(group) == group && setfsuid(user) == user
    }

    fn can_be_taken_on(self) -> bool {
        std::thread::spawn(move || self.take_on()).join().unwrap_or(false)
    }
}

/// Who plays the proxy and the application.
#[derive(Debug)]
pub(crate) struct Roles {
    /// The proxy, if this process may be it.
    pub(crate) proxy: Option<Identity>,
    /// The application, if this process may be it.
    pub(crate) application: Option<Identity>,
}

impl Roles {
    /// Both roles if this process may change its identity, otherwise the one it has.
    pub(crate) fn find(settings: &Settings) -> Self {
        let (proxy, application) = (proxy(settings), application(settings));
        if let Some(proxy) = proxy.filter(|proxy| proxy.can_be_taken_on() && application.can_be_taken_on()) {
            return Self { proxy: Some(proxy), application: Some(application) };
        }
        let current = Identity::current();
        if owns(&settings.proxy_uids, current.user) {
            return Self { proxy: Some(current), application: None };
        }
        Self { proxy: None, application: Some(current) }
    }

    /// What goes unproved, and who could prove it.
    pub(crate) fn missing(&self) -> Vec<String> {
        let half = |who: &str| {
            format!("the probes of the {who}: run as its user, or with the capabilities SETUID and SETGID")
        };
        let mut missing = Vec::new();
        missing.extend(self.proxy.is_none().then(|| half("proxy")));
        missing.extend(self.application.is_none().then(|| half("application")));
        missing
    }
}

fn proxy(settings: &Settings) -> Option<Identity> {
    let number = |owners: &[Owner]| match owners.first() {
        Some(Owner::Id(id)) => Some(*id),
        _ => None,
    };
    Some(Identity { user: number(&settings.proxy_uids)?, group: number(&settings.proxy_gids)? })
}

/// Somebody who is not the proxy; of a listed group, if groups are listed.
fn application(settings: &Settings) -> Identity {
    let free = |owners: &[Owner]| (1000..).find(|id| !owns(owners, *id)).unwrap_or(u32::from(u16::MAX) - 1);
    let group = match &settings.owner_groups {
        OwnerGroups::Only(listed) => listed.iter().find_map(|owner| match owner {
            Owner::Id(id) => Some(*id),
            Owner::Name(_) => None,
        }),
        OwnerGroups::AllBut(_) => None,
    };
    Identity { user: free(&settings.proxy_uids), group: group.unwrap_or_else(|| free(&settings.proxy_gids)) }
}

fn owns(owners: &[Owner], id: u32) -> bool {
    owners.contains(&Owner::Id(id))
}
