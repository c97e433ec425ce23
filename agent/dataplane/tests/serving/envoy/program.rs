//! Envoy as a process.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use super::{Addresses, LOGGED};
use crate::support::free_address;

/// A running Envoy.
pub(super) struct Envoy {
    process: Child,
    pub(super) address: SocketAddr,
    pub(super) log: PathBuf,
    _directory: tempfile::TempDir,
}

impl Envoy {
    pub(super) fn start(mut program: Command, addresses: Addresses) -> Self {
        let address = free_address();
        let directory = tempfile::tempdir().unwrap();
        let [file, log] = ["envoy.yaml", "log"].map(|name| directory.path().join(name));
        fs::write(&log, "").unwrap();
        let Addresses { upstream, refused, full, frames } = addresses;
        let named =
            [("<GATEWAY>", address), ("<UPSTREAM>", upstream), ("<REFUSED>", refused), ("<FULL>", full)];
        let frames = (0..).zip(frames).map(|(number, address)| (format!("<FRAMES {number}>"), address));
        let ports: Vec<_> =
            named.map(|(name, address)| (name.to_owned(), address)).into_iter().chain(frames).collect();
        let config =
            CONFIG.replace("<LOGGED>", &format!("{LOGGED:?}")).replace("<LOG>", log.to_str().unwrap());
        let config = ports
            .iter()
            .fold(config, |config, (name, address)| config.replace(name, &address.port().to_string()));
        fs::write(&file, config).unwrap();
        program.args(["--file-flush-interval-msec", "50"]);
        program.arg("-c").arg(&file).args(["--concurrency", "1", "--disable-hot-restart", "-l", "critical"]);
        let process = program.stderr(Stdio::piped()).spawn().unwrap();
        let mut envoy = Self { process, address, log, _directory: directory };
        for _ in 0..200 {
            if TcpStream::connect(address).is_ok() {
                return envoy;
            }
            thread::sleep(Duration::from_millis(50));
        }
        envoy.process.kill().unwrap();
        let said = BufReader::new(envoy.process.stderr.take().unwrap()).lines().map_while(Result::ok);
        panic!("Envoy does not listen: {}", said.collect::<Vec<_>>().join("\n"));
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        // It may have ended by itself.
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

const CONFIG: &str = include_str!("envoy.yaml");
