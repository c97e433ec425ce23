//! `postern-agent config`: listeners, routes, clusters, endpoints and secrets, of a running agent or from a directory.
//!
//! Everything is read from the dump in Envoy's form, so that both show the same.

mod table;

use std::{
    io::{Write, stdout},
    time::SystemTime,
};

use anyhow::{Context, anyhow};
use clap::{Args, ValueEnum};
use serde_json::Value;
use snapshot::{DumpVersion, LiveClusters};

use crate::{admin_client, offline::Target, options};

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
    let shown = Shown::of(args)?;
    let text = match args.output {
        OutputFormat::Table => shown.tables(args.section),
        OutputFormat::Json => format!("{:#}\n", shown.select(args.section)),
        OutputFormat::Yaml => {
            serde_saphyr::to_string(&shown.select(args.section)).context("cannot be written as YAML")?
        }
    };
    stdout().lock().write_all(text.as_bytes()).context("cannot write to stdout")?;
    shown.tell_refused(args.section);
    Ok(())
}

/// What there is to show.
struct Shown {
    dump: Value,
    /// Envoy's `/clusters`, of a running agent: only that knows how endpoints are.
    clusters: Option<Value>,
}

impl Shown {
    fn of(args: &ConfigArgs) -> anyhow::Result<Self> {
        let ConfigArgs { target, section, .. } = args;
        if !target.config_dir.is_empty() {
            let version = DumpVersion { number: 1, last_updated: String::new() };
            let upgrades = options::upgrades().map_err(|wrong| anyhow!("{wrong}"))?;
            let live = LiveClusters::default();
            let dump = snapshot::config_dump(&target.snapshot()?, &version, &live, &upgrades.names());
            return Ok(Self { dump, clusters: None });
        }
        let ask = |path: &str| {
            serde_json::from_slice::<Value>(&admin_client::get(
                admin_client::Interface::admin(&target.admin),
                path,
            )?)
            .with_context(|| format!("{} answered {path} with something else than JSON", target.admin))
        };
        let tells_health = matches!(section, Section::Endpoints | Section::All);
        Ok(Self {
            dump: ask("/config_dump?include_eds")?,
            clusters: tells_health.then(|| ask("/clusters?format=json")).transpose()?,
        })
    }

    fn tables(&self, section: Section) -> String {
        let one = |section| match section {
            Section::Listeners => table::listeners(&objects(section, &self.dump)),
            Section::Routes => table::routes(&objects(section, &self.dump)),
            Section::Clusters => table::clusters(&objects(section, &self.dump)),
            Section::Endpoints => match self.statuses() {
                Some(statuses) => table::live_endpoints(&statuses),
                None => table::endpoints(&objects(section, &self.dump)),
            },
            Section::Secrets | Section::All => {
                table::secrets(&objects(section, &self.dump), SystemTime::now())
            }
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

    /// Says which listeners could not be opened, and why.
    fn tell_refused(&self, section: Section) {
        if matches!(section, Section::Listeners | Section::All) {
            let configs = self.dump["configs"].as_array().into_iter().flatten();
            let listeners = configs.filter_map(|config| config["dynamic_listeners"].as_array()).flatten();
            let reasons = listeners.filter_map(|listener| listener["error_state"]["details"].as_str());
            reasons.for_each(|reason| tracing::error!("{reason}"));
        }
    }

    /// The part that was asked for: a list of Envoy's objects, or the whole dump.
    fn select(&self, section: Section) -> Value {
        match (section, self.statuses()) {
            (Section::All, _) => self.dump.clone(),
            (Section::Endpoints, Some(statuses)) => statuses.into_iter().cloned().collect(),
            (section, _) => objects(section, &self.dump).into_iter().cloned().collect(),
        }
    }

    /// Envoy's statuses of clusters.
    fn statuses(&self) -> Option<Vec<&Value>> {
        Some(self.clusters.as_ref()?["cluster_statuses"].as_array()?.iter().collect())
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
