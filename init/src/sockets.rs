//! Who listens in this network namespace: an application that runs as the proxy's user is never intercepted.

use std::collections::BTreeSet;

use rules::settings::{Owner, Settings};

/// A listening TCP socket.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Listener {
    port: u16,
    user: u32,
}

/// Istio keeps its own ports, the proxy's and the agent's, in this range.
const PORTS_OF_THE_PROXY: std::ops::Range<u16> = 15000..15100;

/// Warns of listeners that belong to the proxy's user and yet look like an application's.
pub(crate) fn warn_of_shared_user(settings: &Settings) {
    for Listener { port, user } in suspects(settings, &listeners()) {
        tracing::warn!(
            port,
            user,
            "a process of the proxy's user listens here: if it is the application, what it sends is not intercepted; \
             run it as another user"
        );
    }
}

fn suspects(settings: &Settings, listeners: &BTreeSet<Listener>) -> Vec<Listener> {
    let is_proxy = |user| settings.proxy_uids.contains(&Owner::Id(user));
    let unusual = |listener: &&Listener| {
        let Listener { port, user } = **listener;
        // In TPROXY mode the proxy runs as user 0, like half of the world.
        user != 0 && is_proxy(user) && !PORTS_OF_THE_PROXY.contains(&port)
    };
    listeners.iter().filter(unusual).copied().collect()
}

fn listeners() -> BTreeSet<Listener> {
    let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
    let texts = tables.iter().filter_map(|path| std::fs::read_to_string(path).ok());
    texts.flat_map(|text| text.lines().filter_map(listener).collect::<Vec<_>>()).collect()
}

/// One line of `/proc/net/tcp`: number, local address, remote address, state, queues, timers, retransmits, user, …
fn listener(line: &str) -> Option<Listener> {
    const LISTEN: &str = "0A";
    let fields: Vec<_> = line.split_whitespace().take(8).collect();
    let [_, local, _, LISTEN, _, _, _, user] = fields.as_slice() else { return None };
    let (_, port) = local.rsplit_once(':')?;
    Some(Listener { port: u16::from_str_radix(port, 16).ok()?, user: user.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rules::flags::{FLAGS, RawSettings};

    const TABLE: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1337        0 1 1 0 100 0 0 10 0
   1: 0100007F:3A99 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1337        0 1 1 0 100 0 0 10 0
   2: 0100007F:1F91 0100007F:0050 01 00000000:00000000 00:00000000 00000000  1337        0 1 1 0 100 0 0 10 0
   3: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 1 1 0 100 0 0 10 0
   4: broken
";

    #[test]
    fn only_listeners_of_the_proxys_user_on_other_ports_are_suspects() {
        let (raw, _) = RawSettings::scan(&["-u".to_owned(), "1337".to_owned()], &Default::default(), FLAGS);
        let (settings, _) = Settings::read(&raw).unwrap();
        let listeners = TABLE.lines().filter_map(listener).collect();
        assert_eq!(suspects(&settings, &listeners), [Listener { port: 8080, user: 1337 }]);
    }
}
