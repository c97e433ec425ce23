use crate::testing::{findings, gateway};

fn server(fields: &str) -> String {
    let body = fields.replace('\n', "\n    ");
    format!(
        "kind: Gateway\nmetadata: {{name: gw}}\napiVersion: networking.istio.io/v1\nspec:\n  servers:\n  - {body}\n"
    )
}

const PORT: &str = "port: {number: 80, name: http, protocol: HTTP}";

fn one(fields: &str) -> String {
    let findings = findings(&server(fields));
    assert_eq!(findings.len(), 1, "{findings:#?}");
    findings[0].strip_prefix("test.yaml:").unwrap().replace("Gateway default/gw: spec.servers[0]", "")
}

#[test]
fn hosts_carry_the_namespaces_they_admit() {
    let text =
        server(&format!("{PORT}\nhosts: ['*', '*/a.com', ./B.com, 'prod/*.c.com', 10.0.0.1, 'fd00::1']"));
    let hosts: Vec<_> =
        gateway(&text).servers[0].hosts.iter().map(|h| format!("{:?} {}", h.namespace, h.host)).collect();
    let expected =
        ["Any *", "Any a.com", "Own b.com", "Named(\"prod\") *.c.com", "Any 10.0.0.1", "Any fd00::1"];
    assert_eq!(hosts, expected);
}

#[test]
fn malformed_hosts_are_refused() {
    let expected =
        "expected a host name with a dot, `*.suffix`, `*` or an IP address, after an optional `namespace/`";
    let cases = [
        ("web", "is a short name"),
        ("*web.com", "is a partial wildcard"),
        ("foo.*.bar", "has a wildcard that is not at its beginning"),
    ];
    for (host, wrong) in cases {
        assert_eq!(
            one(&format!("{PORT}\nhosts: ['{host}']")),
            format!("7:13: .hosts[0]: {wrong} (found `{host}`; {expected})")
        );
    }
    assert!(one(&format!("{PORT}\nhosts: ['~/a.com']")).contains("names no namespace (found `~/a.com`"));
    assert_eq!(
        one(&format!("{PORT}\nhosts: []")),
        "7:5: .hosts: is empty (expected at least one host, or `*`)"
    );
}

#[test]
fn ports_are_complete_and_in_range() {
    let hosts = "hosts: ['*']";
    let port = |fields: &str| one(&format!("port: {{{fields}}}\n{hosts}"));
    assert_eq!(port("number: 80, protocol: HTTP"), "6:5: .port.name: is missing (expected text)");
    assert!(
        port("number: 70000, name: a, protocol: HTTP")
            .ends_with("is out of range (found `70000`; expected a whole number, 1–65535)")
    );
    assert!(
        port("number: 0, name: a, protocol: HTTP").ends_with("is out of range (found `0`; expected 1–65535)")
    );
    assert!(port("number: '80', name: a, protocol: HTTP").ends_with("remove the quotes)"));
    assert!(port("number: eighty, name: a, protocol: HTTP").contains("has the wrong type (found `eighty`"));
    assert!(port("number: 80, name: a, protocol: HTPP").ends_with("did you mean `HTTP`?)"));
    let expected = ".port.targetPort: is not for Gateways (write it in the Service that selects the gateway)";
    assert!(port("number: 80, name: a, protocol: HTTP, targetPort: 8080").ends_with(expected));
    assert_eq!(one(hosts), "6:5: .port: is missing (expected an object)");
}

#[test]
fn binds_are_addresses_or_unix_paths() {
    assert!(one(&format!("{PORT}\nhosts: ['*']\nbind: eth0")).contains("is no address to listen on"));
    assert!(one(&format!("{PORT}\nhosts: ['*']\nbind: unix:///a")).contains("a unix socket has no port"));
    let wrong = one("port: {number: 0, name: a, protocol: HTTP}\nhosts: ['*']\nbind: unix://a");
    assert!(wrong.contains(".bind: is no path of a unix socket (found `unix://a`"), "{wrong}");
    let unix = server("port: {number: 0, name: a, protocol: HTTP}\nhosts: ['*']\nbind: unix://@a");
    assert_eq!(gateway(&unix).servers[0].bind.as_deref(), Some("unix://@a"));
}

#[test]
fn tls_stands_where_it_has_a_meaning() {
    let with = |protocol: &str, tls: &str| {
        format!("port: {{number: 443, name: a, protocol: {protocol}}}\nhosts: ['*']\n{tls}")
    };
    assert!(one(&with("HTTPS", "")).contains(".tls: is missing on a port of protocol HTTPS"));
    assert!(
        one(&with("TCP", "tls: {mode: PASSTHROUGH}")).contains("has no meaning on a port of protocol TCP")
    );
    assert!(
        one(&with("HTTP", "tls: {mode: SIMPLE, credentialName: a}"))
            .contains("holds more than `httpsRedirect`")
    );
    assert!(
        gateway(&server(&with("HTTP", "tls: {httpsRedirect: true}"))).servers[0]
            .tls
            .as_ref()
            .unwrap()
            .https_redirect
    );
}

#[test]
fn servers_of_one_gateway_have_names_of_their_own() {
    let text = server(&format!("{PORT}\nhosts: ['*']"))
        + "  - port: {number: 81, name: http, protocol: HTTP}\n    hosts: ['*']\n";
    let findings = findings(&text);
    assert_eq!(findings.len(), 1);
    assert!(findings[0].contains("spec.servers[1].port.name: is used by an earlier server"), "{findings:?}");
}

#[test]
fn a_gateway_without_servers_is_refused() {
    let text =
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: gw}\nspec: {servers: []}\n";
    let expected = "test.yaml:4:8: Gateway default/gw: spec.servers: is empty (expected at least one server)";
    assert_eq!(findings(text), [expected]);
}

#[test]
fn a_redirect_needs_http_to_redirect_from() {
    let tls = "tls: {mode: SIMPLE, credentialName: a, httpsRedirect: true}";
    let wrong = one(&format!("port: {{number: 443, name: a, protocol: HTTPS}}\nhosts: ['*']\n{tls}"));
    assert!(wrong.contains(".tls.httpsRedirect: has no effect on a port of protocol HTTPS"), "{wrong}");
}

#[test]
fn names_and_selectors_are_kubernetes_own() {
    let text = server(&format!("{PORT}\nhosts: ['*']"));
    let expected = "test.yaml:2:18: Gateway default/gw.a: metadata.name: holds a dot, which the name of a Gateway cannot \
                    (found `gw.a`; expected letters, digits and `-`)";
    assert_eq!(findings(&text.replace("name: gw}", "name: gw.a}")), [expected]);
    let findings = findings(&format!("{text}  selector: {{'a b': c}}\n"));
    assert!(findings[0].contains("spec.selector[a b]: is not a label name"), "{findings:#?}");
}

#[test]
fn a_misnamed_list_is_one_message() {
    let text = server(PORT).replace("servers:", "apps:");
    let expected = "test.yaml:5:3: Gateway default/gw: spec.servers: field `servers` is missing and there is no field \
                    `apps` (found `apps`; expected `servers`; rename it if that is what is meant)";
    assert_eq!(findings(&text), [expected]);
}
