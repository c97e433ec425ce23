//! Which workloads a policy is for: chosen by labels, or named by the resource they stand behind.

use crate::{
    Labels, Path,
    decode::{Context, Fields, Shape},
    finding::Problem,
    host,
    labels::MatchLabels,
};

/// Whom a policy applies to. At most one of the two is written; neither means every workload of the namespace.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PolicyScope {
    /// Labels a workload must all have (`selector.matchLabels`); empty selects every workload.
    pub selector: Option<Labels>,
    /// Resources whose workloads are meant (`targetRefs`, or the older `targetRef`).
    pub target_refs: Vec<TargetRef>,
}

impl PolicyScope {
    pub(crate) fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let selector: Option<MatchLabels> = fields.optional("selector");
        let one: Option<TargetRef> = fields.optional("targetRef");
        let several: Vec<TargetRef> = fields.or_default("targetRefs");
        let written = [
            (selector.is_some(), "selector"),
            (one.is_some(), "targetRef"),
            (!several.is_empty(), "targetRefs"),
        ];
        let used: Vec<_> = written.into_iter().filter(|(used, _)| *used).map(|(_, name)| name).collect();
        if used.len() > 1 {
            let problem = Problem::new("says in several ways whom it is for").found(used.join(", "));
            fields.error_here(problem.expected("one of `selector` and `targetRefs`"));
        }
        Self {
            selector: selector.map(|selector| selector.0),
            target_refs: one.into_iter().chain(several).collect(),
        }
    }
}

/// A resource in the policy's own namespace (`PolicyTargetReference`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TargetRef {
    /// API group; empty for the Kubernetes core.
    pub group: String,
    /// Kind: Gateway, GatewayClass, Service or ServiceEntry.
    pub kind: String,
    /// Name.
    pub name: String,
}

/// What a policy may refer to, by group and kind.
const TARGETS: [(&str, &str); 4] = [
    ("gateway.networking.k8s.io", "Gateway"),
    ("gateway.networking.k8s.io", "GatewayClass"),
    ("", "Service"),
    ("networking.istio.io", "ServiceEntry"),
];

impl Shape for TargetRef {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let namespace: Option<String> = fields.optional("namespace");
        if let Some(namespace) = namespace.filter(|namespace| !namespace.is_empty()) {
            let problem = Problem::new("names a namespace, and no other than the policy's is allowed");
            fields.error("namespace", problem.found(namespace).remedy("remove it"));
        }
        Self {
            group: fields.or_default("group"),
            kind: fields.required("kind"),
            name: fields.required("name"),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        let group = if self.group == "core" { "" } else { &self.group };
        if !TARGETS.contains(&(group, &self.kind)) {
            let problem = Problem::new("is nothing a policy can refer to")
                .found(format!("{}/{}", self.group, self.kind).trim_start_matches('/'));
            let names: Vec<_> = TARGETS.map(|(group, kind)| format!("`{group}/{kind}`")).into();
            context.error(at, problem.expected(names.join(", ").replace("`/", "`")));
        }
        if !host::is_dns_name(&self.name) {
            let problem = Problem::new("is not a resource name").found(&self.name);
            context.error(&at.field("name"), problem.expected("the name of the resource"));
        }
    }
}
