//! Capabilities: named before anything fails for lack of them, dropped once they are no longer needed.

use std::collections::HashSet;

use anyhow::{Context, Result, bail};
use caps::{CapSet, Capability, CapsHashSet};
use nix::errno::Errno;
use socket2::{Domain, Socket, Type};

/// What changing rules takes; loading a module is left to a host that grants it.
const NEEDED: [Capability; 3] =
    [Capability::CAP_NET_ADMIN, Capability::CAP_NET_RAW, Capability::CAP_SYS_MODULE];

/// Checks that the kernel's rules may be changed.
pub(crate) fn require_net_admin() -> Result<()> {
    let status = std::fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    if effective(&status).is_some_and(|set| set & (1 << Capability::CAP_NET_ADMIN.index()) != 0) {
        return require_own_namespace();
    }
    bail!(
        "missing capability NET_ADMIN: add NET_ADMIN and NET_RAW to securityContext.capabilities.add of the init \
         container (and run it as user 0), or let Istio's CNI plugin install the rules"
    )
}

/// Checks that the capability counts for the network namespace, which it does not where that belongs to another user
/// namespace, as in a rootless container on the host's network. Marking a socket, with no mark, takes just that.
fn require_own_namespace() -> Result<()> {
    let Ok(socket) = Socket::new(Domain::IPV4, Type::DGRAM, None) else { return Ok(()) };
    match socket.set_mark(0) {
        Err(error) if error.raw_os_error() == Some(Errno::EPERM as i32) => bail!(
            "capability NET_ADMIN does not count here: the network namespace belongs to another user namespace; run as \
             root of that one, or in a pod whose network is its own (hostNetwork: false)"
        ),
        _ => Ok(()),
    }
}

/// What it takes to send a probe as somebody else.
const OTHER_IDENTITIES: [Capability; 2] = [Capability::CAP_SETUID, Capability::CAP_SETGID];

/// Keeps only what changing rules takes, for this process and those it starts; and what probing takes, if that follows.
pub(crate) fn keep_needed(for_probes: bool) {
    let mut needed: CapsHashSet = NEEDED.into_iter().collect();
    if for_probes {
        needed.extend(OTHER_IDENTITIES);
    }
    if let Err(error) = keep(&needed) {
        tracing::debug!(%error, "capabilities beyond those needed were kept");
    }
}

/// Gives up everything: what follows only reads and prints.
pub(crate) fn drop_all() {
    if let Err(error) = keep(&HashSet::new()) {
        tracing::debug!(%error, "capabilities were kept");
    }
}

fn keep(needed: &CapsHashSet) -> Result<(), caps::errors::CapsError> {
    // The bounding set is what a program started by user 0 gets; it can only be cut with SETPCAP still effective.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        for capability in caps::read(None, CapSet::Bounding)?.difference(needed) {
            caps::drop(None, CapSet::Bounding, *capability)?;
        }
    }
    let permitted = caps::read(None, CapSet::Permitted)?;
    let kept: CapsHashSet = permitted.intersection(needed).copied().collect();
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)?;
    if !is_root() {
        // Programs started by another user get nothing but the ambient set.
        caps::set(None, CapSet::Inheritable, &kept)?;
        caps::set(None, CapSet::Ambient, &kept)?;
    }
    Ok(())
}

fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| effective_uid(&status) == Some(0))
}

/// The effective capabilities in the text of `/proc/self/status`.
fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// The effective user in the text of `/proc/self/status`.
fn effective_uid(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str =
        "Name:\tcat\nUid:\t1000\t1337\t1000\t1000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000001000\n";

    #[test]
    fn capabilities_and_user_are_read_from_the_status() {
        assert_eq!(effective(STATUS), Some(1 << 12));
        assert_eq!(effective_uid(STATUS), Some(1337));
        assert_eq!(effective("Name:\tcat\n"), None);
        assert_eq!(effective("CapEff:\tzz\n"), None);
    }
}
