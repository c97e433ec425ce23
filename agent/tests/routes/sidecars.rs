//! Which rules and services there are for the callers of a sidecar (routing §1.5, §4).

use super::{
    matching::{answering, expect, rule},
    world::{Options, World},
};
use crate::support::{Endpoint, virtual_service};

/// A ServiceEntry `namespace/name` for `<name>.com` at the sidecar's port, with more of its `spec`.
fn entry(name: &str, endpoint: &Endpoint, more: &str) -> String {
    let (namespace, name) = name.split_once('/').unwrap();
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{hosts: [{name}.com], ports: [{{number: <PORT>, name: http, protocol: HTTP}}], resolution: STATIC, \
         endpoints: [{{address: 127.0.0.1, ports: {{http: {}}}}}]{more}}}\n",
        endpoint.port()
    )
}

#[test]
fn in_sidecars_the_oldest_rules_of_a_host_are_the_only_ones() {
    let of = |name: &str, rules: &[(&str, &str)]| {
        let http: Vec<_> = rules.iter().map(|named| rule(*named)).collect();
        virtual_service(name, &format!("hosts: [a.com], http: [{}]", http.join(", ")))
    };
    let entry = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a}\nspec: {hosts: [a.com], \
                 ports: [{number: <PORT>, name: http, protocol: HTTP}], resolution: STATIC, endpoints: [{address: 127.0.0.1}]}\n";
    let resources = [
        of("young@2026-01-01T00:00:00Z", &[("young", "{uri: {prefix: /young}}"), ("young-all", "")]),
        of("old@2025-01-01T00:00:00Z", &[("old", "{uri: {prefix: /old}}")]),
        // Of a gateway, so not for the workloads of the mesh.
        answering("gw@2024-01-01T00:00:00Z", "a.com", &[("gateway", "")]),
        entry.to_owned(),
    ];
    let world = World::start(&resources, &Options { is_sidecar: true, ..Options::default() });
    expect(
        &world,
        &[
            ("GET /old HTTP/1.1\nhost: a.com", "old"),
            ("GET /young HTTP/1.1\nhost: a.com", "404"),
            ("GET / HTTP/1.1\nhost: a.com", "404"),
        ],
    );
}

#[test]
fn ports_labels_and_gateways_are_those_of_the_caller() {
    let named: Vec<_> = [
        ("other-port", "{uri: {prefix: /port}, port: 80}"),
        ("port", "{uri: {prefix: /port}, port: <PORT>}"),
        ("other-label", "{uri: {prefix: /label}, sourceLabels: {app: other}}"),
        ("labels", "{uri: {prefix: /label}, sourceLabels: {app: client, version: v1}}"),
        ("other-namespace", "{uri: {prefix: /namespace}, sourceNamespace: prod}"),
        ("namespace", "{uri: {prefix: /namespace}, sourceNamespace: default}"),
        ("gateway", "{uri: {prefix: /mesh}, gateways: [gw]}"),
        // With gateways, labels do not count.
        ("mesh", "{uri: {prefix: /mesh}, gateways: [mesh], sourceLabels: {app: other}}"),
    ]
    .map(rule)
    .into();
    let endpoint = Endpoint::named("app");
    let resources = [
        entry("default/a", &endpoint, ""),
        virtual_service("a", &format!("hosts: [a.com], gateways: [gw, mesh], http: [{}]", named.join(", "))),
    ];
    let world = World::start(&resources, &Options { is_sidecar: true, ..Options::default() });
    expect(
        &world,
        &[
            ("GET /port HTTP/1.1\nhost: a.com", "port"),
            ("GET /label HTTP/1.1\nhost: a.com", "labels"),
            ("GET /namespace HTTP/1.1\nhost: a.com", "namespace"),
            ("GET /mesh HTTP/1.1\nhost: a.com", "mesh"),
            ("GET /else HTTP/1.1\nhost: a.com", "404"),
        ],
    );
}

/// The caller is in `default`, what is exported is of `other`.
#[test]
fn rules_and_services_are_seen_where_they_are_exported_to() {
    let cases = [
        ("", true),
        ("['*']", true),
        ("[default]", true),
        ("[prod, default]", true),
        ("['.']", false),
        ("[prod]", false),
    ];
    let endpoint = Endpoint::named("app");
    let mut resources = Vec::new();
    let mut expected = Vec::new();
    for (number, (export, seen)) in cases.into_iter().enumerate() {
        let export = if export.is_empty() { String::new() } else { format!(", exportTo: {export}") };
        let (ruled, served) = (format!("ruled-{number}"), format!("served-{number}"));
        resources.push(entry(&format!("default/{ruled}"), &endpoint, ""));
        let direct = rule(("rule", ""));
        let spec = format!("hosts: [{ruled}.com], http: [{direct}]{export}");
        resources.push(virtual_service(&format!("other/{ruled}"), &spec));
        resources.push(entry(&format!("other/{served}"), &endpoint, &export));
        for (host, met) in
            [(ruled, if seen { "rule" } else { "app" }), (served, if seen { "app" } else { "502" })]
        {
            expected.push((format!("GET / HTTP/1.1\nhost: {host}.com"), met));
        }
    }
    // To nobody, which only services can say.
    resources.push(entry("other/nobody", &endpoint, ", exportTo: ['~']"));
    expected.push(("GET / HTTP/1.1\nhost: nobody.com".to_owned(), "502"));
    let mesh = "outboundTrafficPolicy: {mode: REGISTRY_ONLY}";
    let world = World::start(&resources, &Options { is_sidecar: true, mesh, ..Options::default() });
    expect(&world, &expected.iter().map(|(request, met)| (request.as_str(), *met)).collect::<Vec<_>>());
}

/// A listener with a port has it for itself: what the others let see is not called there.
#[test]
fn services_and_rules_are_those_that_the_sidecar_lets_see() {
    let endpoint = Endpoint::named("app");
    let ruled = |name: &str| {
        let spec = format!("hosts: [{name}.com], http: [{}]", rule(("rule", "")));
        virtual_service(&format!("other/{name}"), &spec)
    };
    let resources = [entry("default/near", &endpoint, ""), entry("prod/far", &endpoint, ""), ruled("near")];
    let (all, default) = ("'*/*'", "'default/*'");
    for (egress, [near, far]) in [
        ([all, all], ["rule", "app"]),
        // Neither the services nor the rules of other namespaces.
        ([default, default], ["app", "502"]),
        ([default, "'prod/*'"], ["app", "502"]),
        // Rules are seen by their namespace, not by that of the service.
        (["'default/*', 'other/*'", default], ["rule", "502"]),
        (["'*/*', '~other/*'", default], ["app", "app"]),
    ] {
        let mesh = "outboundTrafficPolicy: {mode: REGISTRY_ONLY}";
        let options = Options { is_sidecar: true, egress: Some(egress), mesh, ..Options::default() };
        let world = World::start(&resources, &options);
        let cases = [("GET / HTTP/1.1\nhost: near.com", near), ("GET / HTTP/1.1\nhost: far.com", far)];
        expect(&world, &cases);
    }
}
