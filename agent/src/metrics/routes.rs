//! Routes that have counts of their own (`statPrefix`), under Envoy's names.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
};

use dataplane::{ResponseCode, RouteMeasures, Telemetry};
use snapshot::Snapshot;

use super::families::write_histogram;

/// The families of a prefix: those of routes in force, at 0 when nobody has asked for them.
pub(super) fn routes(telemetry: &Telemetry, snapshot: &Snapshot, out: &mut impl Write) -> fmt::Result {
    let mut routes: BTreeMap<String, Counted> = BTreeMap::new();
    let hosts = snapshot.route_configs().iter().flat_map(|config| config.virtual_hosts());
    for host in hosts {
        for prefix in host.routes.iter().filter_map(|route| route.stat_prefix.as_deref()) {
            routes.entry(family(&host.name, prefix)).or_default();
        }
    }
    if routes.is_empty() {
        return Ok(());
    }
    for (key, measures) in &telemetry.routes {
        if let Some(counted) = routes.get_mut(&family(&key.virtual_host, &key.stat_prefix)) {
            counted.add(key.status, measures);
        }
    }
    routes.iter().try_for_each(|(family, counted)| counted.write(family, out))
}

/// What the names of a route's families begin with. Names that differ only in what Prometheus does not know are one, as
/// in Envoy.
fn family(virtual_host: &str, stat_prefix: &str) -> String {
    let name = format!("envoy_vhost_{virtual_host}_route_{stat_prefix}_upstream_rq");
    let known = name.bytes().map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte) } else { '_' });
    known.collect()
}

/// The counts of one prefix.
#[derive(Default)]
struct Counted {
    whole: RouteMeasures,
    codes: BTreeMap<String, u64>,
    classes: BTreeMap<u8, u64>,
}

impl Counted {
    fn add(&mut self, status: ResponseCode, measures: &RouteMeasures) {
        self.whole.add(measures);
        if let Some(class) = status.class() {
            *self.codes.entry(status.to_string()).or_default() += measures.completed;
            *self.classes.entry(class).or_default() += measures.completed;
        }
    }

    fn write(&self, family: &str, out: &mut impl Write) -> fmt::Result {
        let whole = &self.whole;
        for (name, value) in [
            ("retry", whole.retries),
            ("retry_limit_exceeded", whole.retry_limit_exceeded),
            ("retry_overflow", whole.retry_overflow),
            ("retry_success", whole.retry_success),
            ("timeout", whole.timeouts),
            ("total", whole.tries),
        ] {
            writeln!(out, "# TYPE {family}_{name} counter\n{family}_{name} {value}")?;
        }
        // The others are there once there is something to count, as in Envoy.
        if !self.codes.is_empty() {
            self.write_codes(family, out)?;
        }
        if whole.times.count() > 0 {
            let name = format!("{family}_time");
            writeln!(out, "# TYPE {name} histogram")?;
            write_histogram((&name, ""), &whole.times, out)?;
        }
        Ok(())
    }

    fn write_codes(&self, family: &str, out: &mut impl Write) -> fmt::Result {
        let completed = self.whole.completed;
        writeln!(out, "# TYPE {family}_completed counter\n{family}_completed {completed}")?;
        writeln!(out, "# TYPE {family} counter")?;
        for (code, count) in &self.codes {
            writeln!(out, "{family}{{response_code=\"{code}\"}} {count}")?;
        }
        for (class, count) in &self.classes {
            writeln!(out, "{family}{{response_code_class=\"{class}xx\"}} {count}")?;
        }
        Ok(())
    }
}
