//! The demo tells what really happened, fits the page, and leaves nothing behind.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use netns_tests::{needs_root, program::binary};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[test]
fn every_hop_is_told_on_a_page_of_100_columns_twice_in_a_row() -> Result<()> {
    needs_root!();
    for _ in 0..2 {
        let (pid, out) = finish(start()?)?;
        let (page, errors) =
            (String::from_utf8(out.stdout)?, String::from_utf8_lossy(&out.stderr).into_owned());
        ensure!(out.status.success(), "{}\n{page}{errors}", out.status);
        for told in TOLD {
            ensure!(page.contains(told), "`{told}` is not told:\n{page}");
        }
        let wide = page.lines().find(|line| line.chars().count() > 100);
        ensure!(wide.is_none(), "wider than 100 columns: {wide:?}");
        ensure!(!page.contains('\x1b'), "escape sequences without a terminal:\n{page}");
        ensure!(left_behind(pid).is_empty(), "left behind: {:?}", left_behind(pid));
    }
    Ok(())
}

#[test]
fn an_interrupted_demo_leaves_nothing_behind() -> Result<()> {
    needs_root!();
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let mut demo = start()?;
        let mut stdout = demo.stdout.take().context("the demo's output")?;
        // Its first words come when it can hear signals and begins to build.
        stdout.read_exact(&mut [0; 8])?;
        kill(Pid::from_raw(demo.id().cast_signed()), signal)?;
        let (pid, out) = finish(demo)?;
        ensure!(out.status.code() == Some(code), "{signal} ended it with {}", out.status);
        ensure!(left_behind(pid).is_empty(), "{signal} left behind: {:?}", left_behind(pid));
    }
    Ok(())
}

const TOLD: &[&str] = &[
    "-A ISTIO_OUTPUT -j ISTIO_REDIRECT ",
    "packets 0 → 1",
    "original destination    10.96.0.10:80",
    "outbound|80||reviews.default.svc.cluster.local",
    "answer     200 from reviews, which was called from 127.0.0.6:",
    "it answers 404",
    "-A ISTIO_INBOUND -p tcp -m tcp --dport 15021 -j RETURN ",
];

fn start() -> Result<Child> {
    let mut demo = Command::new(binary("demo")?);
    demo.env("POSTERN_INIT_BIN", binary("postern-init")?).env("POSTERN_AGENT_BIN", binary("postern-agent")?);
    demo.stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start the demo")
}

fn finish(demo: Child) -> Result<(u32, Output)> {
    let pid = demo.id();
    Ok((pid, demo.wait_with_output()?))
}

/// Namespaces and directories that carry the pid of the demo.
fn left_behind(pid: u32) -> Vec<String> {
    let prefix = format!("pt-{pid}-");
    ["/run/netns", "/tmp"]
        .iter()
        .flat_map(|dir| Path::new(dir).read_dir().into_iter().flatten().flatten())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with(&prefix))
        .collect()
}
