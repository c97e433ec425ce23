//! What clients will hold against a certificate although it can serve: its dates and its names.

use resources::{Problem, Rule};
use snapshot::{AlternativeName, CertificateFacts, TrustBundle, Validity};

use super::Unusable;

/// Warnings about the dates of a certificate at a time, in seconds since 1970.
pub(super) fn dates(facts: &CertificateFacts, named: (&'static str, &str), now: i64) -> Option<Unusable> {
    dates_of(("the certificate", "peers refuse it"), facts, named, now)
}

/// Warnings about the dates of authorities.
pub(super) fn dates_of_authorities(
    bundle: &TrustBundle,
    named: (&'static str, &str),
    now: i64,
) -> Vec<Unusable> {
    let facts = bundle.certificates.iter().filter_map(|certificate| CertificateFacts::of(certificate).ok());
    let words = |facts: &CertificateFacts| format!("the CA certificate `{}`", facts.subject);
    let dates = |facts| dates_of((&words(&facts), "what it has signed is refused"), &facts, named, now);
    facts.filter_map(dates).collect()
}

fn dates_of(
    (what, consequence): (&str, &str),
    facts: &CertificateFacts,
    (field, shown): (&'static str, &str),
    now: i64,
) -> Option<Unusable> {
    let (date, remedy) = match facts.validity(now) {
        Validity::Good => return None,
        Validity::NotYet => (facts.beginning(), "correct its dates or the clock"),
        Validity::Ending(_) | Validity::Expired => (facts.expiry(), "renew it"),
    };
    let warning = facts.validity(now).warning().unwrap_or_default();
    let problem = match facts.validity(now) {
        Validity::Ending(_) => Problem::new(format!("{what} {warning}")),
        _ => Problem::new(format!("{what} {warning}, and {consequence}")),
    };
    let problem = problem.found(format!("{shown}, {date}")).remedy(remedy);
    Some(Unusable { rule: Rule::Certificate, field, problem })
}

/// Warnings about a certificate that a server with these hosts shows at a time, in seconds since 1970.
pub(super) fn doubts(
    facts: &CertificateFacts,
    (field, shown): (&'static str, &str),
    hosts: &[&str],
    now: i64,
) -> Vec<Unusable> {
    let is_named = hosts.iter().any(|host| facts.names.iter().any(|name| is_for(name, host)));
    let names = (!is_named).then(|| {
        let names: Vec<&str> = facts.names.iter().map(AlternativeName::as_str).collect();
        let names = if names.is_empty() { "no names".to_owned() } else { names.join(", ") };
        Problem::new("the certificate is for no host of this server, so clients refuse it")
            .found(format!("{shown}, for {names}"))
            .expected(format!("`{}`", hosts.join("`, `")))
    });
    let names = names.map(|problem| Unusable { rule: Rule::Certificate, field, problem });
    dates(facts, (field, shown), now).into_iter().chain(names).collect()
}

/// Whether clients that ask for some name of a server's host take a certificate with this name (RFC 6125 §6.4).
fn is_for(name: &AlternativeName, host: &str) -> bool {
    match name {
        AlternativeName::Ip(address) => host == "*" || address == host,
        AlternativeName::Dns(name) => {
            let name = name.to_ascii_lowercase();
            match (host.strip_prefix('*'), name.strip_prefix('*')) {
                // A wildcard of a certificate stands for one label, that of a server for any number.
                (Some(suffix), _) => name.ends_with(suffix),
                (None, Some(suffix)) => {
                    host.strip_suffix(suffix).is_some_and(|label| !label.is_empty() && !label.contains('.'))
                }
                (None, None) => name == host,
            }
        }
        AlternativeName::Uri(_) | AlternativeName::Email(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 60 * 60;

    fn told(names: &[&str], hosts: &[&str], now: i64) -> Vec<String> {
        let facts = CertificateFacts {
            subject: String::new(),
            serial: String::new(),
            not_before: 100 * DAY,
            not_after: 200 * DAY,
            names: names.iter().map(|name| AlternativeName::Dns((*name).to_owned())).collect(),
            issuer: String::new(),
            public_key: Vec::new(),
        };
        let doubts = doubts(&facts, ("credentialName", "cert"), hosts, now);
        doubts.into_iter().map(|doubt| doubt.problem.to_string()).collect()
    }

    #[test]
    fn dates_are_told_from_thirty_days_before() {
        let at = |day| told(&["a.com"], &["a.com"], day * DAY);
        assert!(at(100).is_empty() && at(170).is_empty());
        assert_eq!(
            at(171),
            ["the certificate expires in less than 30 days (found `cert, 1970-07-20T00:00:00Z`; renew it)"]
        );
        assert!(at(200)[0].starts_with("the certificate has expired"), "{:?}", at(200));
        assert!(at(99)[0].starts_with("the certificate is not good yet"), "{:?}", at(99));
    }

    #[test]
    fn a_certificate_must_be_for_some_host() {
        for (names, hosts) in [
            (&["A.com"][..], &["b.com", "a.com"][..]),
            (&["*.a.com"], &["x.a.com"]),
            (&["x.y.a.com"], &["*.a.com"]),
            (&["*.a.com"], &["*.a.com"]),
            (&["a.com"], &["*"]),
        ] {
            assert_eq!(told(names, hosts, 150 * DAY), Vec::<String>::new(), "{names:?} {hosts:?}");
        }
        for (names, hosts) in
            [(&["a.com"][..], &["b.com"][..]), (&["*.a.com"], &["x.y.a.com", "a.com"]), (&[], &["a.com"])]
        {
            let told = told(names, hosts, 150 * DAY);
            assert_eq!(told.len(), 1, "{names:?} {hosts:?}: {told:?}");
            assert!(told[0].starts_with("the certificate is for no host of this server"), "{told:?}");
        }
    }
}
