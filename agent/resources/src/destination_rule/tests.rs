use std::{collections::BTreeMap, time::Duration};

use super::*;
use crate::{Resource, testing};

fn text(spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: dr, namespace: prod}}\nspec: {spec}\n"
    )
}

fn rule(spec: &str) -> DestinationRule {
    assert_eq!(testing::complaints(&text(spec)), Vec::<String>::new());
    let [resource] = <[Resource; 1]>::try_from(testing::document(&text(spec)).resources).unwrap();
    let Resource::DestinationRule(object) = resource else { panic!("no DestinationRule") };
    object.spec.clone()
}

fn policy(policy: &str) -> TrafficPolicy {
    rule(&format!("{{host: web, trafficPolicy: {{{policy}}}}}")).traffic_policy.unwrap()
}

fn load_balancer(settings: &str) -> LoadBalancer {
    policy(&format!("loadBalancer: {{{settings}}}")).load_balancer.unwrap()
}

/// Complaints about a traffic policy, one each.
fn assert_policies(cases: &[(&str, &str)]) {
    testing::assert_complaints(cases, |policy| text(&format!("{{host: web, trafficPolicy: {policy}}}")));
}

#[test]
fn subsets_and_visibility_are_read() {
    let read = rule(
        "{host: Web, exportTo: [.], workloadSelector: {matchLabels: {app: a}}, \
         subsets: [{name: v1, labels: {version: v1}}, {name: all, trafficPolicy: {tls: {mode: SIMPLE}}}]}",
    );
    assert_eq!(read.host, "web");
    assert_eq!(read.workload_selector.unwrap()["app"], "a");
    assert_eq!(read.subsets[0].labels["version"], "v1");
    let tls = read.subsets[1].traffic_policy.as_ref().unwrap().tls.as_ref().unwrap();
    assert_eq!(tls.mode, ClientTlsMode::Simple);
    for host in ["'*'", "'*.local'", "a.b.com", "10.0.0.1"] {
        rule(&format!("{{host: {host}}}"));
    }
}

#[test]
fn rules_and_subsets_are_complete() {
    testing::assert_complaints(
        &[
            ("{subsets: []}", "spec.host: is missing"),
            ("{host: 'a b'}", "spec.host: is not a host name (found `a b`"),
            ("{host: '*a'}", "spec.host: is a partial wildcard"),
            (
                "{host: a, subsets: [{name: v1}, {name: v1}]}",
                "spec.subsets[1].name: is the name of an earlier",
            ),
            (
                "{host: a, subsets: [{name: v_1/}]}",
                "spec.subsets[0].name: is not a subset name (found `v_1/`",
            ),
            ("{host: a, subsets: [{labels: {a: b}}]}", "spec.subsets[0].name: is missing"),
            ("{host: a, subsets: [{name: v1, labels: {a: 'b*'}}]}", "labels[a]: is not a label value"),
            ("{host: a, subsets: [{name: v1, trafficPolicy: {}}]}", "subsets[0].trafficPolicy: is empty"),
            ("{host: a, exportTo: ['*', b]}", "spec.exportTo: holds `*` and other namespaces"),
            ("{host: a, exportTo: ['~']}", "spec.exportTo[0]: names no namespace"),
            (
                "{host: a, workloadSelector: {matchLabels: {a: b}}, exportTo: ['*']}",
                "spec.exportTo: reaches beyond the namespace",
            ),
            ("{host: a, workloadSelector: {}}", "spec.workloadSelector: names no label"),
            ("{hots: a}", "(found `hots`; expected `host`"),
            ("{host: a, subset: [{name: v1}]}", "did you mean `subsets`?"),
        ],
        text,
    );
    // The rule's own namespace may be named.
    rule("{host: a, workloadSelector: {matchLabels: {a: b}}, exportTo: [prod]}");
}

