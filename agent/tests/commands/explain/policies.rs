//! `explain request` about what holds for the way to an endpoint and for clients of a workload, and who says so.

use super::explained;
use crate::support::{Setup, free_port, printed};

/// A service of the shop with two endpoints, of which one has a proxy of the mesh before it.
const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.96.0.1, selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}, {name: tcp-db, port: 5432}]}
---
apiVersion: v1
kind: Pod
metadata: {name: a, labels: {app: web, security.istio.io/tlsMode: istio}}
spec: {serviceAccountName: seller}
status: {podIP: 10.1.0.1, phase: Running}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.1.0.1], targetRef: {kind: Pod, name: a}}, {addresses: [10.1.0.2]}]
---
";

fn rule(name: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{name: {name}}}, \
         spec: {{host: web, {spec}}}}}\n---\n"
    )
}

fn policy(spec: &str) -> String {
    format!(
        "{{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {{name: strict}}, spec: {{{spec}}}}}\n---\n"
    )
}

#[track_caller]
fn assert_tells(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|told| told.trim_start() == *line), "no `{line}` in\n{text}");
    }
}

#[test]
fn what_an_application_asks_of_its_sidecar_counts_and_of_a_gateway_does_not() {
    let asked = [
        "GET",
        "http://web/",
        "-H",
        "x-envoy-upstream-rq-timeout-ms: 250",
        "-H",
        "X-Envoy-Upstream-Rq-Per-Try-Timeout-Ms: 100",
        "-H",
        "x-envoy-max-retries: 7",
        "-H",
        "x-envoy-retry-on: 5xx,retriable-status-codes",
    ];
    let text = explained(SERVICE, &asked);
    assert_tells(
        &text,
        &[
            "timeout 250ms, as the request itself asks (x-envoy-upstream-rq-timeout-ms)",
            "up to 7 retries on connect-failure,refused-stream,unavailable,cancelled,5xx, each try within 100ms, \
             as the request itself asks (x-envoy-…)",
        ],
    );
    let gateway =
        super::gateway(super::HTTP) + &super::rules("{timeout: 3s, route: [{destination: {host: web}}]}");
    let at_gateway = [&["GET", "http://a.com:8080/"], &asked[2..]].concat();
    let text = explained(&(gateway + SERVICE), &at_gateway);
    assert_tells(
        &text,
        &[
            "timeout 3s",
            "up to 2 retries on connect-failure,refused-stream,unavailable,cancelled",
            "x-envoy-… fields about time and retries are not believed: only an application asks its own sidecar",
        ],
    );
}

#[test]
fn a_deadline_of_grpc_is_told_where_it_is_the_shorter_limit() {
    let deadline = ["-H", "content-type: application/grpc", "-H", "grpc-timeout: 2S"];
    let text = explained(SERVICE, &[&["POST", "http://web/"], &deadline[..]].concat());
    assert_tells(&text, &["timeout 2s, the client's deadline (grpc-timeout)"]);
    let text = explained(SERVICE, &[&["GET", "http://web/"], &deadline[..]].concat());
    assert!(!text.contains("timeout"), "{text}");
}

