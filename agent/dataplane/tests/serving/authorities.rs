//! Which authorities peers are believed by: those in force, and peers that are trusted themselves.

use rcgen::date_time_ymd;
use snapshot::{Authority, ClientCertificates, ServerCheck, TrustBundle};

use crate::{
    issuer::{Issued, Issuer},
    mutual::{asking, outcome, rules},
    origination::{TlsServer, dns, proxy, status, tls},
    tls::make,
};

/// An authority that ends in this year.
fn ending(year: i32) -> Issuer {
    Issuer::with(|params| params.not_after = date_time_ymd(year, 1, 1))
}

fn beginning(year: i32) -> Issuer {
    Issuer::with(|params| {
        params.not_before = date_time_ymd(year, 1, 1);
        params.not_after = date_time_ymd(year + 1, 1, 1);
    })
}

fn bundle(issuers: &[&Issuer]) -> Authority {
    let certificates = issuers.iter().map(|issuer| issuer.der()).collect();
    let bundle = TrustBundle { certificates, revocations: [].into() };
    Authority { name: "ca".to_owned(), bundle: Some(bundle) }
}

#[test]
fn clients_of_authorities_that_are_not_in_force_are_refused() {
    let server = make(&["a.com"]);
    let (ended, future, good) = (ending(2020), beginning(2090), ending(2090));
    for authorities in [&[&ended][..], &[&ended, &good], &[&future], &[&good, &future]] {
        let proxy = asking(&server, ClientCertificates::Required(rules(bundle(authorities))));
        for issuer in [&ended, &future, &good] {
            let outcome = outcome(&proxy, &server, Some(&issuer.client("me.com")));
            let trusted = authorities.iter().any(|one| std::ptr::eq(*one, issuer));
            match outcome {
                Ok(()) => assert!(trusted && std::ptr::eq(issuer, &good)),
                Err(why) if trusted => assert!(why.contains("CertificateExpired"), "{why}"),
                Err(_) => assert!(!trusted),
            }
        }
    }
}

#[test]
fn endpoints_of_authorities_that_are_not_in_force_are_refused() {
    let (ended, good) = (ending(2020), ending(2090));
    for (issuer, authorities, expected) in [
        (&good, &[&good][..], "200"),
        (&good, &[&ended, &good], "200"),
        (&ended, &[&ended, &good], "503"),
        (&ended, &[&ended], "503"),
    ] {
        let server = TlsServer::start(&issuer.issue(&[dns("a.com")], |_| {}), None, &[]);
        let proxy = proxy(&server, tls(ServerCheck::Authority(bundle(authorities), Vec::new())));
        assert_eq!(status(&proxy, "a.com"), expected, "{}", authorities.len());
    }
}

#[test]
fn who_has_signed_himself_is_trusted_where_his_certificate_is() {
    let server = make(&["a.com"]);
    let trust = |shown: &Issued| {
        let bundle = TrustBundle { certificates: [shown.der.clone()].into(), revocations: [].into() };
        Authority { name: "ca".to_owned(), bundle: Some(bundle) }
    };
    let [known, unknown, ended] = [2090, 2090, 2020]
        .map(|year| Issued::by_itself("a.com", |params| params.not_after = date_time_ymd(year, 1, 1)));
    for (shown, trusted, good) in
        [(&known, &known, true), (&unknown, &known, false), (&ended, &ended, false), (&ended, &known, false)]
    {
        let asking = asking(&server, ClientCertificates::Required(rules(trust(trusted))));
        assert_eq!(outcome(&asking, &server, Some(shown)).is_ok(), good);
        let endpoint = TlsServer::start(shown, None, &[]);
        let to_endpoint = proxy(&endpoint, tls(ServerCheck::Authority(trust(trusted), Vec::new())));
        assert_eq!(status(&to_endpoint, "a.com"), if good { "200" } else { "503" });
        assert_eq!(status(&to_endpoint, "b.com"), "503");
    }
}
