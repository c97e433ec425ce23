//! `explain request` where the answer is given before any route, or instead of one.

mod policies;
mod sidecars;

use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use super::{offline, with};
use crate::support::printed;

/// What is said about a request to the gateway or sidecar of a directory with this file.
fn explained(yaml: &str, arguments: &[&str]) -> String {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("a.yaml"), yaml).unwrap();
    let command = [&["explain", "request"], arguments].concat();
    let text = printed(&with(&command, &offline(&directory)));
    let json = printed(&with(&[&command[..], &["-o", "json"]].concat(), &offline(&directory)));
    let json: Value = serde_json::from_str(&json).unwrap();
    let verdict = json["verdict"].as_str().unwrap();
    assert_eq!(text.lines().last().unwrap(), format!("verdict: {verdict}"), "JSON and text differ");
    text
}

fn verdict(yaml: &str, arguments: &[&str]) -> String {
    let text = explained(yaml, arguments);
    text.lines().last().unwrap().trim_start_matches("verdict: ").to_owned()
}

fn gateway(servers: &str) -> String {
    format!(
        "{{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {{name: edge}}, \
         spec: {{selector: {{istio: edge}}, servers: [{servers}]}}}}\n---\n"
    )
}

fn rules(http: &str) -> String {
    format!(
        "{{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {{name: web}}, \
         spec: {{hosts: [a.com], gateways: [edge], http: [{http}]}}}}\n---\n"
    )
}

const HTTP: &str = "{port: {number: 8080, name: http, protocol: HTTP}, hosts: [a.com]}";
const ANSWER: &str = "{directResponse: {status: 200}}";

fn https(tls: &str) -> String {
    format!("{{port: {{number: 8443, name: https, protocol: HTTPS}}, hosts: [a.com], tls: {tls}}}")
}

#[test]
fn clear_text_and_tls_meet_the_wrong_port() {
    let clear = gateway(HTTP) + &rules(ANSWER);
    let wanted = "400 DPE http1.codec_error: the client speaks TLS on a port that serves clear text";
    assert_eq!(verdict(&clear, &["GET", "https://a.com:8080/"]), wanted);
    let tls = gateway(&https("{mode: SIMPLE, credentialName: c}")) + &rules(ANSWER);
    let wanted = "connection closed (NR filter_chain_not_found): \
                  the client speaks clear text, and the port serves TLS only";
    assert_eq!(verdict(&tls, &["GET", "http://a.com:8443/"]), wanted);
}

#[test]
fn tls_fails_without_a_usable_certificate_and_may_ask_for_the_clients() {
    let broken =
        "{apiVersion: v1, kind: Secret, metadata: {name: c, namespace: shop}, stringData: {tls.crt: a}}\n";
    let at = ["GET", "https://a.com:8443/"];
    let simple = gateway(&https("{mode: SIMPLE, credentialName: c}")) + &rules(ANSWER);
    let refused = verdict(&(simple.clone() + broken), &at);
    assert!(
        refused.starts_with("TLS handshake refused: credentialName: Secret shop/c holds no"),
        "{refused}"
    );
    let elsewhere = explained(&simple, &at);
    assert!(elsewhere.contains("its certificate is not among what is looked at here"), "{elsewhere}");
    let mutual = gateway(&https("{mode: MUTUAL, credentialName: c}")) + &rules(ANSWER);
    let asked = explained(&mutual, &at);
    assert!(asked.contains("clients must show a certificate issued by kubernetes://c-cacert"), "{asked}");
    assert!(asked.trim_end().ends_with(", for clients that show a certificate"), "{asked}");
}

