//! Which kind a document is of, by name, group and version.

use crate::{
    Kind, Path,
    decode::Context,
    finding::{Problem, Rule},
    suggest::nearest,
    yaml::{Node, Value},
};

/// Why a document is not read.
pub(super) enum Unrecognised {
    /// No such kind.
    Kind(Problem),
    /// The kind is known, the version is not.
    Version(Kind, Problem),
}

/// Finds the kind by name and group. A missing `apiVersion` is let through: many examples leave it out.
pub(super) fn recognise(name: &str, api_version: Option<&str>) -> Result<Kind, Unrecognised> {
    let (group, version) = match api_version {
        Some(text) => {
            text.rsplit_once('/').map_or((Some(""), text), |(group, version)| (Some(group), version))
        }
        None => (None, ""),
    };
    let Some(kind) = Kind::named(name).filter(|kind| group.is_none_or(|group| group == kind.group())) else {
        return Err(Unrecognised::Kind(unknown_kind(name, group.unwrap_or_default())));
    };
    if group.is_none() || kind.versions().contains(&version) {
        return Ok(kind);
    }
    let full = |version: &str| {
        if kind.group().is_empty() { version.to_owned() } else { format!("{}/{version}", kind.group()) }
    };
    let all: Vec<_> = kind.versions().iter().map(|version| format!("`{}`", full(version))).collect();
    let problem = Problem::new("is not a known version").found(full(version)).expected(all.join(" or "));
    let problem = match nearest(version, kind.versions().iter().copied()) {
        Some(near) => problem.remedy(format!("did you mean `{}`?", full(near))),
        None => problem,
    };
    Err(Unrecognised::Version(kind, problem))
}

fn unknown_kind(name: &str, group: &str) -> Problem {
    let of = if group.is_empty() { String::new() } else { format!(" of {group}") };
    let problem = Problem::new(format!("kind `{name}`{of} is not known and is skipped"));
    match nearest(name, Kind::ALL.map(Kind::name)) {
        Some(near) if near != name => problem.remedy(format!("did you mean `{near}`?")),
        _ => problem,
    }
}

/// Says that a version is missing, which is read as the newest.
pub(super) fn warn_of_missing_version(kind: Kind, node: &Node<'_>, context: &mut Context<'_>) {
    // The seldom case of a misspelt name is told as an unknown field, with the right spelling.
    if let Value::Object(members) = &node.value
        && !members.iter().any(|member| member.key.eq_ignore_ascii_case("apiVersion"))
    {
        let version = kind.versions()[0];
        let group = if kind.group().is_empty() { String::new() } else { format!("{}/", kind.group()) };
        let problem = Problem::new("is missing").expected(format!("`{group}{version}`"));
        context.warning(
            Rule::Invalid,
            &Path::ROOT.field("apiVersion"),
            problem.remedy("it is read as if it were there"),
        );
    }
}