#[test]
fn every_block_is_read() {
    let read = policy(
        "connectionPool: {tcp: {maxConnections: 5, connectTimeout: 2s, maxConnectionDuration: 1h, idleTimeout: 0s, \
           tcpKeepalive: {probes: 3, time: 60s, interval: 5s}}, \
           http: {http1MaxPendingRequests: 1, http2MaxRequests: 2, maxRequestsPerConnection: 3, maxRetries: 0, \
           idleTimeout: 30s, h2UpgradePolicy: DO_NOT_UPGRADE, useClientProtocol: true, maxConcurrentStreams: 7, \
           http2KeepAlive: {interval: 10s, timeout: 2s}}}, \
         outlierDetection: {consecutive5xxErrors: 0, consecutiveGatewayErrors: 2, splitExternalLocalOriginErrors: true, \
           consecutiveLocalOriginFailures: 4, interval: 1s, baseEjectionTime: 3s, maxEjectionPercent: 50, \
           minHealthPercent: 20, outlierDetectionHttpErrorCodes: [429, 503]}, \
         tls: {mode: MUTUAL, clientCertificate: /c, privateKey: /k, caCertificates: /ca, caCrl: /crl, \
           subjectAltNames: [a.com], sni: b.com}, \
         portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: RANDOM}}], \
         retryBudget: {percent: 25.5, minRetryConcurrency: 9, budgetInterval: 10s}, proxyProtocol: {version: V2}",
    );
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    let tcp = TcpPool {
        max_connections: Some(5),
        connect_timeout: seconds(2),
        tcp_keepalive: Some(TcpKeepalive { probes: Some(3), time: seconds(60), interval: seconds(5) }),
        max_connection_duration: seconds(3600),
        idle_timeout: seconds(0),
    };
    let http = HttpPool {
        http1_max_pending_requests: Some(1),
        http2_max_requests: Some(2),
        max_requests_per_connection: Some(3),
        max_retries: None,
        idle_timeout: seconds(30),
        h2_upgrade_policy: H2Upgrade::DoNotUpgrade,
        use_client_protocol: true,
        max_concurrent_streams: Some(7),
        http2_keepalive: Some(HttpKeepalive {
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(2),
        }),
    };
    let outlier_detection = OutlierDetection {
        consecutive_5xx_errors: Some(0),
        consecutive_gateway_errors: Some(2),
        split_external_local_origin_errors: true,
        consecutive_local_origin_failures: Some(4),
        interval: seconds(1),
        base_ejection_time: seconds(3),
        max_ejection_percent: Some(50),
        min_health_percent: 20,
        http_error_codes: vec![429, 503],
    };
    let tls = ClientTls {
        mode: ClientTlsMode::Mutual,
        client_certificate: Some("/c".to_owned()),
        private_key: Some("/k".to_owned()),
        ca_certificates: Some("/ca".to_owned()),
        ca_crl: Some("/crl".to_owned()),
        subject_alt_names: vec!["a.com".to_owned()],
        sni: Some("b.com".to_owned()),
        ..ClientTls::default()
    };
    let random = LoadBalancer { simple: Some(SimpleLb::Random), ..LoadBalancer::default() };
    let port = PortTrafficPolicy { port: 80, load_balancer: Some(random), ..PortTrafficPolicy::default() };
    let retry_budget =
        RetryBudget { percent: 25.5, min_retry_concurrency: 9, budget_interval: Duration::from_secs(10) };
    let expected = TrafficPolicy {
        connection_pool: Some(ConnectionPool { tcp, http }),
        outlier_detection: Some(outlier_detection),
        tls: Some(tls),
        port_level: vec![port],
        retry_budget: Some(retry_budget),
        proxy_protocol: Some(ProxyProtocol::V2),
        ..TrafficPolicy::default()
    };
    assert_eq!(read, expected);
    let tunnel = policy("tunnel: {protocol: CONNECT, targetHost: a.com, targetPort: 443}").tunnel.unwrap();
    let expected =
        Tunnel { protocol: TunnelProtocol::Connect, target_host: "a.com".to_owned(), target_port: 443 };
    assert_eq!(tunnel, expected);
}

#[test]
fn what_a_block_leaves_out_is_taken_from_the_one_beneath() {
    let pool = |text: &str| policy(&format!("connectionPool: {text}")).connection_pool.unwrap();
    let base = pool(
        "{tcp: {maxConnections: 1, connectTimeout: 1s}, http: {useClientProtocol: true, maxRetries: 2}}",
    );
    let same = pool("{tcp: {maxConnections: 5}}").over(&base);
    assert_eq!((same.tcp.max_connections, same.tcp.connect_timeout), (Some(5), Some(Duration::from_secs(1))));
    assert!(same.http.use_client_protocol && same.http.max_retries == Some(2));
    // These exclude each other.
    let upgraded = pool("{http: {h2UpgradePolicy: UPGRADE}}").over(&base).http;
    assert_eq!((upgraded.use_client_protocol, upgraded.h2_upgrade_policy), (false, H2Upgrade::Upgrade));
    let outliers = |text: &str| policy(&format!("outlierDetection: {text}")).outlier_detection.unwrap();
    let base =
        outliers("{consecutive5xxErrors: 1, minHealthPercent: 20, outlierDetectionHttpErrorCodes: [429]}");
    let over = outliers("{consecutive5xxErrors: 0, interval: 1s}").over(&base);
    assert_eq!((over.consecutive_5xx_errors, over.min_health_percent), (Some(0), 20));
    assert_eq!((over.http_error_codes, over.interval), (vec![429], Some(Duration::from_secs(1))));
}