#[test]
fn a_host_of_another_server_name_is_served_where_the_data_path_serves_it() {
    let server = |host: &str, credential: &str| {
        format!(
            "{{port: {{number: 8443, name: {host}, protocol: HTTPS}}, hosts: [{host}.com], \
             tls: {{mode: SIMPLE, credentialName: {credential}}}}}"
        )
    };
    let servers = [server("a", "one"), server("b", "one"), server("c", "two")].join(", ");
    let rules = rules(ANSWER).replace("[a.com]", "['*']");
    let asked =
        |host: &str| explained(&(gateway(&servers) + &rules), &["GET", "https://a.com:8443/", "-H", host]);
    let served = asked("Host: b.com");
    assert!(served.contains("it is served by another server name of the port"), "{served}");
    assert!(served.contains("\nverdict: 200 answered by the route itself"), "{served}");
    let refused = asked("Host: c.com");
    assert!(refused.contains("\nverdict: 421 NR misdirected_request: "), "{refused}");
    let unknown = asked("Host: d.com");
    assert!(unknown.ends_with("verdict: 404 NR route_not_found\n"), "{unknown}");
}

#[test]
fn a_host_that_asks_clients_for_certificates_is_not_served_under_the_name_of_another() {
    let server = |name: &str, host: &str, mode: &str| {
        format!(
            "{{port: {{number: 8443, name: {name}, protocol: HTTPS}}, hosts: ['{host}'], \
             tls: {{mode: {mode}, credentialName: one}}}}"
        )
    };
    let servers = [server("all", "*.a.com", "SIMPLE"), server("bank", "bank.a.com", "MUTUAL")].join(", ");
    let bank = rules(ANSWER).replace("[a.com]", "[bank.a.com]");
    let resources = gateway(&servers) + &bank;
    for host in ["bank.a.com", "Bank.a.com.", "bank.a.com:8443"] {
        let asked =
            explained(&resources, &["GET", "https://foo.a.com:8443/", "-H", &format!("Host: {host}")]);
        assert!(asked.contains("\nverdict: 421 NR misdirected_request: "), "{host}: {asked}");
    }
    let served = verdict(&resources, &["GET", "https://bank.a.com:8443/"]);
    assert_eq!(
        served,
        "200 answered by the route itself (0 bytes of body), for clients that show a certificate"
    );
}

#[test]
fn a_server_whose_host_is_an_address_is_told_by_what_the_client_dials() {
    let server = |host: &str| {
        format!(
            "{{port: {{number: 8443, name: h{}, protocol: HTTPS}}, hosts: ['{host}'], \
             tls: {{mode: SIMPLE, credentialName: c}}}}",
            host.len()
        )
    };
    let resources = gateway(&[server("a.com"), server("10.0.0.1")].join(", "))
        + &rules(ANSWER).replace("[a.com]", "[10.0.0.1]");
    let at = |url: &str| verdict(&resources, &["GET", url]);
    assert_eq!(at("https://10.0.0.1:8443/"), "200 answered by the route itself (0 bytes of body)");
    let other = at("https://10.0.0.2:8443/");
    assert!(other.starts_with("connection closed (NR filter_chain_not_found)"), "{other}");
}

#[test]
fn routes_see_the_scheme_that_the_gateway_itself_says() {
    let by_scheme = "{match: [{headers: {x-forwarded-proto: {exact: https}}}], directResponse: {status: 201}}, \
                     {directResponse: {status: 202}}";
    let servers = [HTTP.to_owned(), https("{mode: SIMPLE, credentialName: c}")].join(", ");
    let resources = gateway(&servers) + &rules(by_scheme);
    let status = |arguments: &[&str]| verdict(&resources, arguments)[..3].to_owned();
    assert_eq!(status(&["GET", "https://a.com:8443/"]), "201");
    assert_eq!(status(&["GET", "http://a.com:8080/"]), "202");
    // Nobody is believed who claims another.
    assert_eq!(status(&["GET", "http://a.com:8080/", "-H", "x-forwarded-proto: https"]), "202");
}