#[test]
fn each_block_of_a_policy_is_told_with_the_level_that_has_it() {
    let mesh = "{apiVersion: v1, kind: ConfigMap, metadata: {name: istio, namespace: istio-system}, data: {mesh: \
                '{defaultTrafficPolicy: {connectionPool: {tcp: {connectTimeout: 3s}}}}'}}\n---\n";
    let host = "trafficPolicy: {loadBalancer: {simple: RANDOM}, connectionPool: {http: {http2MaxRequests: 9}}, \
                portLevelSettings: [{port: {number: 5432}, outlierDetection: {consecutive5xxErrors: 2}}]}";
    let subset = "subsets: [{name: v1, labels: {app: web}, trafficPolicy: {loadBalancer: {consistentHash: \
                  {httpHeaderName: X-User}}, outlierDetection: {consecutiveGatewayErrors: 4}}}]";
    let route = "{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: web}, spec: {hosts: [web], \
                 http: [{match: [{uri: {prefix: /v1}}], route: [{destination: {host: web, subset: v1}}]}, \
                 {route: [{destination: {host: web}}]}]}}\n---\n";
    let resources = [SERVICE, mesh, &rule("web", host), &rule("web-subsets", subset), route].concat();
    let whole = explained(&resources, &["GET", "http://web/"]);
    assert_tells(
        &whole,
        &[
            "policies of DestinationRule shop/web",
            "loadBalancer: RANDOM (trafficPolicy of DestinationRule shop/web)",
            "connectionPool: at most 9 requests under way, connecting within 3s \
             (trafficPolicy of DestinationRule shop/web over defaultTrafficPolicy of the mesh)",
        ],
    );
    assert!(!whole.contains("outlierDetection:"), "{whole}");
    let of_subset = explained(&resources, &["GET", "http://web/v1"]);
    assert_tells(
        &of_subset,
        &[
            "loadBalancer: hash of header `x-user` in a ring (the subset's trafficPolicy of DestinationRule shop/web-subsets)",
            "outlierDetection: ejected after 5 answers of 5xx or 4 answers of 502, 503 or 504 in a row, for 30s at first, \
             at most 10 % of the endpoints, or one (the subset's trafficPolicy of DestinationRule shop/web-subsets)",
        ],
    );
    // What settings for a port leave out is Istio's default, or the mesh's, whatever the rule says beside them.
    let of_port = explained(&resources, &["GET", "http://web:5432/"]);
    assert_tells(
        &of_port,
        &[
            "loadBalancer: LEAST_REQUEST (trafficPolicy.portLevelSettings of DestinationRule shop/web)",
            "connectionPool: connecting within 3s (trafficPolicy.portLevelSettings of DestinationRule shop/web \
             over defaultTrafficPolicy of the mesh)",
        ],
    );
    assert!(of_port.ends_with(
        "verdict: connection closed: UH no_healthy_upstream (outbound|5432||web.shop.svc.cluster.local)\n"
    ));
}

#[test]
fn tls_to_endpoints_is_told_with_its_names_and_who_asks_for_it() {
    let of_rule = |tls: &str| {
        let rule = rule("web", &format!("trafficPolicy: {{tls: {tls}}}"));
        explained(&(SERVICE.to_owned() + &rule), &["GET", "http://web/", "-H", "host: web:80"])
    };
    assert_tells(
        &of_rule("{mode: SIMPLE}"),
        &[
            "tls: SIMPLE (trafficPolicy of DestinationRule shop/web)",
            "server name `web`, the host asked for",
            "endpoints must show a certificate issued by an authority of the system for web",
        ],
    );
    assert_tells(
        &of_rule("{mode: SIMPLE, sni: a.com, caCertificates: /ca.pem, subjectAltNames: [b.com, c.com]}"),
        &[
            "server name `a.com`",
            "endpoints must show a certificate issued by file-root:/ca.pem for b.com or c.com",
        ],
    );
    assert_tells(
        &of_rule("{mode: DISABLE}"),
        &["spoken to in clear text (trafficPolicy of DestinationRule shop/web)"],
    );
    assert_tells(
        &of_rule("{mode: ISTIO_MUTUAL}"),
        &[
            "tls: ISTIO_MUTUAL (trafficPolicy of DestinationRule shop/web)",
            "no certificate of an endpoint is accepted: there are no CA certificates for it (--identity-dir)",
            "verdict: 503 UF upstream_reset_before_response_started: no TLS handshake with an endpoint can succeed, there is \
             no CA certificate to check endpoints by (outbound|80||web.shop.svc.cluster.local)",
        ],
    );
    let by_itself = explained(SERVICE, &["GET", "http://web/", "--identity-dir", "/certs"]);
    assert_tells(
        &by_itself,
        &[
            "tls: ISTIO_MUTUAL to 1 of 2 endpoints, those with label security.istio.io/tlsMode: istio \
             (enableAutoMtls of the mesh)",
            "server name `outbound_.80_._.web.shop.svc.cluster.local`",
            "endpoints must show a certificate issued by the mesh's authority (`ROOTCA`) for spiffe://cluster.local/ns/shop/sa/seller",
        ],
    );
    let anonymous = explained(SERVICE, &["GET", "http://web/"]);
    assert!(!anonymous.contains("tls:"), "{anonymous}");
    let why = "spoken to in clear text though endpoints have label security.istio.io/tlsMode: istio: the workload has no";
    assert!(anonymous.contains(why), "{anonymous}");
    let nobody = SERVICE.replace("tlsMode: istio", "tlsMode: disabled");
    assert_tells(
        &explained(&nobody, &["GET", "http://web/", "--identity-dir", "/certs"]),
        &[
            "spoken to in clear text: no endpoint has label security.istio.io/tlsMode: istio (enableAutoMtls of the mesh)",
        ],
    );
}

