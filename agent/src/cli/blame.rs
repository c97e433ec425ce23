//! Which place a wrong value came from: a variable is not mended by looking at a flag that nobody wrote.

use std::ffi::{OsStr, OsString};

use clap::{
    Command, CommandFactory,
    error::{ContextKind, ContextValue},
};

use super::Cli;

/// An error of clap's in words, with the variable in place of the flag where the value came from there.
pub(super) fn to_its_place(error: &clap::Error) -> String {
    told(error, &std::env::args_os().skip(1).collect::<Vec<_>>())
}

fn told(error: &clap::Error, arguments: &[OsString]) -> String {
    let text = error.to_string();
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else { return text };
    let Some(flag) = argument.split(' ').next().filter(|flag| flag.starts_with("--")) else { return text };
    match variable(&Cli::command(), flag) {
        Some(variable) if !arguments.iter().any(|given| is(given, flag)) => {
            let variable = variable.to_string_lossy();
            text.replacen(
                &format!("for '{argument}'"),
                &format!("in environment variable {variable} (for '{argument}')"),
                1,
            )
        }
        _ => text,
    }
}

/// Whether an argument is this flag, with or without its value.
fn is(argument: &OsStr, flag: &str) -> bool {
    let rest = argument.to_str().and_then(|argument| argument.strip_prefix(flag));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
}

/// The variable that a flag of some command is read from.
fn variable(command: &Command, flag: &str) -> Option<OsString> {
    let mut own = command.get_arguments();
    let named = own.find(|argument| argument.get_long() == flag.strip_prefix("--"));
    let read_from = named.and_then(|argument| argument.get_env()).map(OsStr::to_owned);
    read_from.or_else(|| command.get_subcommands().find_map(|command| variable(command, flag)))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn a_flag_that_is_written_is_to_blame_itself() {
        for (arguments, wanted) in [
            (["--ip=10.0"].as_slice(), "invalid value '10.0' for '--ip <ADDR>'"),
            (&["--ip", "10.0"], "invalid value '10.0' for '--ip <ADDR>'"),
        ] {
            let all = [&["postern-agent", "proxy", "router", "--config-dir", "/"], arguments].concat();
            let error = Cli::try_parse_from(&all).unwrap_err();
            let given: Vec<OsString> = all.iter().map(OsString::from).collect();
            assert!(told(&error, &given).contains(wanted), "{}", told(&error, &given));
            let unwritten = told(&error, &[]);
            assert!(
                unwritten.contains("in environment variable INSTANCE_IP (for '--ip <ADDR>')"),
                "{unwritten}"
            );
        }
    }
}
