//! What a workload may call.

use std::{collections::HashSet, net::IpAddr};

use super::{CaptureMode, SidecarPort};
use crate::{
    Path,
    decode::{Context, Decode, Fields, Shape},
    finding::{Problem, Rule},
    host, unix_socket,
    yaml::Node,
};

/// `IstioEgressListener`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct EgressListener {
    /// Port listened on; absent means every port of the hosts.
    pub port: Option<SidecarPort>,
    /// Address or `unix://` path listened on.
    pub bind: Option<String>,
    /// How traffic reaches it.
    pub capture_mode: CaptureMode,
    /// Hosts seen through it; at least one.
    pub hosts: Vec<EgressHost>,
}

impl Shape for EgressListener {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let bind: Option<String> = fields.optional("bind");
        Self {
            port: fields.optional("port"),
            bind: bind.filter(|bind| !bind.is_empty()),
            capture_mode: fields.or_default("captureMode"),
            hosts: fields.required("hosts"),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        if self.hosts.is_empty() {
            context
                .error(&at.field("hosts"), Problem::new("is empty").expected("at least one host, or `*/*`"));
        }
        self.check_bind(at, context);
        self.check_hosts(at, context);
    }
}

impl EgressListener {
    fn is_unix(&self) -> bool {
        self.bind.as_deref().is_some_and(unix_socket::is_unix)
    }

    fn check_bind(&self, at: &Path<'_>, context: &mut Context<'_>) {
        let number = self.port.as_ref().map(|port| port.number);
        let bind = self.bind.as_deref().unwrap_or_default();
        let port_at = at.field("port");
        if let Some(path) = unix_socket::path_of(bind) {
            if let Err(problem) = path {
                context.error(&at.field("bind"), problem);
            }
            if self.capture_mode == CaptureMode::Iptables {
                let problem = Problem::new("cannot redirect to a unix socket").found("IPTABLES");
                context.error(&at.field("captureMode"), problem.expected("NONE"));
            }
            if number.is_some_and(|number| number != 0) {
                let problem = Problem::new("a unix socket has no port").found(number.unwrap_or_default());
                context.error(&port_at.field("number"), problem.expected("0 with this bind"));
            }
            return;
        }
        if number == Some(0) {
            let problem =
                Problem::new("is missing or zero").expected("1–65535, or a `bind` to a unix socket");
            context.error(&port_at.field("number"), problem);
        }
        if !bind.is_empty() && bind.parse::<IpAddr>().is_err() {
            let problem = Problem::new("is no address to listen on").found(bind);
            context.error(
                &at.field("bind"),
                problem.expected(format!("an IP address or {}", unix_socket::FORM)),
            );
        }
    }

    fn check_hosts(&self, at: &Path<'_>, context: &mut Context<'_>) {
        let hosts = at.field("hosts");
        for (index, host) in self.hosts.iter().enumerate() {
            if self.hosts[..index].iter().take(MOST_COMPARED).any(|earlier| earlier == host) {
                let problem = Problem::new("is written twice").found(host);
                context.warning(Rule::Invalid, &hosts.index(index), problem.remedy("remove one of the two"));
            }
        }
        let all = self.hosts.iter().position(EgressHost::is_everything);
        if let Some(index) = all
            && self.hosts.iter().any(|host| {
                !host.is_everything() && host.namespace != EgressNamespace::None && !host.is_excluded
            })
        {
            let problem = Problem::new("takes in every other host of the list").found("*/*");
            context.warning(Rule::Invalid, &hosts.index(index), problem.remedy("remove it, or the others"));
        }
    }
}

// Pairs are compared only in lists that a person could have written.
const MOST_COMPARED: usize = 1_000;

/// Which listener is for which port: the one without a port takes what is left, so it comes last, and once.
pub(super) fn check_listeners(listeners: &[EgressListener], at: &Path<'_>, context: &mut Context<'_>) {
    let list = at.field("egress");
    let last = listeners.len().saturating_sub(1);
    let mut numbers = HashSet::new();
    for (index, listener) in listeners.iter().enumerate() {
        let number = listener.port.as_ref().map(|port| port.number).filter(|number| *number != 0);
        if let Some(number) = number.filter(|number| !numbers.insert(*number)) {
            let (at, problem) = (list.index(index), Problem::new("is the port of an earlier listener"));
            let port = at.field("port");
            context.error(&port.field("number"), problem.found(number).expected("each port once"));
        }
        let takes_the_rest = listener.port.is_none() && !listener.is_unix();
        if takes_the_rest && index != last {
            let problem = Problem::new("has no port and is not the last of its list");
            context.error(&list.index(index), problem.expected("a `port`, or the end of the list"));
        }
    }
}

/// A host as seen by a workload, `namespace/host`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct EgressHost {
    /// Namespaces meant.
    pub namespace: EgressNamespace,
    /// Whether the hosts are taken away (`~namespace/host`) instead of added.
    pub is_excluded: bool,
    /// Name, `*.suffix` or `*`, in lower case.
    pub host: String,
}

/// The namespaces of an [`EgressHost`].
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum EgressNamespace {
    /// Every namespace (`*/`).
    #[default]
    Any,
    /// The Sidecar's own (`./`).
    Own,
    /// None at all (`~/`).
    None,
    /// This one.
    Named(String),
}

impl EgressHost {
    fn is_everything(&self) -> bool {
        self.namespace == EgressNamespace::Any && self.host == "*" && !self.is_excluded
    }
}

impl std::fmt::Display for EgressHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let namespace = match &self.namespace {
            EgressNamespace::Any => "*",
            EgressNamespace::Own => ".",
            EgressNamespace::None => "~",
            EgressNamespace::Named(name) => name,
        };
        write!(f, "{}{namespace}/{}", if self.is_excluded { "~" } else { "" }, self.host)
    }
}

impl Decode for EgressHost {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        let text = String::decode(node, at, context);
        let Some((namespace, host)) = text.split_once('/') else {
            if !text.is_empty() {
                let problem = Problem::new("names no namespace").found(&text);
                context.error(at, problem.expected("`namespace/host`, `./host`, `*/host` or `~/*`"));
            }
            return Self::default();
        };
        let (is_excluded, name) = match namespace.strip_prefix('~') {
            Some(rest) if !rest.is_empty() => (true, rest),
            _ => (false, namespace),
        };
        let namespace = match name {
            "*" => EgressNamespace::Any,
            "." => EgressNamespace::Own,
            "~" => EgressNamespace::None,
            name if host::is_namespace(name) => EgressNamespace::Named(name.to_owned()),
            _ => {
                let problem = Problem::new("names no namespace").found(&text);
                context.error(at, problem.expected("`namespace/host`, `./host`, `*/host` or `~/*`"));
                EgressNamespace::Any
            }
        };
        let wrong = match host::check_wildcard_host(host) {
            Ok(()) if host::is_short(host) => Some("is a short name"),
            Ok(()) => None,
            Err(wrong) => Some(wrong),
        };
        if let Some(wrong) = wrong {
            let problem = Problem::new(wrong).found(&text);
            context
                .error(at, problem.expected("a host name with a dot, `*.suffix` or `*` after the namespace"));
        }
        Self { namespace, is_excluded, host: host.to_ascii_lowercase() }
    }
}
