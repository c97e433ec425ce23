//! What `validate` is told without a proxy.

mod certificates;
mod upstream_tls;

use resources::{Files, ReadDefaults, Rule};
use translate::{Credentials, review};

use crate::support;

fn reviewed(scenario: &str) -> Vec<String> {
    let path = support::inputs().into_iter().find(|path| path.ends_with(format!("{scenario}.yaml"))).unwrap();
    let mut files = Files::new(ReadDefaults::default());
    files.replace_file("a.yaml", &std::fs::read_to_string(path).unwrap());
    let (set, _) = files.resources();
    let findings = review(&set, &Credentials::UNSEEN, "cluster.local");
    findings.iter().map(|finding| format!("{:?} {}", finding.rule, finding.path)).collect()
}

#[test]
fn gateways_and_sidecars_are_both_reviewed() {
    let found = reviewed("unknown-references");
    assert!(found.contains(&format!("{:?} spec.gateways[1]", Rule::UnknownReference)), "{found:#?}");
    assert!(found.contains(&format!("{:?} spec.http[0].route[0].destination.host", Rule::UnknownReference)));
    let found = reviewed("sidecar");
    assert!(found.contains(&format!("{:?} spec.hosts[0]", Rule::Conflict)), "{found:#?}");
    let found = reviewed("gateway-shared-host");
    assert!(found.contains(&format!("{:?} spec.http[1]", Rule::Shadowed)), "{found:#?}");
}

#[test]
fn a_good_configuration_has_no_findings() {
    for scenario in
        ["coolstore", "demo", "httpbin", "httpbin-tls", "httpbin-dual-one-server", "sidecar-endpoints"]
    {
        assert_eq!(reviewed(scenario), Vec::<String>::new(), "{scenario}");
    }
}

#[test]
fn what_a_sidecar_keeps_from_one_workload_is_there_for_others() {
    let text = "{apiVersion: v1, kind: Service, metadata: {name: other, namespace: prod}, spec: {ports: [{port: 80}]}}\n---\n\
                apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: prod}\n\
                spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}]}\n---\n\
                apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a, namespace: prod}\n\
                spec: {host: a, trafficPolicy: {loadBalancer: {simple: RANDOM}}}\n---\n\
                apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a, namespace: prod}\n\
                spec: {hosts: [a], http: [{route: [{destination: {host: a}}]}]}\n---\n\
                apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: b, namespace: prod}\n\
                spec: {workloadSelector: {labels: {app: b}}, egress: [{hosts: ['./other.prod.svc.cluster.local']}]}\n";
    let review_of = |text: &str| {
        let mut files = Files::new(ReadDefaults::default());
        files.replace_file("a.yaml", text);
        let found = review(&files.resources().0, &Credentials::UNSEEN, "cluster.local");
        found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(review_of(text), Vec::<String>::new());
    assert_eq!(review_of(&text.replace("host: a", "host: b")).len(), 2, "neither rule names a service");
}

#[test]
fn strict_mutual_tls_needs_no_identity_where_nothing_runs() {
    let mut files = Files::new(ReadDefaults::default());
    let strict = "{apiVersion: v1, kind: Service, metadata: {name: b}, spec: {clusterIP: 10.0.0.1, selector: {app: b}, \
                  ports: [{name: http, port: 80}]}}\n---\n{apiVersion: security.istio.io/v1, kind: PeerAuthentication, \
                  metadata: {name: strict}, spec: {mtls: {mode: STRICT}}}\n";
    files.replace_file("a.yaml", strict);
    let (set, findings) = files.resources();
    assert!(findings.is_empty(), "{findings:?}");
    let found = review(&set, &Credentials::UNSEEN, "cluster.local");
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn a_gateway_that_no_file_has_is_missed() {
    let mut files = Files::new(ReadDefaults::default());
    let rule = "{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: vs}, spec: {hosts: [a.com], \
                gateways: [ns/gw], http: [{redirect: {uri: /}}]}}";
    files.replace_file("a.yaml", rule);
    let found = review(&files.resources().0, &Credentials::UNSEEN, "cluster.local");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].to_string().contains("spec.gateways[0]: there is no such Gateway (written: `ns/gw`"),
        "{found:?}"
    );
}

