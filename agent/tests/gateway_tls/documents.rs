//! What public documents about TLS at Istio's gateways show with curl and openssl, done to the running program: their
//! resources and commands as they are written, names and ports included.
//!
//! | document | part | test |
//! | --- | --- | --- |
//! | "Istio in Action" notes, and its chapter 4 | TLS by credential, redirect to https | `webapp_is_served_by_https_and_redirected_to_it` |
//! | the same | mutual TLS by a generic Secret | `webapp_asks_for_certificates` |
//! | Istio's "Secure Gateways" | mutual TLS with a client's certificate by `openssl x509 -req` alone | `clients_need_no_extensions` |
//! | "Istio in Action" notes | several hosts with credentials of their own | `each_host_has_its_own_certificate` |
//! | the same | SNI passthrough on 31400 | `simple_sni_1_is_passed_on_unopened` |
//! | "Controlling Istio traffic with Gateways" | TLS for one host, by address, with openssl's own authority | `httpbin_is_served_by_address` |
//! | the same | mutual TLS for one host, `subjectAltNames` | `httpbin_knows_its_client_by_name` |
//! | the same | TLS for several hosts, files | `httpbin_a_and_b_have_files_of_their_own` |
//! | "istio gateway" | the Gateway of bookinfo | `bookinfo_is_served` |
//!
//! Each is done with RSA and with ECDSA, and with what must fail beside what must succeed. What the documents do with
//! httpie is done with curl, which is told where the ports of the Service lead.

mod site;

use std::process::Command;

use crate::support::{has, text};

use site::{Kind, Site};

// The resources of the documents; `/CERTS/` stands for where certificates are mounted.
const BOOKINFO: &str = include_str!("documents/bookinfo.yaml");
const HTTPBIN: &str = include_str!("documents/httpbin.yaml");
const HTTPBIN_AB: &str = include_str!("documents/httpbin-ab.yaml");
const HTTPBIN_MUTUAL: &str = include_str!("documents/httpbin-mutual.yaml");
const MULTI: &str = include_str!("documents/multi.yaml");
const MUTUAL: &str = include_str!("documents/mutual.yaml");
const REDIRECT: &str = include_str!("documents/redirect.yaml");
const SNI: &str = include_str!("documents/sni.yaml");

// Curl's exit codes.
const NOT_VERIFIED: i32 = 60;
const HANDSHAKE_FAILED: i32 = 35;

fn for_each_kind(test: impl Fn(Kind)) {
    if has("curl") && has("openssl") {
        [Kind::Rsa, Kind::Ecdsa].into_iter().for_each(test);
    }
}

#[test]
fn webapp_is_served_by_https_and_redirected_to_it() {
    for_each_kind(|kind| {
        let site = Site::new(kind);
        site.certificate("webapp", "ca", "DNS:webapp.istioinaction.io");
        let secret = site.tls_secret("webapp-credential", "webapp");
        let site = site.start(&[REDIRECT, &secret]);
        let url = "https://webapp.istioinaction.io:443/api/catalog";
        let host = ["-H", "Host: webapp.istioinaction.io"];
        let trusting = ["--cacert", "ca.crt"];
        let served =
            site.curl(&[&host[..], &trusting, &["-w", "%{http_code} %{ssl_verify_result}", url]].concat());
        assert!(text(&served).ends_with("200 0"), "{served:?}");
        let distrusted = site.curl(&[&host[..], &["--cacert", "other-ca.crt", url]].concat());
        assert_eq!(distrusted.status.code(), Some(NOT_VERIFIED), "{distrusted:?}");
        // Redirected, and served when the redirect is followed.
        let clear = "http://webapp.istioinaction.io/api/catalog";
        let redirected = site.curl(&["-w", "%{http_code} %{redirect_url}", clear]);
        assert_eq!(text(&redirected), "301 https://webapp.istioinaction.io/api/catalog");
        let followed = site.curl(&[&trusting[..], &["-L", "-w", "%{http_code}", clear]].concat());
        assert!(text(&followed).ends_with("200"), "{followed:?}");
        let shown = site.s_client(443, &["-servername", "webapp.istioinaction.io", "-CAfile", "ca.crt"]);
        assert!(text(&shown).contains("Verify return code: 0 (ok)"), "{}", text(&shown));
        assert!(text(&shown).contains(kind.signature()), "{kind:?}: {}", text(&shown));
    });
}

