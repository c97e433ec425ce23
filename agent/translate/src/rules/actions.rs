//! Faults, cross-origin rules, rewrites and redirects.

use std::time::Duration;

use resources::{Percent, Problem, UnmatchedPreflights};
use snapshot::{
    AbortStatus, CorsPolicy, Fault, PathMatch, PathRewrite, Redirect, RedirectPort, SearchPattern, Share,
    TextMatch,
};

use super::{Report, matches::text_match};

/// Faults that any request meets; a share that is not written is none.
pub(super) fn fault(written: &resources::Fault) -> Option<Fault> {
    let share = |percentage: Option<Percent>| {
        let percentage = percentage.filter(|percent| percent.value > 0.0)?;
        Some(Share::of_percent(percentage.value))
    };
    let delay = written.delay.as_ref().and_then(|delay| {
        let time = delay.fixed_delay.filter(|time| *time > Duration::ZERO)?;
        Some((time, share(delay.percentage)?))
    });
    let abort = written.abort.as_ref().and_then(|abort| {
        let http = abort.http_status.and_then(|status| u16::try_from(status).ok()).map(AbortStatus::Http);
        let status =
            http.or_else(|| abort.grpc_status.as_deref().and_then(grpc_code).map(AbortStatus::Grpc))?;
        Some((status, share(abort.percentage)?))
    });
    (delay.is_some() || abort.is_some()).then_some(Fault { delay, abort })
}

fn grpc_code(name: &str) -> Option<u8> {
    let place = resources::GRPC_STATUS.iter().position(|known| *known == name)?;
    u8::try_from(place).ok()
}

pub(super) fn cors(written: &resources::CorsPolicy, report: &mut Report<'_, '_>) -> CorsPolicy {
    let mut allow_origins = Vec::with_capacity(written.allow_origins.len());
    for (index, origin) in written.allow_origins.iter().enumerate() {
        match text_match(origin) {
            // Envoy takes the origin `*` for all of them. An empty condition allows nothing.
            Ok(TextMatch::Exact(any)) if any == "*" => allow_origins.push(TextMatch::Present),
            Ok(TextMatch::Present) => {}
            Ok(origin) => allow_origins.push(origin),
            Err(bad) => {
                let problem = Problem::new(format!("{}: the origin is left out", bad.why)).found(bad.source);
                let problem = problem.remedy("write a simpler expression");
                let place = |rule: &resources::Path<'_>, then: &mut dyn FnMut(&resources::Path<'_>)| {
                    let policy = rule.field("corsPolicy");
                    let list = policy.field("allowOrigins");
                    then(&list.index(index));
                };
                report.error(place, problem);
            }
        }
    }
    CorsPolicy {
        allow_origins,
        allow_methods: written.allow_methods.join(","),
        allow_headers: written.allow_headers.join(","),
        expose_headers: written.expose_headers.join(","),
        max_age: written.max_age.map(|age| age.as_secs()),
        allow_credentials: written.allow_credentials.unwrap_or_default(),
        ignore_unmatched_preflights: written.unmatched_preflights == UnmatchedPreflights::Ignore,
    }
}

/// The change of the path, which follows from how the path was matched.
///
/// After a prefix its bytes are replaced; after an exact path or an expression the whole path is; where no path or `/`
/// was matched the leading `/` alone is, so that `/foo` makes `/footest` of `/test`.
pub(crate) fn path_rewrite(written: &resources::Rewrite, matched: &PathMatch) -> Option<PathRewrite> {
    if let Some(by_regex) = &written.uri_regex_rewrite {
        // Reading refuses what does not compile, but for what is too large.
        let search = SearchPattern::new(&by_regex.expression).ok()?;
        return Some(PathRewrite::Regex { search, replacement: by_regex.rewrite.clone() });
    }
    let text = written.uri.clone().filter(|uri| !uri.is_empty())?;
    Some(match matched {
        PathMatch::Exact(_) | PathMatch::Regex(_) => PathRewrite::Whole(text),
        PathMatch::Prefix(prefix) => PathRewrite::Prefix { matched: prefix.text.len(), text },
        PathMatch::Any => PathRewrite::Prefix { matched: 1, text },
    })
}

pub(crate) fn redirect(written: &resources::Redirect, matched: &PathMatch) -> Redirect {
    let prefix = match matched {
        PathMatch::Prefix(prefix) => prefix.text.len(),
        _ => 1,
    };
    let replaced_prefix =
        written.prefix_rewrite.clone().map(|text| PathRewrite::Prefix { matched: prefix, text });
    let number = written.port.map(RedirectPort::Number);
    let derived = written.derive_port.as_deref().map(|way| match way {
        "FROM_REQUEST_PORT" => RedirectPort::Request,
        _ => RedirectPort::SchemeDefault,
    });
    Redirect {
        status: written.redirect_code.and_then(|code| u16::try_from(code).ok()).unwrap_or(301),
        path: written.uri.clone().map(PathRewrite::Whole).or(replaced_prefix),
        authority: written.authority.clone().filter(|authority| !authority.is_empty()),
        port: number.or(derived),
        scheme: written.scheme.clone(),
    }
}
