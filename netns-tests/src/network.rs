//! A throw-away network: a bridge in its own namespace, and pods joined to it.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use anyhow::{Context, Result};

use crate::namespace::{Namespace, WORK_ROOT, prefix};
use crate::pod::Pod;

/// A bridge that pods are plugged into, with a working directory; both go away on drop.
///
/// Pods get `10.77.0.N/24` and `fd77::N/64` from 2 on. Every other address leaves by the bridge and is answered
/// with "unreachable" at once, so a Service's virtual address works only if something in the pod takes it over.
#[derive(Debug)]
pub struct Network {
    bridge: Namespace,
    id: String,
    dir: WorkDir,
    next_host: AtomicU8,
}

impl Network {
    /// Builds an empty network under a name that no other test uses.
    ///
    /// # Errors
    /// When a namespace, the bridge or the working directory cannot be made.
    pub fn new() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let id = format!("{}{}", prefix(), COUNT.fetch_add(1, Ordering::Relaxed));
        let bridge = Namespace::create(format!("{id}-net"))?;
        bridge.ip(&["link", "add", BRIDGE, "type", "bridge"])?;
        bridge.ip(&["addr", "add", "10.77.0.1/24", "dev", BRIDGE])?;
        bridge.ip(&["link", "set", BRIDGE, "up"])?;
        bridge.sysctl("ipv4/ip_forward", "1");
        bridge.ip(&["route", "add", "unreachable", "default"])?;
        if has_ipv6() {
            add_ipv6(&bridge, BRIDGE, "fd77::1/64")?;
            bridge.sysctl("ipv6/conf/all/forwarding", "1");
            bridge.ip(&["-6", "route", "add", "unreachable", "default"])?;
        }
        Ok(Self { bridge, dir: WorkDir::create(&id)?, id, next_host: AtomicU8::new(2) })
    }

    /// Adds a pod: its own namespace, addresses of both families, a default route.
    ///
    /// # Errors
    /// When a namespace or a link cannot be made.
    pub fn pod(&self, name: &str) -> Result<Pod> {
        let host = self.next_host.fetch_add(1, Ordering::Relaxed);
        let namespace = Namespace::create(format!("{}-{name}", self.id))?;
        let port = format!("port{host}");
        self.bridge.ip(&[
            "link",
            "add",
            &port,
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            namespace.name(),
        ])?;
        self.bridge.ip(&["link", "set", &port, "master", BRIDGE, "up"])?;
        namespace.ip(&["addr", "add", &format!("10.77.0.{host}/24"), "dev", "eth0"])?;
        namespace.ip(&["link", "set", "eth0", "up"])?;
        namespace.ip(&["route", "add", "default", "via", "10.77.0.1"])?;
        if has_ipv6() {
            add_ipv6(&namespace, "eth0", &format!("fd77::{host:x}/64"))?;
            namespace.ip(&["-6", "route", "add", "default", "via", "fd77::1"])?;
        }
        let addresses =
            (Ipv4Addr::new(10, 77, 0, host), Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, host.into()));
        let dir = self.dir.0.join(name);
        fs::create_dir(&dir).with_context(|| format!("working directory {}", dir.display()))?;
        Ok(Pod::new(name, namespace, addresses, dir))
    }
}

/// Whether this kernel has IPv6 at all.
pub fn has_ipv6() -> bool {
    Path::new("/proc/net/if_inet6").exists()
}

const BRIDGE: &str = "br0";

fn add_ipv6(namespace: &Namespace, device: &str, address: &str) -> Result<()> {
    // Container runtimes often start with IPv6 switched off in every new namespace.
    for scope in ["all", "default", "lo", device] {
        namespace.sysctl(&format!("ipv6/conf/{scope}/disable_ipv6"), "0");
    }
    // Duplicate address detection would keep the address unusable for a second or two.
    namespace.ip(&["-6", "addr", "add", address, "dev", device, "nodad"])
}

#[derive(Debug)]
struct WorkDir(PathBuf);

impl WorkDir {
    fn create(id: &str) -> Result<Self> {
        let path = Path::new(WORK_ROOT).join(id);
        fs::create_dir(&path).with_context(|| format!("working directory {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(Self(path))
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
