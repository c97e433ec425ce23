//! Which calls are logged: what the Telemetry resources for a workload come to.

use resources::{
    AccessLogger, AccessLogging, Finding, Object, Path, Problem, ResourceSet, Telemetry, WorkloadMode,
};
use snapshot::{LogFilter, LogFilterError, Logged};

use crate::{
    registry::Registry,
    telemetries::{levels, warning},
};

/// The mesh's setting, changed by the Telemetry of the root namespace, then that of the proxy's namespace, then that of
/// the workload. Of several at one level the oldest counts.
pub(crate) fn access_logging(
    resources: &ResourceSet,
    registry: &Registry<'_>,
    findings: &mut Vec<Finding>,
) -> snapshot::AccessLogging {
    let levels = levels(resources, registry);
    let has_log = registry.proxy.mesh.access_log;
    findings.extend(levels.iter().flat_map(|telemetry| doubts(telemetry)));
    snapshot::AccessLogging {
        client: Side { mode: WorkloadMode::Client, has_log, findings }.logged(&levels),
        server: Side { mode: WorkloadMode::Server, has_log, findings }.logged(&levels),
    }
}

/// One side of calls, and what is noticed on the way.
struct Side<'f> {
    mode: WorkloadMode,
    /// Whether there is a log to write to when nobody says which.
    has_log: bool,
    findings: &'f mut Vec<Finding>,
}

impl Side<'_> {
    fn logged(mut self, levels: &[&Object<Telemetry>]) -> Logged {
        let mut logged = if self.has_log { Logged::Everything } else { Logged::Nothing };
        for telemetry in levels {
            let of_side = |mode| mode == WorkloadMode::ClientAndServer || mode == self.mode;
            let all = telemetry.spec.access_logging.iter().enumerate();
            let items: Vec<_> = all.filter(|(_, item)| of_side(item.mode)).collect();
            let mut named = items.iter().flat_map(|(_, item)| &item.providers).peekable();
            // Providers named at one level take the place of those of the wider ones.
            if named.peek().is_some() && !named.any(AccessLogger::is_own) {
                logged = Logged::Nothing;
            }
            for (index, item) in items {
                if self.concerns_log(telemetry, index) {
                    logged = match item.disabled {
                        Some(true) => Logged::Nothing,
                        Some(false) | None => filtered(item),
                    };
                }
            }
        }
        logged
    }

    /// Whether an item speaks of a log that there is.
    fn concerns_log(&mut self, telemetry: &Object<Telemetry>, index: usize) -> bool {
        let providers = &telemetry.spec.access_logging[index].providers;
        let names_own = providers.iter().any(AccessLogger::is_own);
        self.has_log |= names_own;
        if providers.is_empty() && !self.has_log {
            let problem =
                Problem::new("names no provider, and the mesh has none: nothing is logged, as in Istio");
            let problem = problem.remedy("add `providers: [{name: envoy}]`, or set `accessLogFile`");
            let spec = Path::ROOT.field("spec");
            self.findings.push(warning(telemetry, &spec.field("accessLogging").index(index), problem));
        }
        self.has_log && (providers.is_empty() || names_own)
    }
}

/// What an item without `disabled` lets through. Of a filter that is not understood nothing is kept: a line too many does
/// less harm than one too few.
fn filtered(item: &AccessLogging) -> Logged {
    let filter = item.filter.as_ref().and_then(|filter| LogFilter::parse(filter).ok());
    filter.map_or(Logged::Everything, Logged::What)
}

/// What of a Telemetry is done otherwise than it says.
pub(crate) fn doubts(telemetry: &Object<Telemetry>) -> Vec<Finding> {
    let spec = Path::ROOT.field("spec");
    let list = spec.field("accessLogging");
    let mut findings = Vec::new();
    for (index, item) in telemetry.spec.access_logging.iter().enumerate() {
        let at = list.index(index);
        let others = item.providers.iter().enumerate().filter(|(_, provider)| !provider.is_own());
        for (position, provider) in others {
            let problem = Problem::new("is a provider that is not supported: nothing is written for it");
            let problem = problem.found(&provider.0).expected("`envoy`, the log that `accessLogFile` names");
            let providers = at.field("providers");
            findings.push(warning(telemetry, &providers.index(position).field("name"), problem));
        }
        if let Some((filter, wrong)) =
            item.filter.as_ref().and_then(|f| Some((f, LogFilter::parse(f).err()?)))
        {
            let problem = Problem::new(format!("{wrong}: everything is logged")).found(filter);
            let problem = problem.expected(LogFilterError::EXPECTED);
            findings.push(warning(telemetry, &at.field("filter").field("expression"), problem));
        }
    }
    findings
}

#[cfg(test)]
mod tests;
