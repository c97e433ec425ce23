//! Hosts of Gateway servers, and whose VirtualServices may attach to them.

use crate::{
    Path,
    decode::{Context, Decode},
    finding::Problem,
    host,
    yaml::Node,
};

/// A host of a server, `[namespace/]host`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ServerHost {
    /// Which namespaces' VirtualServices may attach.
    pub namespace: HostNamespace,
    /// Name, `*.suffix`, `*` or IP address, in lower case.
    pub host: String,
}

/// The namespaces admitted by a [`ServerHost`].
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum HostNamespace {
    /// Every namespace (`*/`, or no namespace written).
    #[default]
    Any,
    /// The Gateway's own (`./`).
    Own,
    /// This one.
    Named(String),
}

impl Decode for ServerHost {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        let text = String::decode(node, at, context);
        if text.contains("://") {
            let problem = Problem::new("is a URL").found(&text);
            context.error(at, problem.expected("the host alone, such as `shop.example`"));
            return Self::default();
        }
        let (namespace, host) = text.split_once('/').unwrap_or(("*", &text));
        let expected =
            "a host name with a dot, `*.suffix`, `*` or an IP address, after an optional `namespace/`";
        let namespace = match namespace {
            "*" => HostNamespace::Any,
            "." => HostNamespace::Own,
            name if host::is_namespace(name) => HostNamespace::Named(name.to_owned()),
            _ => {
                let problem = Problem::new("names no namespace").found(&text);
                context.error(at, problem.expected("`name/host`, `./host`, `*/host` or `host`"));
                HostNamespace::Any
            }
        };
        let wrong = match host::check_wildcard_host(host) {
            Ok(()) if host::is_short(host) => Some("is a short name"),
            Ok(()) => None,
            Err(wrong) => Some(wrong),
        };
        if let Some(wrong) = wrong.filter(|_| !text.is_empty() || !context.refused) {
            context.error(at, Problem::new(wrong).found(&text).expected(expected));
        }
        Self { namespace, host: host.to_ascii_lowercase() }
    }
}