#[test]
fn clients_of_a_workload_are_told_which_mutual_tls_is_asked_of_them_and_by_whom() {
    let inbound = |policy: &str, more: &[&str]| {
        let arguments =
            [&["GET", "http://10.1.0.1:8080/", "--inbound", "--labels", "app=web", "--ip", "10.1.0.1"], more];
        explained(&(SERVICE.to_owned() + policy), &arguments.concat())
    };
    let certs = ["--identity-dir", "/certs"];
    let from_mesh = ["--identity-dir", "/certs", "--mtls"];
    let plain = inbound("", &[]);
    assert_tells(
        &plain,
        &[
            "mutual TLS is PERMISSIVE: no PeerAuthentication says otherwise; clear text only, for the workload has no \
           certificate (--identity-dir)",
        ],
    );
    let permissive = inbound("", &from_mesh);
    assert_tells(
        &permissive,
        &[
            "to port 8080, TLS, the client is a proxy of the mesh",
            "mutual TLS is PERMISSIVE: no PeerAuthentication says otherwise",
            "clients must show a certificate issued by the mesh's authority (`ROOTCA`) for spiffe://cluster.local/…",
        ],
    );
    assert!(permissive.ends_with(", for clients that show a certificate\n"), "{permissive}");
    let strict = policy("mtls: {mode: STRICT}");
    let shut = inbound(&strict, &certs);
    assert_tells(
        &shut,
        &[
            "mutual TLS is STRICT: PeerAuthentication shop/strict says so",
            "verdict: connection closed (NR filter_chain_not_found): the client speaks clear text, and mutual TLS is STRICT",
        ],
    );
    assert!(inbound(&strict, &from_mesh).contains("verdict: forwarded to inbound|8080||"));
    // The two chains of a port are one to somebody who asks for another.
    let elsewhere = explained(
        SERVICE,
        &[
            "GET",
            "http://10.1.0.1:9999/",
            "--inbound",
            "--labels",
            "app=web",
            "--ip",
            "10.1.0.1",
            certs[0],
            certs[1],
        ],
    );
    let others = elsewhere.lines().filter(|line| line.ends_with(": for connections to port 8080"));
    assert_eq!(others.count(), 1, "{elsewhere}");
    // What cannot be read is not what nobody has written.
    let unread = policy("mtls: {mode: STRCT}");
    let unread = inbound(&unread, &certs);
    assert_tells(&unread, &["mutual TLS is PERMISSIVE: no PeerAuthentication in force says otherwise"]);
    let refused = unread.lines().find(|line| line.contains("PeerAuthentication shop/strict ("));
    assert!(refused.is_some_and(|line| line.ends_with(") is refused as it is written now")), "{unread}");
    let of_port = policy(
        "selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}, portLevelMtls: {8080: {mode: DISABLE}}",
    );
    let open = inbound(&of_port, &certs);
    assert_tells(&open, &["mutual TLS is DISABLE: PeerAuthentication shop/strict says so"]);
    assert!(open.contains("verdict: forwarded to inbound|8080||"), "{open}");
}

/// A directory alone tells nothing of files, which may well be where the proxy runs.
#[test]
fn a_running_proxy_knows_that_no_handshake_can_succeed() {
    let port = free_port();
    let gateway = super::gateway(&super::HTTP.replace("8080", &port.to_string())).replace("istio: edge", "");
    let rules = super::rules("{route: [{destination: {host: web, port: {number: 80}}}]}");
    let tls = rule("web", "trafficPolicy: {tls: {mode: SIMPLE, caCertificates: /nonexistent/ca.pem}}");
    let resources = [&gateway, &rules, SERVICE, &tls].concat();
    let url = format!("http://a.com:{port}/");
    let offline = explained(&resources, &["GET", &url]);
    assert!(offline.contains("\nverdict: forwarded to outbound|80||web.shop.svc.cluster.local"), "{offline}");
    let running = Setup::router().resources("a.yaml", &resources).flags(&["--namespace", "shop"]).start();
    running.await_ready();
    let live = printed(&["explain", "request", "GET", &url, "--admin", &running.interfaces.admin]);
    assert_tells(
        &live,
        &[
            "verdict: 503 UF upstream_reset_before_response_started: no TLS handshake with an endpoint can succeed, there is no \
           usable CA certificate in file-root:/nonexistent/ca.pem (outbound|80||web.shop.svc.cluster.local)",
        ],
    );
}
