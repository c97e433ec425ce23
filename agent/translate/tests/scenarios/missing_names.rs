//! What `validate` says of names that nothing has, and of those that are spelt nearly the same.

use resources::{Files, ReadDefaults};
use translate::{Credentials, review};

#[test]
fn hosts_that_no_server_of_the_gateway_has_are_told() {
    let found = |server: &str, rules: &str| {
        let mut files = Files::new(ReadDefaults::default());
        let text = format!(
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: edge}}\nspec: {{servers: [\
             {{port: {{number: 80, name: http, protocol: HTTP}}, hosts: [{server}]}}, \
             {{port: {{number: 900, name: tcp, protocol: TCP}}, hosts: ['*']}}]}}\n---\n\
             apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: shop}}\nspec: {{{rules}, \
             http: [{{directResponse: {{status: 200}}}}]}}\n---\n\
             apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: tcp}}\nspec: {{hosts: ['*'], \
             gateways: [edge], tcp: [{{route: [{{destination: {{host: a.com}}}}]}}]}}\n---\n\
             apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: a}}\nspec: {{hosts: [a.com], \
             addresses: [10.0.0.1], resolution: DNS, ports: [{{number: 900, name: tcp, protocol: TCP}}]}}\n"
        );
        files.replace_file("a.yaml", &text);
        let (set, broken) = files.resources();
        assert!(broken.is_empty(), "{broken:?}");
        let found = review(&set, &Credentials::UNSEEN, "cluster.local");
        found
            .into_iter()
            .map(|finding| format!("{}: {}: {}", finding.severity, finding.path, finding.problem))
            .collect::<Vec<_>>()
    };
    let none = Vec::<String>::new();
    let unused = "no server of Gateway default/edge has this host, so its rules are not used";
    assert_eq!(found("shop.example", "hosts: [shop.example], gateways: [edge]"), none);
    assert_eq!(found("'*.example'", "hosts: [shop.example, '*.com'], gateways: [edge, mesh]"), none);
    assert_eq!(
        found("shop.example", "hosts: [shop.exampl], gateways: [edge]"),
        [format!("warning: spec.hosts: {unused} (written: `shop.exampl`; did you mean `shop.example`?)")]
    );
    assert_eq!(
        found("shop.example", "hosts: [shop.example, other.org], gateways: [edge]"),
        [format!(
            "warning: spec.hosts[1]: {unused} (written: `other.org`; add it to the `hosts` of a server)"
        )]
    );
    assert_eq!(
        found("prod/shop.example", "hosts: [shop.example], gateways: [edge]"),
        [format!(
            "warning: spec.hosts: {unused} (written: `shop.example`; server `http` has `prod/shop.example`, for \
             VirtualServices of that namespace only)"
        )]
    );
}

#[test]
fn names_that_are_nearly_those_of_something_are_told_what_they_may_mean() {
    let known = "{apiVersion: v1, kind: Service, metadata: {name: reviews, namespace: prod}, spec: {ports: [{port: 80}]}}\n---\n\
                 {apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: r, namespace: prod}, \
                 spec: {host: reviews, subsets: [{name: stable}, {name: canary}]}}\n---\n\
                 {apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {name: edge, namespace: prod}, \
                 spec: {servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}}\n---\n";
    let found = |gateway: &str, destination: &str| {
        let mut files = Files::new(ReadDefaults::default());
        let rules = format!(
            "{{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {{name: r, namespace: prod}}, spec: {{\
             hosts: [a.com], gateways: [{gateway}], http: [{{route: [{{destination: {{{destination}}}}}]}}]}}}}\n"
        );
        files.replace_file("a.yaml", &(known.to_owned() + &rules));
        let found = review(&files.resources().0, &Credentials::UNSEEN, "cluster.local");
        found.iter().map(|finding| finding.problem.to_string()).collect::<Vec<_>>()
    };
    let no_gateway = "there is no such Gateway";
    let no_service = "there is no such service, so requests are answered 503";
    let rule = "DestinationRule prod/r (a.yaml:3:1) has no such subset, so requests are answered 503";
    for (gateway, destination, told) in [
        ("egde", "host: reviews", format!("{no_gateway} (written: `prod/egde`; did you mean `prod/edge`?)")),
        (
            "other/edge",
            "host: reviews",
            format!("{no_gateway} (written: `other/edge`; did you mean `prod/edge`?)"),
        ),
        (
            "inner",
            "host: reviews",
            format!(
                "{no_gateway} (written: `prod/inner`; a Gateway of another namespace is named `namespace/name`)"
            ),
        ),
        (
            "edge",
            "host: reviws",
            format!(
                "{no_service} (written: `reviws.prod.svc.cluster.local`; did you mean `reviews.prod.svc.cluster.local`?)"
            ),
        ),
        (
            "edge",
            "host: reviews, subset: cannary",
            format!("{rule} (written: `cannary`; expected `stable` or `canary`; did you mean `canary`?)"),
        ),
    ] {
        assert_eq!(found(gateway, destination), [told]);
    }
}