#[test]
fn webapp_asks_for_certificates() {
    for_each_kind(|kind| {
        let site = Site::new(kind);
        site.certificate("webapp", "ca", "DNS:webapp.istioinaction.io");
        site.certificate("client", "ca", "DNS:client.istioinaction.io");
        site.certificate("stranger", "other-ca", "DNS:client.istioinaction.io");
        let secret = site.generic_secret("webapp-credential-mtls", "webapp", "ca");
        let site = site.start(&[MUTUAL, &secret]);
        let ask = |more: &[&str]| {
            let common = ["-H", "Host: webapp.istioinaction.io", "--cacert", "ca.crt", "-w", "%{http_code}"];
            site.curl(&[&common[..], more, &["https://webapp.istioinaction.io:443/api/catalog"]].concat())
        };
        let served = ask(&["--cert", "client.crt", "--key", "client.key"]);
        assert!(text(&served).ends_with("200"), "{served:?}");
        for version in ["1.2", "1.3"] {
            // With the TLS certificate alone, as before, it fails.
            let without = ask(&["--tls-max", version]);
            assert!(text(&without).contains("alert certificate required"), "{version}: {without:?}");
            let stranger = ask(&["--tls-max", version, "--cert", "stranger.crt", "--key", "stranger.key"]);
            assert!(text(&stranger).contains("alert unknown ca"), "{version}: {stranger:?}");
        }
        // Port 80 goes on serving clear text.
        let clear = site.curl(&["-w", "%{http_code}", "http://webapp.istioinaction.io/api/catalog"]);
        assert!(text(&clear).ends_with("200"), "{clear:?}");
    });
}

#[test]
fn clients_need_no_extensions() {
    for_each_kind(|kind| {
        let site = Site::new(kind);
        site.certificate_without_extensions("webapp", "ca");
        site.certificate_without_extensions("client", "ca");
        site.certificate_without_extensions("stranger", "other-ca");
        let secret = site.generic_secret("webapp-credential-mtls", "webapp", "ca");
        let site = site.start(&[MUTUAL, &secret]);
        for version in ["1.2", "1.3"] {
            let ask = |name: &str| {
                let (certificate, key) = (format!("{name}.crt"), format!("{name}.key"));
                let shown = ["--cert", &certificate, "--key", &key, "--tls-max", version];
                let url = "https://webapp.istioinaction.io/api/catalog";
                text(&site.curl(&[&["-k", "-w", "%{http_code}"], &shown[..], &[url]].concat()))
            };
            let served = ask("client");
            // What the endpoint is told of it.
            assert!(served.ends_with("200"), "{version}: {served}");
            assert!(
                served.contains("x-forwarded-client-cert: Hash=") && served.contains("CN=client"),
                "{served}"
            );
            assert!(ask("stranger").contains("alert unknown ca"), "{version}");
        }
    });
}

#[test]
fn each_host_has_its_own_certificate() {
    for_each_kind(|kind| {
        let site = Site::new(kind);
        site.certificate("webapp", "ca", "DNS:webapp.istioinaction.io");
        site.certificate("catalog", "other-ca", "DNS:catalog.istioinaction.io");
        let secrets = site.tls_secret("webapp-credential", "webapp")
            + &site.tls_secret("catalog-credential", "catalog");
        let site = site.start(&[MULTI, &secrets]);
        let ask = |host: &str, authority: &str, more: &[&str]| {
            let url = format!("https://{host}.istioinaction.io/");
            site.curl(&[&["--cacert", authority, "-w", "%{http_code}"], more, &[&url]].concat())
        };
        for (host, own, other) in
            [("webapp", "ca.crt", "other-ca.crt"), ("catalog", "other-ca.crt", "ca.crt")]
        {
            assert!(text(&ask(host, own, &[])).ends_with("200"), "{host}");
            assert_eq!(ask(host, other, &[]).status.code(), Some(NOT_VERIFIED), "{host}");
        }
        // A request for the other host over a connection that proved only this one's name.
        let misdirected = ask("webapp", "ca.crt", &["-H", "Host: catalog.istioinaction.io"]);
        assert!(text(&misdirected).ends_with("421"), "{misdirected:?}");
        let nobody = ask("nobody", "ca.crt", &[]);
        assert_eq!(nobody.status.code(), Some(HANDSHAKE_FAILED), "{nobody:?}");
    });
}

#[test]
fn simple_sni_1_is_passed_on_unopened() {
    for_each_kind(|kind| {
        let site = Site::new(kind);
        site.certificate("backend", "ca", "DNS:simple-sni-1.istioinaction.io");
        let backend = site.tls_endpoint("backend", "simple-tls-service-1", 80);
        let site = site.start(&[SNI, &backend]);
        let url = "https://simple-sni-1.istioinaction.io:31400/";
        let passed = site.curl(&["--cacert", "ca.crt", "-w", "%{http_code}", url]);
        assert!(text(&passed).ends_with("200"), "{passed:?}");
        let other = site.curl(&["-k", "https://simple-sni-2.istioinaction.io:31400/"]);
        assert_eq!(other.status.code(), Some(HANDSHAKE_FAILED), "{other:?}");
        // What is not TLS has no server name.
        let clear = site.curl(&["http://simple-sni-1.istioinaction.io:31400/"]);
        assert!(!clear.status.success(), "{clear:?}");
    });
}