#[test]
fn a_redirect_to_https_tells_where() {
    let redirecting =
        "{port: {number: 8080, name: http, protocol: HTTP}, hosts: [a.com], tls: {httpsRedirect: true}}";
    let told = verdict(&(gateway(redirecting) + &rules(ANSWER)), &["GET", "http://a.com:8080/b?c"]);
    assert_eq!(
        told,
        "301 redirect to https://a.com/b?c: server `http` of Gateway shop/edge wants https of clear text (httpsRedirect)"
    );
    let elsewhere = https("{mode: SIMPLE, credentialName: c}");
    let both = gateway(&format!("{redirecting}, {elsewhere}"));
    let told = verdict(&(both + &rules(ANSWER)), &["GET", "http://a.com:8080/b?c"]);
    assert!(told.starts_with("301 redirect to https://a.com:8443/b?c: "), "{told}");
}

#[test]
fn proxies_before_the_gateway_are_believed_about_the_scheme() {
    let redirecting =
        "{port: {number: 8080, name: http, protocol: HTTP}, hosts: [a.com], tls: {httpsRedirect: true}}";
    let mesh = |proxies: u32| {
        format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata:\n  \
             mesh: '{{defaultConfig: {{gatewayTopology: {{numTrustedProxies: {proxies}}}}}}}'\n"
        )
    };
    let told = |proxies: u32, scheme: &str| {
        let resources = gateway(redirecting) + &rules(ANSWER) + &mesh(proxies);
        let header = format!("x-forwarded-proto: {scheme}");
        explained(&resources, &["GET", "http://a.com:8080/", "-H", &header])
    };
    let believed = told(1, "HTTPS");
    assert!(believed.contains("x-forwarded-proto is believed"), "{believed}");
    assert!(believed.contains("verdict: 200 "), "{believed}");
    for (proxies, scheme) in [(0, "https"), (1, "http"), (1, "gopher")] {
        assert!(told(proxies, scheme).contains("verdict: 301 redirect"), "{proxies} {scheme}");
    }
}

#[test]
fn faults_and_preflights_are_answered_before_anything_is_sent() {
    let fault = |share: u32| {
        let rule = format!(
            "{{fault: {{abort: {{httpStatus: 418, percentage: {{value: {share}}}}}}}, route: [{{destination: {{host: b}}}}]}}"
        );
        verdict(&(gateway(HTTP) + &rules(&rule)), &["GET", "http://a.com:8080/"])
    };
    assert_eq!(fault(100), "418 FI fault_filter_abort");
    assert!(fault(99).starts_with("503 NC cluster_not_found"), "{}", fault(99));
    let cors = "{corsPolicy: {allowOrigins: [{exact: 'https://b.com'}], unmatchedPreflights: IGNORE}, \
                directResponse: {status: 204}}";
    let preflight = |origin: &str| {
        let origin = format!("origin: {origin}");
        let url = "http://a.com:8080/";
        let asked = ["OPTIONS", url, "-H", &origin, "-H", "access-control-request-method: GET"];
        verdict(&(gateway(HTTP) + &rules(cors)), &asked)
    };
    assert_eq!(preflight("https://b.com"), "200 answered to the preflight: its origin is allowed");
    let denied = "200 answered to the preflight without permission: its origin is not allowed";
    assert_eq!(preflight("https://c.com"), denied);
    assert_eq!(
        verdict(&(gateway(HTTP) + &rules(ANSWER)), &["CONNECT", "http://a.com:8080/"]),
        "404 NR route_not_found: CONNECT is not routed"
    );
}

#[test]
fn a_gateway_for_other_proxies_is_named() {
    let text = explained(
        &(gateway(HTTP) + &rules(ANSWER)),
        &["GET", "http://a.com:8080/", "--labels", "istio=ingressgateway"],
    );
    let wanted =
        "not Gateway shop/edge: it selects proxies with istio=edge, and this one has istio=ingressgateway";
    assert!(text.contains(wanted), "{text}");
    assert!(text.ends_with("verdict: no listener: the connection is refused\n"), "{text}");
}

