//! A pod: a network namespace with addresses, in which applications, the init and the agent run.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::namespace::Namespace;
use crate::program::program;

/// What Istio's injection passes to the init container of a pod without annotations.
pub const ISTIO_FLAGS: &[&str] = &[
    "-p",
    "15001",
    "-z",
    "15006",
    "-u",
    "1337",
    "-m",
    "REDIRECT",
    "-i",
    "*",
    "-x",
    "",
    "-b",
    "*",
    "-d",
    "15090,15021,15020",
    "--log_output_level=default:info",
];

/// A namespace joined to a [`Network`](crate::Network), removed on drop with every process in it.
#[derive(Debug)]
pub struct Pod {
    name: String,
    namespace: Namespace,
    v4: Ipv4Addr,
    v6: Ipv6Addr,
    dir: PathBuf,
}

impl Pod {
    pub(crate) fn new(
        name: &str,
        namespace: Namespace,
        (v4, v6): (Ipv4Addr, Ipv6Addr),
        dir: PathBuf,
    ) -> Self {
        Self { name: name.into(), namespace, v4, v6, dir }
    }

    /// The name given at creation.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its IPv4 address.
    pub fn ip(&self) -> IpAddr {
        self.v4.into()
    }

    /// Its IPv6 address; usable only where the kernel has IPv6.
    pub fn ip6(&self) -> IpAddr {
        self.v6.into()
    }

    /// Its IPv4 address with `port`.
    pub fn at(&self, port: u16) -> SocketAddr {
        (self.v4, port).into()
    }

    /// Its IPv6 address with `port`.
    pub fn at6(&self, port: u16) -> SocketAddr {
        (self.v6, port).into()
    }

    /// Its namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its working directory, removed with the network.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Runs `postern-init` with `flags` as root in the pod and returns what it printed.
    ///
    /// # Errors
    /// When it ends with another status than 0; the message has both of its outputs.
    pub fn init(&self, flags: &[&str]) -> Result<String> {
        let mut command = Command::new(program("postern-init")?);
        command.args(flags);
        self.output(&mut command)
    }

    /// Installs the interception rules that an injected pod without annotations has.
    ///
    /// # Errors
    /// As [`Pod::init`].
    pub fn intercept(&self) -> Result<()> {
        self.init(&[&["istio-iptables"], ISTIO_FLAGS].concat()).map(drop)
    }

    /// Installs the rules of a pod whose annotation says `sidecar.istio.io/interceptionMode: TPROXY`.
    ///
    /// # Errors
    /// As [`Pod::init`].
    pub fn intercept_by_tproxy(&self) -> Result<()> {
        self.intercept_by_tproxy_with(&[])
    }

    /// The same with `more` flags behind.
    ///
    /// # Errors
    /// As [`Pod::init`].
    pub fn intercept_by_tproxy_with(&self, more: &[&str]) -> Result<()> {
        let flags = ISTIO_FLAGS.iter().map(|flag| if *flag == "REDIRECT" { "TPROXY" } else { flag });
        let flags: Vec<_> = ["istio-iptables"].into_iter().chain(flags).chain(more.iter().copied()).collect();
        self.init(&flags).map(drop)
    }

    /// Runs a program in the pod as root and returns its stdout.
    ///
    /// # Errors
    /// When it cannot start or fails; the message has what it wrote.
    pub fn run(&self, argv: &[&str]) -> Result<String> {
        let (program, args) = argv.split_first().context("an empty command")?;
        self.output(Command::new(program).args(args))
    }

    /// Runs a program in the pod as another user and group, without supplementary groups.
    ///
    /// # Errors
    /// As [`Pod::run`].
    pub fn run_as(&self, uid: u32, gid: u32, argv: &[&str]) -> Result<String> {
        let (program, args) = argv.split_first().context("an empty command")?;
        self.output(Command::new(program).args(args).uid(uid).gid(gid))
    }

    fn output(&self, command: &mut Command) -> Result<String> {
        let out = self.namespace.within(|| command.output());
        let name = command.get_program().display().to_string();
        let out = out.with_context(|| format!("cannot start {name} in {}", self.name))?;
        let (stdout, stderr) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        if !out.status.success() {
            bail!("{name} in {}: {}\n{stdout}{stderr}", self.name, out.status);
        }
        Ok(stdout.into_owned())
    }
}
