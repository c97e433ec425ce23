//! Certificates that change, and handshakes that stall, while clients keep coming.

use std::{
    fs,
    io::Write,
    net::TcpStream,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustls::ClientConnection;

use crate::gateway_tls::gateway::Gateway;
use crate::support::{
    authority::{Authority, ask, connect},
    has, text,
};

/// How a certificate comes to be another one.
#[derive(Clone, Copy)]
enum Replacing {
    /// The files are written over, one after the other.
    InPlace,
    /// A directory with the new files takes the place of the old one, as Kubernetes mounts Secrets.
    Directory,
}

/// A volume of a pod with the certificate of a.com.
struct Volume {
    directory: PathBuf,
    turn: usize,
}

impl Volume {
    fn write(&mut self, (certificate, key): (&str, &str), how: Replacing) {
        let Self { directory, turn } = self;
        *turn += 1;
        match how {
            Replacing::InPlace => {
                fs::write(directory.join("a.crt"), certificate).unwrap();
                fs::write(directory.join("a.key"), key).unwrap();
            }
            Replacing::Directory => {
                let new = directory.join(format!("..{turn}"));
                fs::create_dir(&new).unwrap();
                fs::write(new.join("a.crt"), certificate).unwrap();
                fs::write(new.join("a.key"), key).unwrap();
                let link = directory.join("..data_tmp");
                symlink(&new, &link).unwrap();
                fs::rename(&link, directory.join("..data")).unwrap();
                for name in ["a.crt", "a.key"] {
                    if !directory.join(name).is_symlink() {
                        fs::remove_file(directory.join(name)).unwrap();
                        symlink(Path::new("..data").join(name), directory.join(name)).unwrap();
                    }
                }
            }
        }
    }
}

const CLIENTS: usize = 4;
const CONNECTIONS_PER_SECOND: usize = 200;

/// Replaces the certificate every second; nobody may notice.
fn rotate(how: Replacing, times: usize) {
    let gateway = Gateway::start();
    let issuer = Authority::new();
    let mut volume = Volume { directory: gateway.certificates(), turn: 0 };
    volume.write(issuer.issue("a.com").pem(), how);
    let config = issuer.client();
    let is_served = || ask(&mut connect(&config, gateway.https, "a.com"), "a.com").is_ok();
    gateway.until("the new certificate", is_served);
    let mut old: Vec<_> = (0..5).map(|_| connect(&config, gateway.https, "a.com")).collect();
    old.iter_mut().for_each(|connection| ask(connection, "a.com").unwrap());
    let (done, served, failed) = (AtomicBool::new(false), AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut next = Instant::now();
                while !done.load(Ordering::Relaxed) {
                    next += Duration::from_secs(1) * CLIENTS as u32 / CONNECTIONS_PER_SECOND as u32;
                    match ask(&mut connect(&config, gateway.https, "a.com"), "a.com") {
                        Ok(()) => _ = served.fetch_add(1, Ordering::Relaxed),
                        Err(error) => failed.lock().unwrap().push(error),
                    }
                    thread::sleep(next.saturating_duration_since(Instant::now()));
                }
            });
        }
        for turn in 0..times {
            match turn % 4 {
                // What is no certificate, and a key that is not its own: the last good one stays.
                1 => volume.write(("junk", "junk"), how),
                3 => volume.write((issuer.issue("a.com").pem().0, issuer.issue("a.com").pem().1), how),
                _ => volume.write(issuer.issue("a.com").pem(), how),
            }
            thread::sleep(Duration::from_secs(1));
        }
        done.store(true, Ordering::Relaxed);
    });
    let (served, failed) = (served.into_inner(), failed.into_inner().unwrap());
    eprintln!("{served} connections during {times} changes, {} failed", failed.len());
    assert!(failed.is_empty(), "{failed:?}\n{}", gateway.log());
    old.iter_mut().for_each(|connection| ask(connection, "a.com").unwrap());
    // A machine that is busy with other tests makes fewer.
    assert!(served > times * CONNECTIONS_PER_SECOND / 10, "{served}");
    let log = gateway.log();
    assert!(log.contains("the last good certificate stays in force"), "{log}");
    assert!(times < 4 || log.contains("key does not match certificate"), "{log}");
}

/// Seconds that a rotation lasts: few unless somebody has the time.
fn seconds() -> usize {
    std::env::var("POSTERN_ROTATION_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5)
}

#[test]
fn a_certificate_written_over_every_second_costs_no_handshake() {
    rotate(Replacing::InPlace, seconds());
}

#[test]
fn a_certificate_volume_swapped_every_second_costs_no_handshake() {
    rotate(Replacing::Directory, seconds());
}

#[test]
fn two_thousand_half_handshakes_keep_nobody_from_being_served() {
    const FLOOD: usize = 2_000;
    if !has("curl") {
        return;
    }
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let gateway = Gateway::start();
    // What the machine does to a call at the same time, however much else it has to do.
    let quiet = Gateway::start();
    let hello = {
        let config = Authority::new().client();
        let mut session = ClientConnection::new(config, "a.com".try_into().unwrap()).unwrap();
        let mut hello = Vec::new();
        session.write_tls(&mut hello).unwrap();
        hello
    };
    let asked = |gateway: &Gateway| {
        let start = Instant::now();
        let answer = gateway.curl(&gateway.https_url("a.com"), "a", &["--max-time", "120"]);
        assert_eq!(text(&answer), "https");
        start.elapsed()
    };
    let done = AtomicBool::new(false);
    let slowest = thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut slowest = [Duration::ZERO; 2];
            while !done.load(Ordering::Relaxed) || slowest[0].is_zero() {
                for (slowest, gateway) in slowest.iter_mut().zip([&gateway, &quiet]) {
                    *slowest = asked(gateway).max(*slowest);
                }
            }
            slowest
        });
        let half = (0..FLOOD).map(|index| {
            let mut stream = TcpStream::connect(("127.0.0.1", gateway.https)).unwrap();
            // Every other one has a signature made for it.
            let sent = if index % 2 == 0 { hello.len() } else { hello.len() / 2 };
            _ = stream.write_all(&hello[..sent]);
            stream
        });
        let half: Vec<_> = half.collect();
        thread::sleep(Duration::from_secs(1));
        done.store(true, Ordering::Relaxed);
        let slowest = asking.join().unwrap();
        drop(half);
        slowest
    });
    let [flooded, quiet] = slowest;
    eprintln!("slowest answer while {FLOOD} handshakes stalled: {flooded:?}, of a gateway beside: {quiet:?}");
    // Handshakes have their turns, so one waits for many others; a machine that is slow is so with each of them.
    assert!(flooded < Duration::from_secs(3).max(30 * quiet), "{flooded:?}, of a gateway beside {quiet:?}");
}