#[test]
fn defaults_are_istios() {
    let budget = policy("retryBudget: {}").retry_budget.unwrap();
    assert_eq!((budget.percent, budget.min_retry_concurrency), (20.0, 3));
    assert_eq!(policy("proxyProtocol: {}").proxy_protocol, Some(ProxyProtocol::V1));
    let warmup = load_balancer("warmup: {duration: 60s}").warmup.unwrap();
    assert_eq!((warmup.minimum_percent, warmup.aggression), (10.0, 1.0));
    assert_eq!(load_balancer("simple: UNSPECIFIED").simple, None);
    let hash =
        |settings: &str| load_balancer(&format!("consistentHash: {{{settings}}}")).consistent_hash.unwrap();
    let algorithm = hash("useSourceIp: true").algorithm;
    assert_eq!(algorithm, HashAlgorithm::RingHash { minimum_ring_size: 1024 });
    let algorithm = hash("httpHeaderName: x-user, maglev: {}").algorithm;
    assert_eq!(algorithm, HashAlgorithm::Maglev { table_size: 65_537 });
}

#[test]
fn load_balancers_are_read() {
    let hash = load_balancer(
        "consistentHash: {httpCookie: {name: u, path: /, ttl: 0s, attributes: [{name: SameSite, value: Lax}]}, \
         ringHash: {minimumRingSize: 9}}",
    );
    let attributes = vec![("SameSite".to_owned(), "Lax".to_owned())];
    let cookie = HashCookie {
        name: "u".to_owned(),
        path: Some("/".to_owned()),
        ttl: Some(Duration::ZERO),
        attributes,
    };
    let expected = ConsistentHash {
        key: Some(HashKey::Cookie(cookie)),
        algorithm: HashAlgorithm::RingHash { minimum_ring_size: 9 },
    };
    assert_eq!(hash.consistent_hash, Some(expected));
    let locality = load_balancer(
        "localityLbSetting: {enabled: true, distribute: [{from: 'us/*', to: {us/a: 80, 'eu/*': 20}}]}",
    );
    let to = BTreeMap::from([("us/a".to_owned(), 80), ("eu/*".to_owned(), 20)]);
    assert_eq!(locality.locality.unwrap().distribute, [Distribute { from: "us/*".to_owned(), to }]);
    let zone = policy(
        "loadBalancer: {zoneAwareLbSetting: {enabled: true, minClusterSize: 3, failover: [{from: us, to: eu}]}}, \
         outlierDetection: {}",
    );
    assert_eq!(zone.load_balancer.unwrap().zone_aware.unwrap().min_cluster_size, Some(3));
}

#[test]
fn policies_are_consistent() {
    assert_policies(&[
        ("{}", "spec.trafficPolicy: is empty"),
        ("{connectionPool: {}}", "connectionPool: is empty (expected `tcp` or `http`)"),
        ("{portLevelSettings: [{loadBalancer: {simple: RANDOM}}]}", "portLevelSettings[0].port: is missing"),
        ("{portLevelSettings: [{port: {number: 80}}]}", "portLevelSettings[0]: sets nothing for the port"),
        (
            "{tunnel: {targetHost: a.com, targetPort: 1}, proxyProtocol: {}}",
            "spec.trafficPolicy: has both `tunnel` and `proxyProtocol`",
        ),
        (
            "{tunnel: {protocol: GET, targetHost: a.com, targetPort: 1}}",
            "tunnel.protocol: is not a known word",
        ),
        ("{tunnel: {targetHost: '*.a.com', targetPort: 1}}", "tunnel.targetHost: is no host"),
        ("{tunnel: {targetHost: a.com}}", "tunnel.targetPort: is missing"),
        ("{tunnel: {targetHost: a.com, targetPort: 0}}", "tunnel.targetPort: is out of range"),
        ("{proxyProtocol: {version: V3}}", "proxyProtocol.version: is not a known word"),
        ("{retryBudget: {percent: 101}}", "retryBudget.percent: is no percentage (found `101`"),
        ("{loadBalancr: {}, tls: {}}", "did you mean `loadBalancer`?"),
    ]);
}

