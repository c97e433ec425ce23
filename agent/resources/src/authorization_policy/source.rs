//! Who asks, and what for.

use crate::{
    Path,
    decode::{Context, Fields, Shape},
    finding::Problem,
    host,
    request_authentication::check_none_empty,
};

/// Values of one attribute: it must have one of the first and none of the second. An empty list asks nothing.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Values {
    /// Values of which one must be there; `*` at the beginning or end stands for anything.
    pub values: Vec<String>,
    /// Values of which none may be there.
    pub not_values: Vec<String>,
}

impl Values {
    fn read(fields: &mut Fields<'_, '_, '_>, name: &'static str, not_name: &'static str) -> Self {
        Self { values: fields.or_default(name), not_values: fields.or_default(not_name) }
    }

    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty() && self.not_values.is_empty()
    }
}

/// Fields of one attribute: its name, its negated name, its values.
type Named<'v> = (&'static str, &'static str, &'v Values);

/// Who asks (`Source`); all conditions must hold.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Source {
    /// Identities of mutual TLS, such as `cluster.local/ns/default/sa/web`.
    pub principals: Values,
    /// Identities of tokens, `issuer/subject`.
    pub request_principals: Values,
    /// Namespaces of mutual TLS.
    pub namespaces: Values,
    /// Service accounts, `name` or `namespace/name`; no wildcards.
    pub service_accounts: Values,
    /// Addresses or ranges of the peer.
    pub ip_blocks: Values,
    /// Addresses or ranges of the client, behind trusted proxies.
    pub remote_ip_blocks: Values,
    /// Trust domains of mutual TLS.
    pub trust_domains: Values,
}

impl Shape for Source {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        fields.refuse_unknown();
        Self {
            principals: Values::read(fields, "principals", "notPrincipals"),
            request_principals: Values::read(fields, "requestPrincipals", "notRequestPrincipals"),
            namespaces: Values::read(fields, "namespaces", "notNamespaces"),
            service_accounts: Values::read(fields, "serviceAccounts", "notServiceAccounts"),
            ip_blocks: Values::read(fields, "ipBlocks", "notIpBlocks"),
            remote_ip_blocks: Values::read(fields, "remoteIpBlocks", "notRemoteIpBlocks"),
            trust_domains: Values::read(fields, "trustDomains", "notTrustDomains"),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        if *self == Self::default() {
            let problem = Problem::new("is empty").expected("at least one condition");
            return context.error(at, problem.remedy("remove `from` to mean anybody"));
        }
        let names_more = !self.principals.is_empty() || !self.namespaces.is_empty();
        if !self.service_accounts.is_empty() && names_more {
            let problem = Problem::new("names service accounts beside `principals` or `namespaces`");
            context.error(at, problem.remedy("write `namespace/name` service accounts alone"));
        }
        for (name, not_name, values) in self.named() {
            for (name, list) in [(name, &values.values), (not_name, &values.not_values)] {
                let at = at.field(name);
                match name {
                    "ipBlocks" | "notIpBlocks" | "remoteIpBlocks" | "notRemoteIpBlocks" => {
                        check_addresses(list, &at, context);
                    }
                    "serviceAccounts" | "notServiceAccounts" => check_service_accounts(list, &at, context),
                    "trustDomains" | "notTrustDomains" => check_trust_domains(list, &at, context),
                    _ => check_none_empty(list, &at, context),
                }
            }
        }
    }
}

impl Source {
    fn named(&self) -> [Named<'_>; 7] {
        [
            ("principals", "notPrincipals", &self.principals),
            ("requestPrincipals", "notRequestPrincipals", &self.request_principals),
            ("namespaces", "notNamespaces", &self.namespaces),
            ("serviceAccounts", "notServiceAccounts", &self.service_accounts),
            ("ipBlocks", "notIpBlocks", &self.ip_blocks),
            ("remoteIpBlocks", "notRemoteIpBlocks", &self.remote_ip_blocks),
            ("trustDomains", "notTrustDomains", &self.trust_domains),
        ]
    }

    /// Whether some condition can be told of a connection without looking into HTTP.
    pub(super) fn names_connection(&self) -> bool {
        let http_only = |name: &str| matches!(name, "requestPrincipals" | "trustDomains");
        self.named().into_iter().any(|(name, _, values)| !http_only(name) && !values.is_empty())
    }

    /// The fields in use that tell who the peer is, rather than where.
    pub(super) fn identities(&self) -> impl Iterator<Item = &'static str> {
        let of_identity = |named: &Named<'_>| !matches!(named.0, "ipBlocks" | "remoteIpBlocks");
        let used = |(name, not_name, values): Named<'_>| {
            let fields = [(name, values.values.is_empty()), (not_name, values.not_values.is_empty())];
            fields.into_iter().filter(|(_, empty)| !empty).map(|(name, _)| name).collect::<Vec<_>>()
        };
        self.named().into_iter().filter(of_identity).flat_map(used)
    }
}

