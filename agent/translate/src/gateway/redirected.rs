//! Servers that redirect what another server of the port would serve.

use std::collections::HashMap;

use resources::{Finding, Path, Problem, Rule, Severity};

use super::servers::SelectedServer;

/// A finding for the first host of every server with `httpsRedirect` that another server of the port has, too, without
/// asking for https: one table serves both, so that the host is redirected for both.
pub(super) fn check(servers: &[SelectedServer<'_>]) -> Vec<Finding> {
    let mut in_clear: HashMap<&str, &SelectedServer<'_>> = HashMap::new();
    for server in servers.iter().filter(|server| !server.redirects_to_https()) {
        for host in &server.server().hosts {
            in_clear.entry(&host.host).or_insert(server);
        }
    }
    let redirecting = servers.iter().filter(|server| server.redirects_to_https());
    redirecting
        .filter_map(|server| {
            let hosts = server.server().hosts.iter();
            let (host, other) =
                hosts.map(|host| &host.host).find_map(|host| Some((host, in_clear.get(&**host)?)))?;
            let problem = Problem::new(format!(
                "redirects all requests for host {host} of the port to https, those for {} ({}), too",
                other.in_words(),
                other.place()
            ));
            let problem = problem.remedy("give each host of a port to one server, or let both redirect");
            let spec = Path::ROOT.field("spec");
            let list = spec.field("servers");
            let item = list.index(server.index);
            let tls = item.field("tls");
            let at = tls.field("httpsRedirect");
            Some(server.gateway.meta.finding(Severity::Warning, Rule::Conflict, &at, problem))
        })
        .collect()
}
