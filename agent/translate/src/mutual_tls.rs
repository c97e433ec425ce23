//! Which inbound connections must be mutual TLS: what the PeerAuthentications for a workload come to.

use std::{collections::BTreeMap, sync::Arc};

use resources::{
    Finding, Kind, Labels, MutualTlsMode, Object, Path, PeerAuthentication, Problem, Refused, ResourceSet,
    Rule, Severity,
};

use snapshot::{PeerMode, PeerRule};

use crate::proxy::Proxy;

/// What is asked of inbound connections of a workload.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct MutualTls<'r> {
    whole: MutualTlsMode,
    by_port: BTreeMap<u16, MutualTlsMode>,
    /// Who says the one, and the other.
    whole_of: Option<&'r Policy>,
    by_port_of: Option<&'r Policy>,
}

type Policy = Object<PeerAuthentication>;

impl<'r> MutualTls<'r> {
    /// The port's own setting, else the workload's, the namespace's, the root namespace's; PERMISSIVE when nobody says
    /// anything. Of several policies at one level the oldest counts. In the root namespace those with a selector do not
    /// count at all, as in Istio.
    ///
    /// STRICT for all where nobody knows what is asked for.
    pub(crate) fn of(resources: &'r ResourceSet, proxy: &Proxy) -> Self {
        if proxy.is_protection_unknown {
            let (whole, by_port) = (MutualTlsMode::Strict, BTreeMap::new());
            return Self { whole, by_port, whole_of: None, by_port_of: None };
        }
        let policies = || resources.peer_authentications().iter();
        let selects =
            |labels: &Labels| labels.iter().all(|(key, value)| proxy.labels.get(key) == Some(value));
        let has_selector =
            |policy: &PeerAuthentication| policy.selector.as_ref().is_some_and(|s| !s.is_empty());
        let is_root = proxy.namespace == proxy.mesh.root_namespace;
        let own = |policy: &&Arc<Policy>| policy.meta.namespace() == proxy.namespace;
        let of_workload = policies().filter(own).find(|policy| {
            !is_root && has_selector(&policy.spec) && policy.spec.selector.as_ref().is_some_and(selects)
        });
        let of_namespace = policies().filter(own).find(|policy| !has_selector(&policy.spec));
        let of_root = policies().find(|policy| {
            policy.meta.namespace() == proxy.mesh.root_namespace && !has_selector(&policy.spec)
        });
        let levels = [of_workload, of_namespace, of_root].into_iter().flatten();
        let whole_of = levels.map(Arc::as_ref).find(|policy| policy.spec.mode != MutualTlsMode::Unset);
        let whole = whole_of.map_or(MutualTlsMode::Permissive, |policy| policy.spec.mode);
        let by_port_of = of_workload.map(Arc::as_ref);
        let by_port = by_port_of.map(|policy| policy.spec.port_level.clone()).unwrap_or_default();
        Self { whole, by_port, whole_of, by_port_of }
    }

    /// What is asked of connections to a port of the workload; never `Unset`.
    pub(crate) fn mode(&self, port: u16) -> MutualTlsMode {
        match self.by_port.get(&port) {
            None | Some(MutualTlsMode::Unset) => self.whole,
            Some(mode) => *mode,
        }
    }

    /// The same for those who ask why.
    pub(crate) fn told(&self, proxy: &Proxy, refused: &[Refused]) -> snapshot::PeerAuthentication {
        let rule = |mode: MutualTlsMode, policy: Option<&Policy>| PeerRule {
            mode: match mode {
                MutualTlsMode::Strict => PeerMode::Strict,
                MutualTlsMode::Disable => PeerMode::Disable,
                MutualTlsMode::Permissive | MutualTlsMode::Unset => PeerMode::Permissive,
            },
            policy: policy.map(|policy| format!("{}/{}", policy.meta.namespace(), policy.meta.name())),
        };
        let own = self.by_port.iter().filter(|(_, mode)| **mode != MutualTlsMode::Unset);
        let namespaces = [proxy.namespace.as_str(), proxy.mesh.root_namespace.as_str()];
        let refused = refused.iter().filter(|refused| {
            refused.id.kind == Kind::PeerAuthentication && namespaces.contains(&&*refused.id.namespace)
        });
        snapshot::PeerAuthentication {
            refused: refused
                .map(|Refused { id, place }| format!("{}/{} ({place})", id.namespace, id.name))
                .collect(),
            elsewhere: rule(self.whole, self.whole_of),
            by_port: own.map(|(port, mode)| (*port, rule(*mode, self.by_port_of))).collect(),
            has_identity: proxy.identity.is_some(),
        }
    }