#[test]
fn httpbin_is_served_by_address() {
    for_each_kind(|kind| {
        let site = Site::new(kind);
        let names =
            "IP:192.168.0.62, IP:192.168.0.72, IP:192.168.0.73, DNS:httpbin.istio.local, DNS:app.istio.local";
        site.certificate("tls", "ca", names);
        let mounted = site.mounted(HTTPBIN);
        let site = site.start(&[&mounted]);
        let redirected = site.curl(&["-i", "-k", "http://192.168.0.62/status/418"]);
        let (head, _) =
            text(&redirected).split_once("\r\n\r\n").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        for line in ["HTTP/1.1 301 ", "content-length: 0", "location: https://192.168.0.62/status/418"] {
            assert!(head.contains(line), "{line}: {head}");
        }
        for arguments in [
            &["-k", "-L", "http://192.168.0.62/status/418"][..],
            &["-k", "https://192.168.0.62/status/418"],
            // An address is no server name: the chain for every name serves it.
            &["--cacert", "ca.crt", "https://192.168.0.62/status/418"],
        ] {
            let teapot = site.curl(&[&["-w", "%{http_code}"], arguments].concat());
            assert_eq!(text(&teapot), "-=[ teapot ]=-418", "{arguments:?}");
        }
        let elsewhere = site.curl(&["-k", "-w", "%{http_code}", "https://192.168.0.62/anything"]);
        assert_eq!(text(&elsewhere), "404");
        let unnamed = site.curl(&["--cacert", "ca.crt", "https://192.168.0.99/status/418"]);
        assert_eq!(unnamed.status.code(), Some(NOT_VERIFIED), "{unnamed:?}");
    });
}

#[test]
fn httpbin_knows_its_client_by_name() {
    for_each_kind(|kind| {
        let site = Site::new(kind);
        site.certificate("tls", "ca", "IP:192.168.0.62");
        site.certificate("istio-is5", "ca", "DNS:is5.istio.local");
        site.certificate("istio-is6", "ca", "DNS:is6.istio.local");
        let mounted = site.mounted(HTTPBIN_MUTUAL);
        let site = site.start(&[&mounted]);
        let ask = |more: &[&str]| {
            site.curl(&[&["-k", "-w", "%{http_code}"], more, &["https://192.168.0.62/status/418"]].concat())
        };
        let served = ask(&["--cert", "istio-is5.crt", "--key", "istio-is5.key"]);
        assert_eq!(text(&served), "-=[ teapot ]=-418");
        let other = ask(&["--cert", "istio-is6.crt", "--key", "istio-is6.key"]);
        assert!(text(&other).contains("alert access denied"), "{other:?}");
        assert!(text(&ask(&[])).contains("alert certificate required"));
    });
}

#[test]
fn httpbin_a_and_b_have_files_of_their_own() {
    for_each_kind(|kind| {
        let site = Site::new(kind);
        let domain = "7cb9a9b7b318440399a0.eastus.aksapp.io";
        for name in ["httpbin-a", "httpbin-b"] {
            site.certificate(name, "ca", &format!("DNS:{name}.{domain}"));
        }
        let mounted = site.mounted(HTTPBIN_AB);
        let site = site.start(&[&mounted]);
        let ask = |host: &str, path: &str| {
            let url = format!("https://{host}.{domain}{path}");
            text(&site.curl(&["--cacert", "ca.crt", "-w", "%{http_code}", &url]))
        };
        assert_eq!(ask("httpbin-a", "/status/418"), "-=[ teapot ]=-418");
        assert!(ask("httpbin-b", "/headers").ends_with("200"));
        assert_eq!(
            (ask("httpbin-a", "/headers"), ask("httpbin-b", "/status/418")),
            ("404".into(), "404".into())
        );
    });
}

#[test]
fn bookinfo_is_served() {
    for_each_kind(|kind| {
        let site = Site::new(kind);
        site.certificate("tls", "ca", "DNS:bookinfo.com");
        let mounted = site.mounted(BOOKINFO);
        let site = site.start(&[&mounted]);
        let ask = |path: &str| {
            let url = format!("https://bookinfo.com{path}");
            text(&site.curl(&["--cacert", "ca.crt", "-o", "/dev/null", "-w", "%{http_code}", &url]))
        };
        assert_eq!((ask("/reviews/1"), ask("/ratings")), ("200".into(), "404".into()));
    });
}

#[test]
fn h2load_is_served_over_tls() {
    if !has("h2load") {
        return;
    }
    for_each_kind(|kind| {
        let site = Site::new(kind);
        site.certificate("webapp", "ca", "DNS:webapp.istioinaction.io");
        let secret = site.tls_secret("webapp-credential", "webapp");
        let site = site.start(&[REDIRECT, &secret]);
        for (more, protocol) in [(&[][..], "h2"), (&["--h1"], "http/1.1")] {
            let output = Command::new("h2load")
                .args([
                    "-n",
                    "2000",
                    "-c",
                    "8",
                    "-m",
                    "10",
                    "--connect-to",
                    &format!("127.0.0.1:{}", site.port(443)),
                ])
                .args(more)
                .arg("https://webapp.istioinaction.io/api/catalog")
                .output()
                .unwrap();
            let said = text(&output);
            for expected in [
                "2000 succeeded, 0 failed, 0 errored, 0 timeout",
                "status codes: 2000 2xx",
                "TLS Protocol: TLSv1.3",
                &format!("Application protocol: {protocol}"),
            ] {
                assert!(said.contains(expected), "{expected}: {said}");
            }
        }
    });
}