#[test]
fn an_address_that_nobody_gave_is_introduced() {
    let service = "{apiVersion: v1, kind: Service, metadata: {name: b}, spec: {clusterIP: 10.96.0.9, ports: [{name: http, port: 80}]}}";
    let known = explained(service, &["GET", "http://b/"]);
    assert!(
        known.starts_with("destination   10.96.0.9:80\n              the address of service `b`\n"),
        "{known}"
    );
    let unknown = explained(service, &["GET", "http://nobody/"]);
    assert!(unknown.starts_with("destination   192.0.2.1:80\n"), "{unknown}");
    assert!(unknown.contains("no service here has the name `nobody`"), "{unknown}");
    let given = explained(service, &["GET", "http://nobody/", "--dst", "10.96.0.9:80"]);
    assert!(given.starts_with("listener "), "{given}");
    // What is no HTTP has its address, too, wherever rules lead it.
    let entry = |name: &str, last: u8| {
        format!(
            "{{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {{name: {name}}}, spec: {{hosts: \
             [{name}.com], addresses: [240.1.1.{last}], resolution: STATIC, endpoints: [{{address: 10.9.9.9}}], \
             ports: [{{number: 443, name: tls, protocol: TLS}}]}}}}\n---\n"
        )
    };
    let rule = "{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: a}, spec: {hosts: [a.com], \
                tls: [{match: [{port: 443, sniHosts: [a.com]}], route: [{destination: {host: b.com}}]}]}}\n---\n";
    let of_tls =
        [&entry("a", 1), &entry("b", 2), rule, &service.replace("http, port: 80", "tcp, port: 443")].concat();
    for (name, address, cluster) in [
        ("a.com", "240.1.1.1", "b.com"),
        ("b.com", "240.1.1.2", "b.com"),
        ("b", "10.96.0.9", "b.shop.svc.cluster.local"),
    ] {
        let text = explained(&of_tls, &["GET", &format!("https://{name}/")]);
        assert!(text.starts_with(&format!("destination   {address}:443\n")), "{text}");
        assert!(text.contains(&format!("\ncluster       outbound|443||{cluster}\n")), "{text}");
    }
}

#[test]
fn headers_of_a_cluster_nobody_knows_are_told() {
    let weighted = "{route: [{destination: {host: gone}, weight: 1, headers: {request: {set: {x-a: b}}}}, \
                    {destination: {host: lost}, weight: 1}]}";
    let text = explained(&(gateway(HTTP) + &rules(weighted)), &["GET", "http://a.com:8080/"]);
    assert!(text.contains("request header for this cluster `x-a` set to `b`"), "{text}");
}

#[test]
fn names_that_are_looked_up_on_request_are_told_with_their_port_and_those_that_are_not_with_the_reason() {
    let entry = "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: any}, spec: {hosts: \
                 ['*.b.com'], ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8081}], resolution: \
                 DYNAMIC_DNS}}\n---\n";
    let to = |rewrite: &str| rules(&format!("{{{rewrite}route: [{{destination: {{host: '*.b.com'}}}}]}}"));
    let at = ["GET", "http://a.com:8080/"];
    let rewritten = explained(&(gateway(HTTP) + entry + &to("rewrite: {authority: x.b.com}, ")), &at);
    assert!(rewritten.contains("what DNS says of x.b.com when it is asked for, on port 8081"), "{rewritten}");
    let plain = explained(&(gateway(HTTP) + entry + &to("")), &at);
    assert!(plain.contains("`a.com:8080` is none of its names, *.b.com"), "{plain}");
    assert!(plain.ends_with("verdict: 503 UH no_healthy_upstream (outbound|80||*.b.com)\n"), "{plain}");
}