#[test]
fn a_secret_that_is_missed_among_others_is_told_without_a_proxy() {
    let found = |name: &str, service: &str| {
        let mut files = Files::new(ReadDefaults::default());
        let text = format!(
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: gw}}\nspec: {{selector: {{a: b}}, \
             servers: [{{port: {{number: 443, name: https, protocol: HTTPS}}, hosts: [a.com], \
             tls: {{mode: SIMPLE, credentialName: {name}}}}}]}}\n---\n\
             {{apiVersion: v1, kind: Secret, metadata: {{name: shop}}, data: {{}}}}\n---\n{service}"
        );
        files.replace_file("a.yaml", &text);
        let found = review(&files.resources().0, &Credentials::UNSEEN, "cluster.local");
        let found = found.iter().filter(|finding| finding.path.ends_with("credentialName"));
        found.map(|finding| format!("{}: {}", finding.severity, finding.problem)).collect::<Vec<_>>()
    };
    let service = "{apiVersion: v1, kind: Service, metadata: {name: gw}, spec: {selector: {a: b}, ports: [{port: 443}]}}";
    let told = "warning: is not among the Secrets of namespace `default` in these files (written: `shopp`; did you mean `shop`?)";
    assert_eq!(found("shopp", service), [told]);
    assert_eq!(found("shopp", ""), [told]);
    let told = "warning: is not among the Secrets of namespace `default` in these files (written: `other`; create it \
                beside the gateway's pod, or correct the name)";
    assert_eq!(found("other", service), [told]);
    // Nobody knows where the gateway is, and what Secrets are there.
    assert_eq!(found("other", ""), Vec::<String>::new());
}

#[test]
fn hosts_of_a_sidecar_that_match_no_service_are_told() {
    let found = |host: &str| {
        let service = |name: &str, namespace: &str| {
            format!(
                "{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: {namespace}}}, \
                 spec: {{clusterIP: 10.0.0.1, ports: [{{name: http, port: 80}}]}}}}\n---\n"
            )
        };
        let rules = "{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: r, namespace: prod}, \
                     spec: {hosts: [made-up.example], http: [{directResponse: {status: 200}}]}}\n---\n";
        let sidecar = format!(
            "{{apiVersion: networking.istio.io/v1, kind: Sidecar, metadata: {{name: s, namespace: prod}}, \
             spec: {{egress: [{{hosts: ['istio-system/*', '{host}']}}]}}}}\n"
        );
        let mut files = Files::new(ReadDefaults::default());
        files.replace_file(
            "a.yaml",
            &[&service("other", "prod"), &service("far", "test"), rules, &*sidecar].concat(),
        );
        let found = review(&files.resources().0, &Credentials::UNSEEN, "cluster.local");
        found.iter().map(|finding| format!("{}: {}", finding.path, finding.problem)).collect::<Vec<_>>()
    };
    for good in [
        "./other.prod.svc.cluster.local",
        "*/far.test.svc.cluster.local",
        "./*",
        "~gone/a.com",
        "./*.example",
    ] {
        assert_eq!(found(good), Vec::<String>::new(), "{good}");
    }
    let wrong = "spec.egress[0].hosts[1]: matches no service, so it lets the workload call nothing";
    for (host, remedy) in [
        ("./other2.prod.svc.cluster.local", "did you mean `other.prod.svc.cluster.local`?"),
        ("./other.prod", "hosts are written whole: did you mean `other.prod.svc.cluster.local`?"),
        (
            "./far.test.svc.cluster.local",
            "the service is in namespace `test`: write `test/far.test.svc.cluster.local`",
        ),
        ("prod/*.org", "add the Service or ServiceEntry, or correct the name"),
    ] {
        assert_eq!(found(host), [format!("{wrong} (written: `{host}`; {remedy})")]);
    }
}
