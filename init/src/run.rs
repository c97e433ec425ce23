//! What each command does, step by step.

use anyhow::{Context, Result, bail};
use rules::build::{Facts, build};
use rules::diff::{self, Difference};
use rules::nft;
use rules::parse::Found;
use rules::program::{Ipv6, Program};
use rules::render::{self, Dialect};
use rules::ruleset::{Family, RuleSet};
use rules::settings::{InterceptionMode, Ipv6Choice, Options, Settings};

use crate::backend::{self, Backend, BackendKind, Look};
use crate::cli::{self, Command, Invocation, Output};
use crate::failure::Failure;
use crate::netlink::Selector;
use crate::stop::Stop;
use crate::{facts, json, namespace, netlink, privileges};

use survey::{Survey, explanation};

mod apply;
mod cleanup;
mod explain;
mod iptables;
mod native;
mod routes;
mod survey;
mod validate;
mod watch;

/// Does what the command line asks for, and returns what is to be printed.
pub(crate) fn run(invocation: Invocation) -> Result<String, Failure> {
    match invocation.command {
        Command::Help => return Ok(cli::help()),
        Command::Version => return Ok(concat!("postern-init ", env!("CARGO_PKG_VERSION"), "\n").to_owned()),
        _ => {}
    }
    invocation.log.start();
    for warning in &invocation.warnings {
        tracing::warn!("{warning}");
    }
    if invocation.options.cni_mode && changes_rules(invocation.command) {
        namespace::hide_name_service();
    }
    enter_namespace(&invocation)?;
    let Invocation { command, settings, options, output, packet, watch, .. } = invocation;
    match command {
        Command::DryRun => Ok(dry_run(settings, &options, output)?),
        Command::Cleanup => Ok(cleanup::cleanup(&settings, &options)?),
        Command::Check => survey::check(settings, &options, output),
        Command::Watch => watch::watch(settings, &options, watch),
        Command::Validate => validate(settings, &options, output),
        Command::Explain => explain::explain(settings, &options, packet.as_ref(), output),
        Command::Install | Command::Help | Command::Version => install(settings, &options, output),
    }
}

fn changes_rules(command: Command) -> bool {
    matches!(command, Command::Install | Command::Cleanup | Command::Watch)
}

/// A dry run goes there only to look at addresses, and only if they decide something.
fn enter_namespace(invocation: &Invocation) -> Result<()> {
    let Some(path) = &invocation.options.network_namespace else { return Ok(()) };
    let told = matches!(invocation.settings.ipv6, Ipv6Choice::On | Ipv6Choice::Off);
    if invocation.command == Command::DryRun && told {
        return Ok(());
    }
    namespace::enter(path)
}

/// The wanted rules, and what was found out to make them.
#[derive(Clone)]
struct Plan {
    settings: Settings,
    facts: Facts,
    program: Program,
    dialect: Dialect,
}

impl Plan {
    fn make(settings: Settings, options: &Options) -> Result<Self> {
        let facts = facts::discover(&settings, options)?;
        let dialect = if options.native_nftables { Dialect::Nft } else { Dialect::Iptables };
        Ok(Self::written(dialect, settings, facts))
    }

    fn written(dialect: Dialect, settings: Settings, facts: Facts) -> Self {
        let program = match dialect {
            Dialect::Iptables => build(&settings, &facts),
            Dialect::Nft => native::program(&settings, &facts),
        };
        Self { settings, facts, program, dialect }
    }

    /// The same rules, to be held by a backend of this `kind`.
    fn held_by(self, kind: BackendKind) -> Self {
        let dialect = match kind {
            BackendKind::Iptables(_) => Dialect::Iptables,
            BackendKind::Nftables => Dialect::Nft,
        };
        if dialect == self.dialect { self } else { Self::written(dialect, self.settings, self.facts) }
    }

    /// What packets of a family are to meet.
    fn rule_set(&self, family: Family) -> RuleSet {
        match self.dialect {
            Dialect::Iptables => self.program.rule_set(family),
            Dialect::Nft => nft::layout(&self.program).rule_set(family),
        }
    }

