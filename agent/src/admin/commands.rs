//! The paths of the admin interface, with what Envoy's `/help` says of them.

use std::fmt::Write;

/// A path and what it is for.
pub(super) struct Command {
    pub(super) path: &'static str,
    /// Whether it changes something, so that it takes POST only.
    pub(super) changes: bool,
    help: &'static str,
    parameters: &'static [(&'static str, &'static str)],
}

impl Command {
    /// The command with a path.
    pub(super) fn at(path: &str) -> Option<&'static Self> {
        COMMANDS.iter().find(|command| command.path == path)
    }
}

/// All commands, in the form of Envoy's list.
pub(super) fn list() -> String {
    let mut out = "admin commands are:\n".to_owned();
    for Command { path, changes, help, parameters } in &COMMANDS {
        let post = if *changes { " (POST)" } else { "" };
        // Writing into memory cannot fail.
        _ = writeln!(out, "  {path}{post}: {help}");
        for (name, help) in *parameters {
            _ = writeln!(out, "      {name}: {help}");
        }
    }
    out
}

const fn reads(
    path: &'static str,
    help: &'static str,
    parameters: &'static [(&'static str, &'static str)],
) -> Command {
    Command { path, changes: false, help, parameters }
}

const fn changes(
    path: &'static str,
    help: &'static str,
    parameters: &'static [(&'static str, &'static str)],
) -> Command {
    Command { path, changes: true, help, parameters }
}

const FORMAT: (&str, &str) = ("format", "json for JSON");

const STATS: &[(&str, &str)] = &[
    ("format", "json, prometheus or text"),
    ("filter", "only metrics whose names match the regular expression"),
    ("usedonly", "only what is not zero"),
];

const COMMANDS: [Command; 19] = [
    reads("/", "this list", &[]),
    reads("/certs", "certificates in use", &[]),
    reads(
        "/clusters",
        "endpoints with their health and what was sent to them",
        &[("filter", "only clusters whose names match the regular expression"), FORMAT],
    ),
    reads(
        "/config_dump",
        "listeners, routes, clusters and secrets in force",
        &[
            ("resource", "only the elements of this list, such as dynamic_active_clusters"),
            ("mask", "only these fields, such as cluster.name"),
            ("name_regex", "only what has a name that matches the regular expression as a whole"),
            ("include_eds", "endpoints, too"),
        ],
    ),
    changes("/drain_listeners", "let connections end, and serve on until told to quit", &[]),
    changes("/explain", "where a request goes and why; `postern-agent explain request` asks it", &[]),
    reads("/findings", "everything wrong or surprising, one per line", &[]),
    changes("/healthcheck/fail", "not ready from now on", &[]),
    changes("/healthcheck/ok", "ready again", &[]),
    reads("/help", "this list", &[]),
    reads("/hot_restart_version", "says that there is no hot restart", &[]),
    reads("/listeners", "addresses listened on", &[FORMAT]),
    changes(
        "/logging",
        "what is logged, and changes of it",
        &[
            ("level", "a level such as debug, or a list such as info,dataplane=debug"),
            ("paths", "levels of parts of this program, such as dataplane:debug,h2:info"),
        ],
    ),
    reads("/memory", "what the kernel says of this process", &[]),
    changes("/quitquitquit", "drain and exit", &[]),
    reads("/ready", "LIVE when the proxy serves", &[]),
    reads("/server_info", "version, state and time since the start", &[]),
    reads("/stats", "metrics, by default as text", STATS),
    reads("/stats/prometheus", "metrics as Prometheus reads them", STATS),
];