/// What is asked for (`Operation`); all conditions must hold.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Operation {
    /// Hosts of HTTP requests, case ignored.
    pub hosts: Values,
    /// Ports of the workload.
    pub ports: Values,
    /// Methods of HTTP requests.
    pub methods: Values,
    /// Paths of HTTP requests; `{*}` stands for a segment and a last `{**}` for any number.
    pub paths: Values,
}

impl Shape for Operation {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        fields.refuse_unknown();
        Self {
            hosts: Values::read(fields, "hosts", "notHosts"),
            ports: Values::read(fields, "ports", "notPorts"),
            methods: Values::read(fields, "methods", "notMethods"),
            paths: Values::read(fields, "paths", "notPaths"),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        if *self == Self::default() {
            let problem = Problem::new("is empty").expected("at least one condition");
            return context.error(at, problem.remedy("remove `to` to mean anything"));
        }
        let texts = [
            ("hosts", &self.hosts.values),
            ("notHosts", &self.hosts.not_values),
            ("methods", &self.methods.values),
            ("notMethods", &self.methods.not_values),
        ];
        for (name, list) in texts {
            check_none_empty(list, &at.field(name), context);
        }
        for (name, list) in [("ports", &self.ports.values), ("notPorts", &self.ports.not_values)] {
            check_ports(list, &at.field(name), context);
        }
        for (name, list) in [("paths", &self.paths.values), ("notPaths", &self.paths.not_values)] {
            check_paths(list, &at.field(name), context);
        }
    }
}

pub(super) fn check_addresses(list: &[String], at: &Path<'_>, context: &mut Context<'_>) {
    for (index, text) in list.iter().enumerate().filter(|(_, text)| !host::is_subnet(text)) {
        let problem = Problem::new("is no address or range").found(text);
        context.error(&at.index(index), problem.expected("such as `10.0.0.1` or `10.0.0.0/8`"));
    }
}

pub(super) fn check_ports(list: &[String], at: &Path<'_>, context: &mut Context<'_>) {
    for (index, text) in list.iter().enumerate().filter(|(_, text)| text.parse::<u16>().is_err()) {
        context.error(&at.index(index), Problem::new("is not a port").found(text).expected("0–65535"));
    }
}

pub(super) fn check_service_accounts(list: &[String], at: &Path<'_>, context: &mut Context<'_>) {
    if list.len() > MOST_SERVICE_ACCOUNTS {
        let problem = Problem::new("has too many entries").found(list.len());
        context.error(at, problem.expected(format!("at most {MOST_SERVICE_ACCOUNTS}")));
    }
    let well_formed = |text: &String| {
        let parts: Vec<_> = text.split('/').collect();
        parts.len() <= 2
            && parts.iter().all(|part| !part.is_empty())
            && !text.contains('*')
            && text.len() <= 320
    };
    for (index, text) in list.iter().enumerate().filter(|(_, text)| !well_formed(text)) {
        let problem = Problem::new("is not a service account").found(text);
        context.error(&at.index(index), problem.expected("`name` or `namespace/name`, without `*`"));
    }
}

const MOST_SERVICE_ACCOUNTS: usize = 16;

pub(super) fn check_trust_domains(list: &[String], at: &Path<'_>, context: &mut Context<'_>) {
    let well_formed = |text: &str| {
        let rest = text.strip_prefix('*').or_else(|| text.strip_suffix('*')).unwrap_or(text);
        !text.is_empty() && !rest.contains(['*', '/'])
    };
    for (index, text) in list.iter().enumerate().filter(|(_, text)| !well_formed(text)) {
        let problem = Problem::new("is not a trust domain").found(text);
        context.error(&at.index(index), problem.expected("a name, with `*` only at its beginning or end"));
    }
}

fn check_paths(list: &[String], at: &Path<'_>, context: &mut Context<'_>) {
    check_none_empty(list, at, context);
    for (index, path) in list.iter().enumerate().filter(|(_, path)| !path.is_empty()) {
        if let Err(wrong) = check_template(path) {
            let problem = Problem::new(wrong).found(path);
            context.error(&at.index(index), problem.expected("`{*}` or a last `{**}` as whole segments"));
        }
    }
}

fn check_template(path: &str) -> Result<(), &'static str> {
    let is_template = path.contains("{*}") || path.contains("{**}");
    let is_literal = |segment: &str| {
        let mark = |c: char| "-._~%!$&'()+,;:@=".contains(c);
        !segment.is_empty() && segment.chars().all(|c| c.is_ascii_alphanumeric() || mark(c))
    };
    let mut ended = false;
    for segment in path.trim_matches('/').split('/') {
        match segment {
            "{*}" | "{**}" if ended => return Err("goes on after `{**}`"),
            "{*}" => {}
            "{**}" => ended = true,
            _ if segment.contains(['{', '}']) => return Err("holds a brace that is no placeholder"),
            _ if is_template && !is_literal(segment) => {
                return Err("has a segment that cannot stand beside placeholders");
            }
            _ => {}
        }
    }
    Ok(())
}
