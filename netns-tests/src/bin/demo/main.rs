//! Two pods and a gateway in network namespaces, a few requests, and every hop of them in plain words.
//!
//! Takes no arguments. Needs root. Removes what it has made when it ends, also when it is interrupted.
#![forbid(unsafe_code)]

mod hop;
mod page;
mod story;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result};
use netns_tests::{namespace, root};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use page::Page;

fn main() -> ExitCode {
    let told = run();
    while INTERRUPTED.load(Ordering::SeqCst) {
        // What went wrong then is the removal's doing; the thread that removes ends the program.
        thread::park();
    }
    namespace::remove_own();
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            let _ = writeln!(std::io::stderr(), "error: {e:#}");
            ExitCode::FAILURE
        }
    }
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

fn run() -> Result<()> {
    if let Some(missing) = root::obstacle() {
        anyhow::bail!("the demo needs {missing}: run it as root, for example with `sudo scripts/demo`");
    }
    clean_up_when_interrupted()?;
    let colours =
        std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    story::tell(&mut Page::new(std::io::stdout().lock(), colours))
}

fn clean_up_when_interrupted() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot listen for signals")?;
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            INTERRUPTED.store(true, Ordering::SeqCst);
            let _ = writeln!(std::io::stderr(), "\ninterrupted: removing the pods");
            namespace::remove_own();
            // What a shell reports for a program that a signal ended.
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}