#[test]
fn load_balancers_are_consistent() {
    let of = |settings: &str| text(&format!("{{host: web, trafficPolicy: {{loadBalancer: {settings}}}}}"));
    testing::assert_complaints(
        &[
            (
                "{simple: RANDOM, consistentHash: {useSourceIp: true}}",
                "loadBalancer: has both `simple` and `consistentHash`",
            ),
            ("{simple: LEAST_CONN}", "simple: is an old name (found `LEAST_CONN`"),
            ("{simple: ROUNDROBIN}", "did you mean `ROUND_ROBIN`?"),
            ("{consistentHash: {}}", "consistentHash: names no key, so requests go to endpoints by chance"),
            ("{consistentHash: {useSourceIp: false}}", "consistentHash: names no key"),
            (
                "{consistentHash: {useSourceIp: true, httpHeaderName: x}}",
                "consistentHash: names several keys",
            ),
            ("{consistentHash: {httpHeaderName: 'a b'}}", "httpHeaderName: is not a header name"),
            ("{consistentHash: {httpCookie: {ttl: 1s}}}", "httpCookie.name: is missing"),
            (
                "{consistentHash: {httpCookie: {name: a, attributes: [{name: X}, {name: x}]}}}",
                "attributes[1].name: is written twice",
            ),
            (
                "{consistentHash: {useSourceIp: true, maglev: {tableSize: 0}}}",
                "maglev.tableSize: is no size for a table (found `0`",
            ),
            ("{consistentHash: {useSourceIp: true, maglev: {tableSize: 65536}}}", "is no size for a table"),
            ("{consistentHash: {useSourceIp: true, maglev: {tableSize: 5000011}}}", "is no size for a table"),
            (
                "{consistentHash: {useSourceIp: true, ringHash: {}, maglev: {}}}",
                "has both `ringHash` and `maglev`",
            ),
            (
                "{consistentHash: {useSourceIp: true, ringHash: {minimumRingSize: 8388609}}}",
                "ringHash.minimumRingSize: is larger than a ring may be (found `8388609`; expected at most 8388608",
            ),
            ("{consistentHash: {useSourceIp: true, minimumRingSize: 5}}", "minimumRingSize: is deprecated"),
            ("{warmup: {minimumPercent: 5}}", "warmup.duration: is missing"),
            ("{warmup: {duration: 1s, minimumPercent: 101}}", "warmup.minimumPercent: is no percentage"),
            ("{warmup: {duration: 1s, aggression: 0}}", "warmup.aggression: is not positive"),
            ("{warmupDurationSecs: 10s}", "warmupDurationSecs: is deprecated"),
            (
                "{localityLbSetting: {}, zoneAwareLbSetting: {}}",
                "has both `localityLbSetting` and `zoneAwareLbSetting`",
            ),
        ],
        of,
    );
    let findings = testing::complaints(&of(
        "{consistentHash: {useSourceIp: true, minimumRingSize: 5, ringHash: {minimumRingSize: 6}}}",
    ));
    assert!(findings[1].contains("minimumRingSize: is written beside another algorithm"), "{findings:#?}");
}

#[test]
fn localities_are_consistent() {
    let of = |settings: &str| {
        text(&format!(
            "{{host: web, trafficPolicy: {{outlierDetection: {{}}, loadBalancer: {{localityLbSetting: {settings}}}}}}}"
        ))
    };
    let both = "{distribute: [{from: a, to: {b: 100}}], failover: [{from: a, to: b}]}";
    testing::assert_complaints(
        &[
            (both, "localityLbSetting: has both fixed shares and an order of failing over"),
            ("{distribute: [{from: a, to: {b: 60}}]}", "distribute[0].to: does not add up (found `60`"),
            ("{distribute: [{from: a, to: {b: 100, c: 0}}]}", "to[c]: is no share (found `0`"),
            ("{distribute: [{from: a, to: {}}]}", "distribute[0].to: does not add up (found `0`"),
            ("{distribute: [{from: 'a*', to: {b: 100}}]}", "distribute[0].from: is no locality"),
            ("{distribute: [{from: '*/b', to: {b: 100}}]}", "distribute[0].from: is no locality"),
            ("{distribute: [{from: a/b/c/d, to: {b: 100}}]}", "distribute[0].from: is no locality"),
            ("{distribute: [{from: a, to: {a//b: 100}}]}", "to[a//b]: is no locality"),
            (
                "{distribute: [{from: a, to: {b: 100}}, {from: a, to: {c: 100}}]}",
                "distribute[1].from: is written twice",
            ),
            ("{failover: [{from: a, to: a}]}", "failover[0].to: fails over to itself"),
            ("{failover: [{from: 'a/*', to: b}]}", "failover[0].from: has a wildcard"),
        ],
        of,
    );
    let failover = "localityLbSetting: {failover: [{from: a, to: b}]}";
    assert_policies(&[
        (
            &format!("{{loadBalancer: {{{failover}}}}}"),
            "loadBalancer: names where to fail over to, but nothing",
        ),
        (
            &format!("{{portLevelSettings: [{{port: {{number: 80}}, loadBalancer: {{{failover}}}}}]}}"),
            "portLevelSettings[0].loadBalancer: names where to fail over to",
        ),
    ]);
}

