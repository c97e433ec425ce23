//! `postern-agent config`: listeners, routes, clusters, endpoints and secrets, of a running agent or from a directory.
//!
//! Everything is read from the dump in Envoy's form, so that both show the same.

mod table;

use std::{
    io::{Write, stdout},
    time::SystemTime,
};

use anyhow::Context;
use clap::{Args, ValueEnum};
use serde_json::Value;
use snapshot::DumpVersion;

use crate::{admin_client, offline::Target};

#[derive(Args, Debug)]
pub(crate) struct ConfigArgs {
    /// What is shown.
    #[arg(value_enum)]
    section: Section,
    /// How it is printed.
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    output: OutputFormat,
    #[command(flatten)]
    target: Target,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Section {
    #[value(alias = "listener")]
    Listeners,
    #[value(alias = "route")]
    Routes,
    #[value(alias = "cluster")]
    Clusters,
    #[value(alias = "endpoint")]
    Endpoints,
    #[value(alias = "secret")]
    Secrets,
    All,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum OutputFormat {
    Table,
    Json,
    Yaml,
}

/// Prints what was asked for.
///
/// # Errors
/// The agent does not answer, a directory cannot be read, or stdout cannot be written.
pub(crate) fn run(args: &ConfigArgs) -> anyhow::Result<()> {
    let dump = dump(&args.target)?;
    let text = match args.output {
        OutputFormat::Table => tables(args.section, &dump),
        OutputFormat::Json => format!("{:#}\n", select(args.section, dump)),
        OutputFormat::Yaml => {
            serde_saphyr::to_string(&select(args.section, dump)).context("cannot be written as YAML")?
        }
    };
    stdout().lock().write_all(text.as_bytes()).context("cannot write to stdout")
}

fn dump(target: &Target) -> anyhow::Result<Value> {
    if target.config_dir.is_empty() {
        let body = admin_client::get(&target.admin, "/config_dump?include_eds")?;
        return serde_json::from_slice(&body).with_context(|| {
            format!("{} answered /config_dump with something else than JSON", target.admin)
        });
    }
    let version = DumpVersion { number: 1, last_updated: String::new() };
    Ok(snapshot::config_dump(&target.snapshot()?, &version))
}

fn tables(section: Section, dump: &Value) -> String {
    let one = |section| match section {
        Section::Listeners => table::listeners(&objects(section, dump)),
        Section::Routes => table::routes(&objects(section, dump)),
        Section::Clusters => table::clusters(&objects(section, dump)),
        Section::Endpoints => table::endpoints(&objects(section, dump)),
        Section::Secrets | Section::All => table::secrets(&objects(section, dump), SystemTime::now()),
    };
    match section {
        Section::All => {
            let sections = [
                Section::Listeners,
                Section::Routes,
                Section::Clusters,
                Section::Endpoints,
                Section::Secrets,
            ];
            sections.map(one).join("\n")
        }
        section => one(section),
    }
}

/// The part of the dump that was asked for: a list of Envoy's objects, or the whole.
fn select(section: Section, dump: Value) -> Value {
    match section {
        Section::All => dump,
        section => objects(section, &dump).into_iter().cloned().collect(),
    }
}

/// Envoy's objects of a section. Their place in the dump differs by section.
fn objects(section: Section, dump: &Value) -> Vec<&Value> {
    let (lists, place): (&[&str], _) = match section {
        Section::Listeners => (&["dynamic_listeners"], "/active_state/listener"),
        Section::Routes => (&["dynamic_route_configs"], "/route_config"),
        Section::Clusters => (&["dynamic_active_clusters"], "/cluster"),
        Section::Endpoints => (&["dynamic_endpoint_configs"], "/endpoint_config"),
        Section::Secrets | Section::All => (&["dynamic_active_secrets", "dynamic_warming_secrets"], ""),
    };
    let configs = dump["configs"].as_array().into_iter().flatten();
    let of_config =
        |config| lists.iter().filter_map(move |list| Value::get(config, *list)?.as_array()).flatten();
    configs.flat_map(of_config).filter_map(|entry| entry.pointer(place)).collect()
}