    /// What is asked of connections to ports that nothing is said of.
    pub(crate) fn elsewhere(&self) -> MutualTlsMode {
        self.whole
    }

    /// Ports that something is said of.
    pub(crate) fn ports(&self) -> impl Iterator<Item = u16> {
        self.by_port.keys().copied()
    }
}

/// Says of PeerAuthentications that they count for no workload: those for the same workloads as an older one, and those
/// with a selector in the root namespace.
pub(crate) fn without_effect(resources: &ResourceSet, root_namespace: &str) -> Vec<Finding> {
    let mut first: BTreeMap<(&str, Option<&Labels>), &Object<PeerAuthentication>> = BTreeMap::new();
    let mut findings = Vec::new();
    for policy in resources.peer_authentications() {
        let namespace = policy.meta.namespace();
        let selector = policy.spec.selector.as_ref().filter(|labels| !labels.is_empty());
        let problem = if selector.is_some() && namespace == root_namespace {
            Problem::new("has a selector in the root namespace and has no effect, as in Istio")
                .remedy("move it into the namespace of the workloads")
        } else if let Some(older) = first.get(&(namespace, selector)) {
            Problem::new(format!(
                "is for the same workloads as {} ({}), {}, and has no effect",
                older.meta.id,
                older.meta.place(),
                older.meta.comes_first(&policy.meta)
            ))
            .remedy("write both in one")
        } else {
            first.insert((namespace, selector), policy);
            continue;
        };
        let at = Path::ROOT.field("spec");
        findings.push(policy.meta.finding(Severity::Warning, Rule::Conflict, &at, problem));
    }
    findings
}

#[cfg(test)]
mod tests {
    use resources::{Files, ReadDefaults};

    use super::*;
    use crate::proxy::ProxyKind;

    fn modes(policies: &str) -> [MutualTlsMode; 3] {
        let mut files = Files::new(ReadDefaults { namespace: "ns".into() });
        let text: String = policies
            .lines()
            .map(|line| {
                let (meta, spec) = line.trim().split_once(' ').unwrap();
                format!(
                    "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {meta}\nspec: {spec}\n---\n"
                )
            })
            .collect();
        files.replace_file("a.yaml", &text);
        let mut proxy = Proxy::new(ProxyKind::Sidecar, "ns");
        proxy.labels.insert("app".to_owned(), "web".to_owned());
        let (resources, _) = files.resources();
        let mutual_tls = MutualTls::of(&resources, &proxy);
        [mutual_tls.elsewhere(), mutual_tls.mode(80), mutual_tls.mode(90)]
    }

    #[test]
    fn the_narrowest_level_that_says_something_counts() {
        use MutualTlsMode::{Disable, Permissive, Strict};
        let root = r#"{"name":"r","namespace":"istio-system"} {mtls: {mode: STRICT}}"#;
        let namespace = r#"{"name":"n"} {mtls: {mode: DISABLE}}"#;
        let unset = r#"{"name":"a"} {mtls: {mode: UNSET}}"#;
        let workload = r#"{"name":"w"} {selector: {matchLabels: {app: web}}, portLevelMtls: {80: {mode: STRICT}, 90: {}}}"#;
        let other = r#"{"name":"o"} {selector: {matchLabels: {app: other}}, mtls: {mode: DISABLE}}"#;
        let in_root = r#"{"name":"s","namespace":"istio-system"} {selector: {matchLabels: {app: web}}, mtls: {mode: DISABLE}}"#;
        assert_eq!(modes(other), [Permissive; 3]);
        assert_eq!(modes(root), [Strict; 3]);
        assert_eq!(modes(&format!("{root}\n{in_root}")), [Strict; 3]);
        assert_eq!(modes(&format!("{root}\n{namespace}")), [Disable; 3]);
        assert_eq!(modes(&format!("{root}\n{unset}")), [Strict; 3]);
        assert_eq!(modes(&format!("{namespace}\n{workload}")), [Disable, Strict, Disable]);
    }
}