#[test]
fn pools_and_outliers_are_in_range() {
    assert_policies(&[
        ("{connectionPool: {tcp: {maxConnections: -1}}}", "tcp.maxConnections: is out of range (found `-1`"),
        ("{connectionPool: {http: {maxRetries: -1}}}", "http.maxRetries: is out of range"),
        ("{connectionPool: {tcp: {connectTimeout: 0s}}}", "tcp.connectTimeout: is too short"),
        ("{connectionPool: {tcp: {connectTimeout: 1}}}", "tcp.connectTimeout: is not a duration"),
        (
            "{connectionPool: {http: {idleTimeout: 500us}}}",
            "idleTimeout: is not a whole number of milliseconds",
        ),
        (
            "{connectionPool: {http: {h2UpgradePolicy: UPGRADE, useClientProtocol: true}}}",
            "useClientProtocol: cannot be combined with `h2UpgradePolicy: UPGRADE`",
        ),
        ("{connectionPool: {http: {http2KeepAlive: {interval: 1s}}}}", "http2KeepAlive.timeout: is missing"),
        ("{connectionPool: {http: {http2KeepAlive: {timeout: 1s}}}}", "http2KeepAlive.interval: is missing"),
        ("{outlierDetection: {maxEjectionPercent: 101}}", "maxEjectionPercent: is no percentage"),
        ("{outlierDetection: {minHealthPercent: 101}}", "minHealthPercent: is no percentage"),
        ("{outlierDetection: {minHealthPercent: -1}}", "minHealthPercent: is out of range"),
        ("{outlierDetection: {interval: 0s}}", "outlierDetection.interval: is too short"),
        (
            "{outlierDetection: {consecutiveLocalOriginFailures: 3}}",
            "consecutiveLocalOriginFailures: has no meaning while errors",
        ),
        ("{outlierDetection: {consecutiveErrors: 3}}", "consecutiveErrors: is deprecated"),
        (
            "{outlierDetection: {outlierDetectionHttpErrorCodes: [99]}}",
            "outlierDetectionHttpErrorCodes[0]: is no status code (found `99`; expected 100–599)",
        ),
    ]);
}

#[test]
fn tls_settings_are_consistent() {
    assert_policies(&[
        ("{tls: {mode: MUTUAL, privateKey: /k}}", "tls.clientCertificate: is missing in mode MUTUAL"),
        ("{tls: {mode: MUTUAL, clientCertificate: /c}}", "tls.privateKey: is missing in mode MUTUAL"),
        (
            "{tls: {mode: SIMPLE, credentialName: a, caCertificates: /ca}}",
            "tls.caCertificates: cannot be combined with `credentialName`",
        ),
        (
            "{tls: {mode: SIMPLE, insecureSkipVerify: true, caCertificates: /ca}}",
            "tls.caCertificates: is not looked at with `insecureSkipVerify: true`",
        ),
        (
            "{tls: {mode: SIMPLE, insecureSkipVerify: true, subjectAltNames: [a]}}",
            "tls.subjectAltNames: is not looked at",
        ),
        ("{tls: {mode: ISTIO_MUTUAL, privateKey: /k}}", "tls.privateKey: has no effect in mode ISTIO_MUTUAL"),
        ("{tls: {mode: DISABLE, credentialName: a}}", "tls.credentialName: has no effect in mode DISABLE"),
        ("{tls: {mode: SIMPEL}}", "did you mean `SIMPLE`?"),
    ]);
    policy("tls: {mode: MUTUAL, credentialName: a}");
}