    /// The families that this machine has and that have rules.
    fn families(&self) -> &'static [Family] {
        if self.facts.ipv6 == Ipv6::On { &Family::BOTH } else { &[Family::V4] }
    }

    /// Whether packets have to be delivered by a table of their own.
    fn needs_routes(&self) -> bool {
        self.settings.mode == InterceptionMode::Tproxy && !self.settings.inbound_ports.is_none()
    }

    /// Which packets of a family that table is to deliver.
    fn deliveries(&self, family: Family) -> Vec<Selector> {
        let captured = Selector::Mark(self.settings.tproxy_mark);
        match family {
            _ if !self.needs_routes() || !self.families().contains(&family) => Vec::new(),
            Family::V4 => vec![captured, Selector::FromLoopback],
            Family::V6 => vec![captured],
        }
    }

    /// What is changed besides the rules, as commands.
    fn remarks(&self, family: Family) -> Vec<String> {
        let mut remarks = Vec::new();
        if family == Family::V6 {
            remarks.push(format!("address: ip -6 address add {}/128 dev lo", facts::passthrough_v6()));
        }
        let table = self.settings.tproxy_route_table;
        for select in self.deliveries(family) {
            remarks.push(format!("route: {}", netlink::rule_command(family, "add", select, table)));
        }
        if self.needs_routes() {
            remarks.push(format!("route: {}", netlink::route_command(family, "add", table)));
        }
        remarks
    }

    /// Where the kernel's rules differ from the wanted ones.
    fn differences(&self, found: &[Found; 2]) -> Vec<Difference> {
        let compare = |found: &Found| diff::compare(&self.rule_set(found.family), found);
        found.iter().map(compare).filter(|difference| !difference.is_empty()).collect()
    }
}

fn dry_run(mut settings: Settings, options: &Options, output: Output) -> Result<String> {
    // Names are printed as given, and no file is asked for the default user.
    settings.fill_owners(rules::ports::PROXY_ID);
    let plan = Plan::make(settings, options)?;
    let text = match output {
        Output::Text if options.native_nftables => native::dry_run(&plan),
        Output::Text => render::dry_run(&plan.program, |family| plan.remarks(family)),
        Output::Json if options.native_nftables => native::dry_run_json(&plan),
        Output::Json => json::dry_run(&plan.program, |family| plan.remarks(family)),
    };
    if let Some(path) = &options.dry_run_file {
        std::fs::write(path, &text)
            .with_context(|| format!("cannot write {} of variable DRY_RUN_FILE_PATH", path.display()))?;
    }
    Ok(text)
}

fn install(mut settings: Settings, options: &Options, output: Output) -> Result<String, Failure> {
    facts::resolve_owners(&mut settings, options)?;
    if options.skip_rule_apply {
        tracing::info!("rules and routes left as they are, as --skip-rule-apply asks");
        return validation(settings, options, output);
    }
    privileges::require_net_admin()?;
    privileges::keep_needed(options.run_validation);
    let plan = Plan::make(settings, options)?;
    let stop = Stop::listen()?;
    let lock = namespace::lock(options.lock_wait, &stop)?;
    let plan = apply::apply(plan, options, &stop)?;
    drop(lock);
    drop(stop);
    if options.run_validation {
        return validate::validate(&plan, options, output);
    }
    privileges::drop_all();
    Ok(String::new())
}

/// What `--skip-rule-apply` leaves to do.
fn validation(settings: Settings, options: &Options, output: Output) -> Result<String, Failure> {
    if !options.run_validation {
        return Ok(String::new());
    }
    validate::validate(&Plan::make(settings, options)?, options, output)
}

fn validate(mut settings: Settings, options: &Options, output: Output) -> Result<String, Failure> {
    facts::resolve_owners(&mut settings, options)?;
    validate::validate(&Plan::make(settings, options)?, options, output)
}

fn choose_backend(options: &Options, look: Look) -> Result<Backend> {
    let backend = backend::choose(options, look)?;
    tracing::info!(backend = %backend.kind, reason = backend.reason, "backend chosen");
    survey::warn_of_rival(&backend);
    Ok(backend)
}

/// What was found, once it is settled whether IPv6 can be read, and what to make of it if not.
fn readable(mut plan: Plan, state: backend::State) -> Result<(Plan, [Found; 2])> {
    let [v4, v6] = state;
    let v4 = v4.map_err(|unusable| anyhow::anyhow!("cannot read the IPv4 rules: {unusable}"))?;
    let v6 = match v6 {
        Ok(found) => found,
        Err(unusable) => {
            without_ipv6(&mut plan, &unusable.to_string())?;
            Found::nothing(Family::V6)
        }
    };
    Ok((plan, [v4, v6]))
}

/// IPv6 that cannot be used is an error when it was asked for, and otherwise goes without rules.
fn without_ipv6(plan: &mut Plan, unusable: &str) -> Result<()> {
    if plan.program.ipv6 != Ipv6::On {
        return Ok(());
    }
    if plan.settings.ipv6 != Ipv6Choice::Auto {
        bail!("cannot read the IPv6 rules: {unusable}; with --ipv6 off IPv6 goes without capture");
    }
    tracing::warn!(reason = unusable, "IPv6 goes without capture: its rules cannot be read");
    plan.program.entries.retain(|entry| entry.family == Family::V4);
    plan.program.ipv6 = Ipv6::Off(unusable.to_owned());
    plan.facts.ipv6 = plan.program.ipv6.clone();
    Ok(())
}
