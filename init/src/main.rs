//! Installs, checks, explains and removes the interception rules of a pod.

use std::io::Write;
use std::process::ExitCode;

mod backend;
mod cli;
mod conntrack;
mod explain;
mod facts;
mod failure;
mod iptables;
mod json;
mod legacy;
mod log;
mod namespace;
mod netlink;
mod nftables;
mod privileges;
mod probe;
mod run;
mod sockets;
mod stop;
mod sys;
mod watch;

use failure::Failure;

// musl's own gives memory back to the kernel at every turn.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    // A value that is no text fails where it is read, with the name of its variable.
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
        .collect();
    let result = cli::arguments(std::env::args_os().skip(1))
        .and_then(|arguments| cli::parse(&arguments, &environment))
        .and_then(run::run);
    match result {
        Ok(text) => print(&text),
        Err(failure) => {
            report(&failure);
            ExitCode::from(failure.code())
        }
    }
}

/// The one place that writes results. A reader that went away is not our failure to report on a closed pipe.
fn print(text: &str) -> ExitCode {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(1),
    }
}

fn report(failure: &Failure) {
    // A finding is the result of the command, not a message about it.
    if let Failure::Differs(text) | Failure::NotIntercepted(text) = failure {
        print(text);
        return;
    }
    let mut stderr = std::io::stderr().lock();
    for line in failure.lines() {
        // Nothing is left to tell when standard error is gone.
        let _ = writeln!(stderr, "postern-init: {line}");
    }
}
