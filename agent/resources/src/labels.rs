//! What Kubernetes takes as labels, and which workloads a selector of labels picks.

use crate::{
    Labels, Path,
    decode::{Context, Fields, Shape},
    finding::{Problem, Rule},
};

/// Reports every key and value that Kubernetes would refuse, wildcards among them: they could match no label.
pub(crate) fn check_labels(labels: &Labels, at: &Path<'_>, context: &mut Context<'_>) {
    for (key, value) in labels {
        let at = at.key(key);
        if !is_key(key) {
            let problem = Problem::new("is not a label name").found(key);
            let expected = "letters, digits, `-`, `_` and `.`, at most 63, after an optional `domain/`";
            context.error(&at, problem.expected(expected));
        }
        if !is_value(value) {
            let problem = Problem::new("is not a label value").found(value);
            context.error(&at, problem.expected("letters, digits, `-`, `_` and `.`, at most 63"));
        }
    }
}

fn is_key(key: &str) -> bool {
    let (domain, name) = key.split_once('/').map_or((None, key), |(domain, name)| (Some(domain), name));
    let is_domain = |domain: &str| crate::host::is_dns_name(domain) && !domain.contains('_');
    domain.is_none_or(is_domain) && !name.is_empty() && is_value(name)
}

fn is_value(value: &str) -> bool {
    let bytes = value.as_bytes();
    let edge = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    value.len() <= 63 && bytes.iter().all(inner) && edge(bytes.first()) && edge(bytes.last())
}

/// Labels of the workloads a policy is for (`WorkloadSelector` of `istio.type.v1beta1`).
#[derive(Default)]
pub(crate) struct MatchLabels(pub(crate) Labels);

impl Shape for MatchLabels {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self(fields.or_default("matchLabels"))
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        check_selector(&self.0, "matchLabels", at, context);
    }
}

fn check_selector(labels: &Labels, field: &str, at: &Path<'_>, context: &mut Context<'_>) {
    if labels.is_empty() {
        let problem = Problem::new("names no label, so every workload of the namespace is meant");
        context.warning(Rule::Invalid, at, problem.remedy(format!("add `{field}`, or remove the selector")));
    }
    check_labels(labels, &at.field(field), context);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_follow_kubernetes() {
        for key in ["app", "app.kubernetes.io/name", "a_b.c-d", "A", "1"] {
            assert!(is_key(key), "{key}");
        }
        let long = "a".repeat(64);
        for key in ["", "-a", "a-", "a b", "/a", "a/", "a/b/c", "a_b/c", "*", &long] {
            assert!(!is_key(key), "{key}");
        }
        for value in ["", "v1", "a.b_c-d"] {
            assert!(is_value(value), "{value}");
        }
        for value in ["*", "v*", ".a", "a ", "é", &long] {
            assert!(!is_value(value), "{value}");
        }
    }
}