#[test]
fn policies_that_count_for_no_workload_are_named() {
    let policy = |name: &str, namespace: &str, selector: &str| {
        format!(
            "{{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {{name: {name}, namespace: {namespace}}}, \
             spec: {{{selector}mtls: {{mode: STRICT}}}}}}\n---\n"
        )
    };
    let web = "selector: {matchLabels: {app: web}}, ";
    let text = [("a", "ns", ""), ("b", "ns", ""), ("c", "ns", web), ("d", "ns", web), ("e", "other", web)]
        .map(|(name, namespace, selector)| policy(name, namespace, selector))
        .concat();
    let mut files = Files::new(ReadDefaults::default());
    files.replace_file(
        "a.yaml",
        &(text + &policy("f", "istio-system", web) + &policy("g", "istio-system", "")),
    );
    let found = review(&files.resources().0, &Credentials::UNSEEN, "cluster.local");
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(
        found[0].contains("ns/b: spec: is for the same workloads as PeerAuthentication ns/a (a.yaml:1:1)"),
        "{found:#?}"
    );
    assert!(
        found[1].contains("ns/d: spec: is for the same workloads as PeerAuthentication ns/c (a.yaml:5:1)"),
        "{found:#?}"
    );
    assert!(found[2].contains("istio-system/f: spec: has a selector in the root namespace"), "{found:#?}");
}

#[test]
fn a_low_port_that_the_gateways_services_leave_out_is_told() {
    let found = |services: &str| {
        let gateway = "{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {name: gw}, spec: {selector: {app: edge}, \
                       servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}}\n---\n";
        let mut files = Files::new(ReadDefaults::default());
        files.replace_file("a.yaml", &format!("{gateway}{services}"));
        review(&files.resources().0, &Credentials::UNSEEN, "cluster.local")
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    let service = |metadata: &str, ports: &str| {
        format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: edge, {metadata}}}, \
             spec: {{clusterIP: 10.0.0.1, selector: {{app: edge}}, ports: [{ports}]}}}}"
        )
    };
    let other = "{name: https, port: 443, targetPort: 8443}";
    let told = found(&service("", other));
    assert_eq!(
        told,
        [
            "a.yaml:1:116: Gateway default/gw: spec.servers[0].port: is in no Service in front of this gateway, so that it is \
          listened on as it is, which takes CAP_NET_BIND_SERVICE (found `80`; add it to Service default/edge (a.yaml:3:1), \
          with a `targetPort` of 1024 or more)"
        ]
    );
    let none = Vec::<String>::new();
    assert_eq!(found(""), none, "its Service may be in the cluster");
    assert_eq!(found(&service("", "{name: http, port: 80, targetPort: 8080}")), none);
    assert_eq!(found(&service("", "{name: http, port: 80, targetPort: 80}")), none, "which is meant");
    let label = "labels: {experimental.istio.io/disable-gateway-port-translation: 'true'}";
    assert_eq!(found(&service(label, other)), none);
}

fn reviewed_text(text: &str) -> Vec<String> {
    let mut files = Files::new(ReadDefaults::default());
    files.replace_file("a.yaml", text);
    let (set, findings) = files.resources();
    assert!(findings.is_empty(), "{findings:?}");
    review(&set, &Credentials::UNSEEN, "cluster.local").iter().map(ToString::to_string).collect()
}

#[test]
fn a_rule_that_has_the_subset_but_does_not_count_is_named() {
    let found = |metadata: &str, spec: &str| {
        let text = format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: web, namespace: shop}}, \
             spec: {{clusterIP: 10.0.0.1, selector: {{app: web}}, ports: [{{name: http, port: 80}}]}}}}\n---\n\
             {{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {{name: vs, namespace: shop}}, \
             spec: {{hosts: [web], exportTo: [.], http: [{{route: [{{destination: {{host: web, subset: v1}}}}]}}]}}}}\n---\n\
             {{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{name: dr, {metadata}}}, \
             spec: {{{spec}, subsets: [{{name: v1}}]}}}}\n"
        );
        let found = reviewed_text(&text);
        found.into_iter().filter(|finding| finding.contains("subset: ")).collect::<Vec<_>>()
    };
    let host = "host: web.shop.svc.cluster.local";
    assert_eq!(found("namespace: shop", "host: web"), Vec::<String>::new());
    for (metadata, spec, why) in [
        (
            "namespace: other",
            host.to_owned(),
            "DestinationRule other/dr (a.yaml:5:1) has it, but counts in its own namespace only: move it to `shop`, that of \
             the service)",
        ),
        (
            "namespace: other",
            format!("{host}, exportTo: [.]"),
            "has it, but is not exported to namespace `shop`: add it to `exportTo`)",
        ),
        (
            "namespace: shop",
            format!("{host}, workloadSelector: {{matchLabels: {{app: other}}}}"),
            "has it, but is for some workloads only (`workloadSelector`))",
        ),
    ] {
        let found = found(metadata, &spec);
        assert_eq!(found.len(), 1, "{spec}: {found:#?}");
        assert!(found[0].contains("destination.subset: no DestinationRule that counts here"), "{found:#?}");
        assert!(found[0].ends_with(why), "{found:#?}");
    }
}
