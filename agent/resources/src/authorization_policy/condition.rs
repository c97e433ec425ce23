//! Further conditions, by the name of an attribute.

use super::source::{check_addresses, check_ports, check_service_accounts, check_trust_domains};
use crate::{
    Path,
    decode::{Context, Fields, Shape},
    finding::Problem,
    request_authentication::check_none_empty,
    suggest::did_you_mean,
};

/// A condition on an attribute (`Condition`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Condition {
    /// Name of the attribute, such as `source.ip` or `request.headers[x-token]`.
    pub key: String,
    /// Values of which one must be there.
    pub values: Vec<String>,
    /// Values of which none may be there.
    pub not_values: Vec<String>,
}

/// Attributes without a name in brackets.
const PLAIN: [&str; 12] = [
    "source.ip",
    "remote.ip",
    "source.namespace",
    "source.serviceAccount",
    "source.principal",
    "source.trustDomain",
    "request.auth.principal",
    "request.auth.audiences",
    "request.auth.presenter",
    "destination.ip",
    "destination.port",
    "connection.sni",
];

impl Shape for Condition {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        fields.refuse_unknown();
        Self {
            key: fields.required("key"),
            values: fields.or_default("values"),
            not_values: fields.or_default("notValues"),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        if let Err(problem) = check_key(&self.key) {
            return context.error(&at.field("key"), problem.found(&self.key));
        }
        if self.values.is_empty() && self.not_values.is_empty() {
            context.error(at, Problem::new("asks nothing").expected("`values` or `notValues`"));
        }
        for (name, list) in [("values", &self.values), ("notValues", &self.not_values)] {
            let at = at.field(name);
            match self.key.as_str() {
                "source.ip" | "remote.ip" | "destination.ip" => check_addresses(list, &at, context),
                "destination.port" => check_ports(list, &at, context),
                "source.serviceAccount" => check_service_accounts(list, &at, context),
                "source.trustDomain" => check_trust_domains(list, &at, context),
                _ => check_none_empty(list, &at, context),
            }
        }
    }
}

impl Condition {
    /// Whether the attribute tells who asks, rather than where from.
    pub(super) fn is_identity(&self) -> bool {
        let of_peer = ["source.namespace", "source.serviceAccount", "source.trustDomain", "source.principal"];
        of_peer.contains(&self.key.as_str()) || self.key.starts_with("request.auth.")
    }
}

fn check_key(key: &str) -> Result<(), Problem> {
    let bracketed = ["request.headers", "request.auth.claims", "experimental.envoy.filters."];
    if let Some(name) = bracketed.into_iter().find(|name| key.starts_with(name)) {
        let named = key.find('[').is_some_and(|open| key.ends_with(']') && open + 2 < key.len());
        return if named {
            Ok(())
        } else {
            Err(Problem::new("lacks a name in brackets")
                .expected(format!("`{}[name]`", name.trim_end_matches('.'))))
        };
    }
    match key {
        _ if PLAIN.contains(&key) => Ok(()),
        "destination.namespace" => {
            Err(Problem::new("is no attribute any more").remedy("put the policy into that namespace"))
        }
        _ if key.starts_with("destination.labels") => {
            Err(Problem::new("is no attribute any more").remedy("use `selector.matchLabels`"))
        }
        "destination.name" | "destination.user" => {
            Err(Problem::new("is no attribute any more").remedy("use `selector.matchLabels`"))
        }
        _ => {
            let other = || "such as `source.ip` or `request.headers[name]`".to_owned();
            Err(Problem::new("is not a known attribute").meant_or_expected(did_you_mean(key, PLAIN), other))
        }
    }
}