#[test]
fn who_dials_a_sidecar_itself_was_on_the_way_to_nowhere_else() {
    let yaml = "{apiVersion: networking.istio.io/v1, kind: Sidecar, metadata: {name: s, namespace: shop}, spec: {egress: [\
                {port: {number: 9080, protocol: HTTP, name: http}, bind: 127.0.0.1, captureMode: NONE, \
                hosts: ['*/a.com']}, {hosts: ['*/*']}]}}\n---\n\
                {apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: a, namespace: shop}, spec: {\
                hosts: [a.com], ports: [{number: 9080, name: http, protocol: HTTP}, {number: 8080, name: b, protocol: HTTP}], \
                resolution: NONE}}\n";
    let dialled = verdict(yaml, &["GET", "http://a.com:9080/", "--listener", "9080"]);
    assert_eq!(dialled, "503 UH no_healthy_upstream (outbound|9080||a.com)");
    let captured = verdict(yaml, &["GET", "http://a.com:8080/"]);
    assert!(captured.starts_with("forwarded to outbound|8080||a.com"), "{captured}");
}

#[test]
fn a_host_that_is_not_served_names_the_rules_that_wanted_it_and_why_they_do_not_count() {
    let rules = |name: &str, host: &str, rest: &str| {
        format!(
            "{{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {{name: {name}}}, \
             spec: {{hosts: ['{host}'], {rest}, http: [{ANSWER}]}}}}\n---\n"
        )
    };
    let all = gateway(HTTP)
        + &rules("served", "a.com", "gateways: [edge]")
        + &rules("mesh", "b.com", "gateways: [mesh]")
        + &rules("foreign", "*.b.com", "gateways: [inner, mesh]")
        + &rules("narrow", "c.com", "gateways: [edge]")
        + &rules("hidden, namespace: other", "d.com", "gateways: [shop/edge], exportTo: [.]");
    for (host, name, because) in [
        ("b.com", "shop/mesh", "it is for sidecars only: `gateways` names no Gateway"),
        (
            "x.b.com",
            "shop/foreign",
            "none of its `gateways` (shop/inner) is a Gateway whose `selector` selects this proxy",
        ),
        (
            "C.com",
            "shop/narrow",
            "no server of Gateway shop/edge has this host for its `http` rules (`servers[].hosts`)",
        ),
        ("d.com", "other/hidden", "it is not exported to the gateway's namespace (`exportTo`)"),
    ] {
        let text = explained(&all, &["GET", &format!("http://{host}:8080/")]);
        let line = format!("not VirtualService {name}: {because}\n");
        assert!(text.contains(&line), "{host}: {text}");
        assert_eq!(text.matches("not VirtualService").count(), 1, "{text}");
    }
}

#[test]
fn the_server_that_redirects_is_named() {
    let other = "{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {name: aaa}, spec: {selector: {istio: edge}, \
                 servers: [{port: {number: 8080, name: web, protocol: HTTP}, hosts: [a.com], tls: {httpsRedirect: true}}]}}\n---\n";
    let redirected = verdict(&(gateway(HTTP) + other + &rules(ANSWER)), &["GET", "http://a.com:8080/"]);
    assert!(redirected.starts_with("301 redirect to https://a.com"), "{redirected}");
    let by = ": server `web` of Gateway shop/aaa wants https of clear text (httpsRedirect)";
    assert!(redirected.ends_with(by), "{redirected}");
}

#[test]
fn offers_of_other_protocols_are_seen_as_the_data_path_sees_them() {
    let yaml = gateway(HTTP)
        + &rules(
            "{match: [{headers: {upgrade: {exact: websocket}}}], directResponse: {status: 201}}, \
             {match: [{headers: {te: {regex: '.*'}}}], directResponse: {status: 202}}, {directResponse: {status: 204}}",
        );
    let asked = |fields: &[&str]| {
        let fields = fields.iter().flat_map(|field| ["-H", field]);
        verdict(&yaml, &["GET", "http://a.com:8080/"].into_iter().chain(fields).collect::<Vec<_>>())
    };
    let offer = asked(&["Connection: Upgrade", "Upgrade: websocket"]);
    assert!(offer.starts_with("201"), "{offer}");
    for ignored in [&["Upgrade: websocket"][..], &["Connection: te, x", "TE: gzip"], &["Connection: te"]] {
        let answer = asked(ignored);
        assert!(answer.starts_with("204"), "{ignored:?}: {answer}");
    }
}
