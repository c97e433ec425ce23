//! Which kind a document is of, by name, group and version.

use crate::{
    Kind, Path,
    decode::Context,
    finding::{Problem, Rule},
    shown::name_or_quoted,
    suggest::{did_you_mean, nearest},
    yaml::{Node, Value},
};

/// Why a document is not read.
pub(super) enum Unrecognised {
    /// No such kind, or none that is supported.
    Kind(Rule, Problem),
    /// No such kind or group, but nearly one: the document may be what the file held before.
    Misspelt(Problem),
    /// The kind is known, the version is not.
    Version(Kind, Problem),
}

/// Finds the kind by name and group. A missing `apiVersion` is let through: many examples leave it out.
pub(super) fn recognise(
    name: &str,
    api_version: Option<&str>,
    node: &Node<'_>,
) -> Result<Kind, Unrecognised> {
    let (group, version) = match api_version {
        Some(text) => {
            text.rsplit_once('/').map_or((Some(""), text), |(group, version)| (Some(group), version))
        }
        None => (None, ""),
    };
    let Some(kind) = Kind::named(name).filter(|kind| group.is_none_or(|group| group == kind.group())) else {
        let group = group.unwrap_or_default();
        return Err(unsupported_kind(name, group, node).unwrap_or_else(|| unknown_kind(name, group, node)));
    };
    if group.is_none() || kind.versions().contains(&version) {
        return Ok(kind);
    }
    let full = |version: &str| full_version(kind, version);
    let all: Vec<_> = kind.versions().iter().map(|version| format!("`{}`", full(version))).collect();
    let problem = Problem::new("is not a known version").found(full(version)).expected(all.join(" or "));
    let near = nearest(version, kind.versions().iter().copied());
    let problem = problem.perhaps_remedy(near.map(|near| format!("did you mean `{}`?", full(near))));
    Err(Unrecognised::Version(kind, problem))
}

fn unknown_kind(name: &str, group: &str, node: &Node<'_>) -> Unrecognised {
    let of = if group.is_empty() { String::new() } else { format!(" of {}", name_or_quoted(group)) };
    let problem = Problem::new(format!("{}: the kind{of} is not known and is skipped", whose(name, node)));
    match Kind::named(name) {
        Some(kind) => {
            let problem =
                problem.expected(format!("`apiVersion: {}`", full_version(kind, kind.versions()[0])));
            match nearest(group, [kind.group()]) {
                Some(_) => Unrecognised::Misspelt(problem),
                None => Unrecognised::Kind(Rule::UnknownKind, problem),
            }
        }
        None => match did_you_mean(name, Kind::ALL.map(Kind::name)) {
            Some(meant) => Unrecognised::Misspelt(problem.remedy(meant)),
            None => {
                Unrecognised::Kind(Rule::UnknownKind, problem.remedy("nothing to do if no proxy needs it"))
            }
        },
    }
}

/// Kinds that Istio's users write and that change nothing here, each with what to do instead.
fn unsupported_kind(name: &str, group: &str, node: &Node<'_>) -> Option<Unrecognised> {
    let instead = match (group, name) {
        ("networking.istio.io", "EnvoyFilter") => {
            "there is no Envoy to patch: use the fields of Istio's kinds"
        }
        ("networking.istio.io", "ProxyConfig") => {
            "use flags of `postern-agent proxy`, `--concurrency` for example"
        }
        ("networking.istio.io", "WorkloadGroup") => "write a WorkloadEntry for each workload",
        ("extensions.istio.io", _) => "no plugins are loaded: let a service do it",
        ("install.istio.io", _) => "it is for Istio's installer: use flags and `--mesh-config`",
        ("gateway.networking.k8s.io", "Gateway") => "write a Gateway of networking.istio.io",
        ("gateway.networking.k8s.io", _) => {
            "write a VirtualService of networking.istio.io with the Gateway it is for"
        }
        ("networking.k8s.io", "Ingress") => "write a Gateway and a VirtualService of networking.istio.io",
        _ => return None,
    };
    let message =
        format!("{}: the kind of {group} is not supported by Postern and is skipped", whose(name, node));
    Some(Unrecognised::Kind(Rule::NotSupported, Problem::new(message).remedy(instead)))
}

/// `Kind namespace/name`, as far as it is written and can be meant.
fn whose(kind: &str, node: &Node<'_>) -> String {
    let text = |name: &str| node.member("metadata")?.value.member(name)?.value.text().map(name_or_quoted);
    let kind = name_or_quoted(kind);
    match (text("namespace"), text("name")) {
        (Some(namespace), Some(name)) => format!("{kind} {namespace}/{name}"),
        (None, Some(name)) => format!("{kind} {name}"),
        (_, None) => kind.into_owned(),
    }
}

fn full_version(kind: Kind, version: &str) -> String {
    if kind.group().is_empty() { version.to_owned() } else { format!("{}/{version}", kind.group()) }
}

/// Says that a version is missing, which is read as the newest.
pub(super) fn warn_of_missing_version(kind: Kind, node: &Node<'_>, context: &mut Context<'_>) {
    // The seldom case of a misspelt name is told as an unknown field, with the right spelling.
    if let Value::Object(members) = &node.value
        && !members.iter().any(|member| member.key.eq_ignore_ascii_case("apiVersion"))
    {
        let problem =
            Problem::new("is missing").expected(format!("`{}`", full_version(kind, kind.versions()[0])));
        context.warning(
            Rule::Invalid,
            &Path::ROOT.field("apiVersion"),
            problem.remedy("it is read as if it were there"),
        );
    }
}
