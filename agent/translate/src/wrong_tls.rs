//! TLS that endpoints get twice or not at all, as far as ports and DestinationRules tell.

use resources::{ClientTlsMode, Finding, Path, Problem, Protocol, Rule, Severity};

use crate::{
    destinations::Destinations,
    registry::{KnownPort, KnownService, Registry},
};

/// Warnings about ports whose clients speak TLS that a DestinationRule would put inside more TLS, and about clear text
/// to ports that mostly serve TLS.
pub(crate) fn check(registry: &Registry<'_>, destinations: &Destinations<'_>) -> Vec<Finding> {
    let ports = registry.services.iter().flat_map(|service| service.ports.iter().map(move |p| (service, p)));
    let finding = |(service, port): (&KnownService<'_>, &KnownPort<'_>)| match port.protocol? {
        protocol if protocol.is_tls() => twice(service, (port, protocol), destinations),
        protocol if protocol.is_http() && leads_to_tls(service, port) => {
            never(service, (port, protocol), destinations)
        }
        _ => None,
    };
    ports.filter_map(finding).collect()
}

/// Whether the ports are those that TLS has, for clients and at the endpoints.
fn leads_to_tls(service: &KnownService<'_>, port: &KnownPort<'_>) -> bool {
    port.number == HTTPS && matches!(service.target_port(port, &[]), Some(HTTPS | UNPRIVILEGED_HTTPS))
}

const HTTPS: u16 = 443;
const UNPRIVILEGED_HTTPS: u16 = 8443;

fn twice(
    service: &KnownService<'_>,
    (port, protocol): (&KnownPort<'_>, Protocol),
    destinations: &Destinations<'_>,
) -> Option<Finding> {
    let destination = destinations.of(&service.host, service.meta().namespace())?;
    let mode = destination.policy(None, port.number).tls?.mode;
    // Between proxies of the mesh it is as it should be.
    if !matches!(mode, ClientTlsMode::Simple | ClientTlsMode::Mutual) {
        return None;
    }
    let rule = destination.rule();
    let of_port =
        rule.spec.traffic_policy.as_ref()?.port_level.iter().position(|own| own.port == port.number);
    let (id, place) = (&service.meta().id, service.meta().place());
    let problem = Problem::new(format!(
        "puts TLS around the TLS of clients, who speak it themselves to port {} of {id} ({place})",
        port.number
    ));
    let problem = problem
        .found(protocol)
        .remedy("leave `tls` out for this port, or make its protocol HTTP and let clients speak clear text");
    let spec = Path::ROOT.field("spec");
    let policy = spec.field("trafficPolicy");
    let warn =
        |at: &Path<'_>| rule.meta.finding(Severity::Warning, Rule::Conflict, &at.field("tls"), problem);
    Some(match of_port {
        Some(index) => warn(&policy.field("portLevelSettings").index(index)),
        None => warn(&policy),
    })
}

fn never(
    service: &KnownService<'_>,
    (port, protocol): (&KnownPort<'_>, Protocol),
    destinations: &Destinations<'_>,
) -> Option<Finding> {
    let destination = destinations.of(&service.host, service.meta().namespace());
    // Whoever writes a mode, DISABLE included, means it.
    if destination.is_some_and(|destination| destination.policy(None, port.number).tls.is_some()) {
        return None;
    }
    let problem = Problem::new("is for clear text, and endpoints mostly speak TLS there").found(protocol);
    let problem = problem.remedy(
        "make its protocol HTTPS where clients speak TLS themselves, or write a DestinationRule with `tls` (DISABLE if \
         clear text is meant)",
    );
    let spec = Path::ROOT.field("spec");
    let ports = spec.field("ports");
    Some(service.meta().finding(Severity::Warning, Rule::Conflict, &ports.index(port.index), problem))
}
