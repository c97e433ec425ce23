//! Cross-origin rules (`corsPolicy`): which preflights are answered here, and what other answers say.

use snapshot::{CorsPolicy, CorsVerdict, RequestHead};

/// What a route's rules mean for one request.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// Nothing.
    Unconcerned,
    /// Answered here, 200 with these lines.
    Preflight(Vec<Line>),
    /// Forwarded; these lines replace those of the answer.
    Allowed(Vec<Line>),
}

/// A field of an answer.
pub(super) type Line = (&'static str, Vec<u8>);

/// Judges a request by the rules of its route.
pub(super) fn judge(policy: &CorsPolicy, request: &impl RequestHead) -> Verdict {
    match policy.judge(request) {
        CorsVerdict::Unconcerned => Verdict::Unconcerned,
        CorsVerdict::Preflight(origin) => Verdict::Preflight(policy_lines(policy, origin)),
        CorsVerdict::Denied => Verdict::Preflight(Vec::new()),
        CorsVerdict::Allowed(origin) => {
            let mut lines = origin_lines(policy, origin);
            push(&mut lines, EXPOSE_HEADERS, &policy.expose_headers);
            Verdict::Allowed(lines)
        }
    }
}

const EXPOSE_HEADERS: &str = "access-control-expose-headers";

fn origin_lines(policy: &CorsPolicy, origin: &[u8]) -> Vec<Line> {
    let mut lines = vec![("access-control-allow-origin", origin.to_vec())];
    if policy.allow_credentials {
        push(&mut lines, "access-control-allow-credentials", "true");
    }
    lines
}

fn policy_lines(policy: &CorsPolicy, origin: &[u8]) -> Vec<Line> {
    let mut lines = origin_lines(policy, origin);
    push(&mut lines, "access-control-allow-methods", &policy.allow_methods);
    push(&mut lines, "access-control-allow-headers", &policy.allow_headers);
    push(&mut lines, EXPOSE_HEADERS, &policy.expose_headers);
    if let Some(seconds) = policy.max_age {
        push(&mut lines, "access-control-max-age", &seconds.to_string());
    }
    lines
}

fn push(lines: &mut Vec<Line>, name: &'static str, value: &str) {
    if !value.is_empty() {
        lines.push((name, value.as_bytes().to_vec()));
    }
}

#[cfg(test)]
mod tests {
    use snapshot::TextMatch;

    use super::*;

    struct Asked(&'static str, &'static [(&'static str, &'static str)]);

    impl RequestHead for Asked {
        fn method(&self) -> &str {
            self.0
        }
        fn authority(&self) -> &str {
            "api"
        }
        fn path_and_query(&self) -> &str {
            "/"
        }
        fn header(&self, name: &str) -> Option<&[u8]> {
            self.1.iter().find(|(found, _)| *found == name).map(|(_, value)| value.as_bytes())
        }
        fn visit_headers(&self, _: &mut dyn FnMut(&str, &[u8])) {}
    }

    fn policy() -> CorsPolicy {
        CorsPolicy {
            allow_origins: vec![TextMatch::Exact("https://a".to_owned())],
            allow_methods: "GET,POST".to_owned(),
            allow_headers: "x-a".to_owned(),
            expose_headers: "x-b".to_owned(),
            max_age: Some(86_400),
            allow_credentials: true,
            ignore_unmatched_preflights: false,
        }
    }

    fn judged(policy: &CorsPolicy, request: &Asked) -> (&'static str, String) {
        let text = |lines: Vec<Line>| {
            let line = |(name, value): Line| format!("{name}: {}\n", String::from_utf8(value).unwrap());
            lines.into_iter().map(line).collect()
        };
        match judge(policy, request) {
            Verdict::Unconcerned => ("unconcerned", String::new()),
            Verdict::Preflight(lines) => ("preflight", text(lines)),
            Verdict::Allowed(lines) => ("allowed", text(lines)),
        }
    }

    const ORIGIN: (&str, &str) = ("origin", "https://a");
    const ASKED: (&str, &str) = ("access-control-request-method", "PUT");

    #[test]
    fn a_preflight_from_an_allowed_origin_gets_the_rules() {
        assert_eq!(
            judged(&policy(), &Asked("OPTIONS", &[ORIGIN, ASKED])),
            (
                "preflight",
                "access-control-allow-origin: https://a\naccess-control-allow-credentials: true\n\
                 access-control-allow-methods: GET,POST\naccess-control-allow-headers: x-a\n\
                 access-control-expose-headers: x-b\naccess-control-max-age: 86400\n"
                    .to_owned()
            )
        );
    }

    #[test]
    fn a_preflight_from_elsewhere_is_forwarded_or_answered_without_rules() {
        let foreign = Asked("OPTIONS", &[("origin", "https://b"), ASKED]);
        assert_eq!(judged(&policy(), &foreign).0, "unconcerned");
        let ignoring = CorsPolicy { ignore_unmatched_preflights: true, ..policy() };
        assert_eq!(judged(&ignoring, &foreign), ("preflight", String::new()));
    }

    #[test]
    fn other_requests_are_forwarded_and_their_answers_name_the_origin() {
        let lines = "access-control-allow-origin: https://a\naccess-control-allow-credentials: true\n\
                     access-control-expose-headers: x-b\n";
        assert_eq!(judged(&policy(), &Asked("GET", &[ORIGIN, ASKED])), ("allowed", lines.to_owned()));
        assert_eq!(judged(&policy(), &Asked("OPTIONS", &[ORIGIN])), ("allowed", lines.to_owned()));
        assert_eq!(judged(&policy(), &Asked("GET", &[])).0, "unconcerned");
    }
}
