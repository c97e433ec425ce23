//! `security.istio.io` AuthorizationPolicy: who may do what.

mod condition;
mod source;
#[cfg(test)]
mod tests;

pub use condition::Condition;
pub use source::{Operation, Source, Values};

use crate::{
    Path, PolicyScope,
    decode::{Context, Decode, Fields, Shape, word_of},
    finding::{Problem, Rule},
    yaml::Node,
};

/// Spec of an AuthorizationPolicy. An unknown field anywhere in it refuses it: dropping a condition would let through
/// what its author shut out.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AuthorizationPolicy {
    /// Whom the policy is for.
    pub scope: PolicyScope,
    /// What happens to requests that a rule matches.
    pub action: Action,
    /// Rules, any one of which is enough; none match nothing, so ALLOW without rules lets nobody in.
    pub rules: Vec<AuthorizationRule>,
    /// Who decides for CUSTOM (`provider.name`).
    pub provider: Option<String>,
}

impl Shape for AuthorizationPolicy {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        fields.refuse_unknown();
        let scope = PolicyScope::read(fields);
        let action = fields.or_default("action");
        let rules: Option<Vec<AuthorizationRule>> = fields.optional("rules");
        let provider: Option<Provider> = fields.optional("provider");
        if rules.is_none() && matches!(action, Action::Deny | Action::Custom) {
            let problem = Problem::new(format!("is missing, so action {} never applies", action.name()));
            fields.error("rules", problem.remedy("write `rules: [{}]` to mean every request"));
        }
        Self {
            scope,
            action,
            rules: rules.unwrap_or_default(),
            provider: provider.map(|provider| provider.0),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        self.check_provider(at, context);
        let rules = at.field("rules");
        for (index, rule) in self.rules.iter().enumerate() {
            let at = rules.index(index);
            match self.action {
                Action::Custom => rule.check_custom(&at, context),
                Action::Deny if rule.names_only_http() => {
                    let problem = Problem::new(
                        "names only attributes of HTTP, so it denies every connection to TCP ports",
                    );
                    context.warning(Rule::Invalid, &at, problem.remedy("name the `ports` it is meant for"));
                }
                _ => {}
            }
        }
    }
}

impl AuthorizationPolicy {
    fn check_provider(&self, at: &Path<'_>, context: &mut Context<'_>) {
        let provider = at.field("provider");
        match (self.action, self.provider.as_deref()) {
            (Action::Custom, None | Some("")) => {
                let problem = Problem::new("is missing with action CUSTOM");
                context.error(&provider.field("name"), problem.expected("the name of an extension provider"));
            }
            (Action::Custom, _) | (_, None) => {}
            (action, Some(_)) => {
                let problem = Problem::new(format!("has no meaning with action {}", action.name()));
                context.error(&provider, problem.remedy("remove it, or use action CUSTOM"));
            }
        }
    }
}

/// What happens to requests that a policy matches (`AuthorizationPolicy.Action`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Action {
    /// Let in; whatever no ALLOW policy of a workload matches is denied.
    #[default]
    Allow,
    /// Denied, before any ALLOW.
    Deny,
    /// Noted.
    Audit,
    /// Left to an extension provider.
    Custom,
}

impl Action {
    const NAMES: [(&'static str, Self); 4] =
        [("ALLOW", Self::Allow), ("DENY", Self::Deny), ("AUDIT", Self::Audit), ("CUSTOM", Self::Custom)];

    /// The action as Istio spells it.
    pub fn name(self) -> &'static str {
        Self::NAMES.into_iter().find(|(_, action)| *action == self).map_or("", |(name, _)| name)
    }
}

impl Decode for Action {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        word_of(node, &Self::NAMES, at, context)
    }
}

#[derive(Default)]
struct Provider(String);

impl Shape for Provider {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        fields.refuse_unknown();
        Self(fields.or_default("name"))
    }
}

/// A rule (`Rule`): one of `from`, one of `to` and all of `when` must hold.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AuthorizationRule {
    /// Who asks, any one of these; empty means anybody.
    pub from: Vec<Source>,
    /// What is asked for, any one of these; empty means anything.
    pub to: Vec<Operation>,
    /// Further conditions, all of them.
    pub when: Vec<Condition>,
}

impl Shape for AuthorizationRule {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        fields.refuse_unknown();
        let from: Option<Vec<From>> = fields.optional("from");
        let to: Option<Vec<To>> = fields.optional("to");
        let empty = [
            (from.as_ref().is_some_and(Vec::is_empty), "from"),
            (to.as_ref().is_some_and(Vec::is_empty), "to"),
        ];
        for (_, name) in empty.into_iter().filter(|(empty, _)| *empty) {
            fields.error(name, Problem::new("is empty").remedy("remove it to mean any"));
        }
        Self {
            from: from.into_iter().flatten().map(|from| from.0).collect(),
            to: to.into_iter().flatten().map(|to| to.0).collect(),
            when: fields.or_default("when"),
        }
    }
}

impl AuthorizationRule {
    /// Whether nothing in `from` and `to` can be told of a plain TCP connection.
    fn names_only_http(&self) -> bool {
        let tcp_source = self.from.iter().any(Source::names_connection);
        let tcp_operation = self.to.iter().any(|operation| !operation.ports.is_empty());
        (!self.from.is_empty() && self.to.is_empty() && !tcp_source)
            || (!self.to.is_empty() && !tcp_operation)
    }

    /// An extension provider is asked before identities are known.
    fn check_custom(&self, at: &Path<'_>, context: &mut Context<'_>) {
        let unsupported = |name: &str| {
            Problem::new("cannot be used with action CUSTOM").found(name).remedy("use action ALLOW or DENY")
        };
        let from = at.field("from");
        for (index, source) in self.from.iter().enumerate() {
            let item = from.index(index);
            let at = item.field("source");
            for name in source.identities() {
                context.error(&at.field(name), unsupported(name));
            }
        }
        let when = at.field("when");
        for (index, condition) in
            self.when.iter().enumerate().filter(|(_, condition)| condition.is_identity())
        {
            context.error(&when.index(index).field("key"), unsupported(&condition.key));
        }
    }
}

/// `Rule.From`.
#[derive(Default)]
struct From(Source);

impl Shape for From {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        fields.refuse_unknown();
        Self(fields.required("source"))
    }
}

/// `Rule.To`.
#[derive(Default)]
struct To(Operation);

impl Shape for To {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        fields.refuse_unknown();
        Self(fields.required("operation"))
    }
}
