//! Where a route's requests go (routing §5.1).

use super::world::{Options, World, rules};
use crate::support::{Client, Endpoint, free_port, service, service_at, virtual_service};

#[test]
fn requests_are_shared_by_weight_and_none_goes_where_the_weight_is_nought() {
    let upstreams = ["one", "three", "never"].map(Endpoint::named);
    let mut resources: Vec<_> =
        ["one", "three", "never"].iter().zip(&upstreams).map(|(name, at)| service(name, at)).collect();
    resources.push(rules(&[
        "{match: [{uri: {prefix: /only}}], route: [{destination: {host: one}, weight: 0}]}",
        "{route: [{destination: {host: one}, weight: 10}, {destination: {host: never}, weight: 0}, \
         {destination: {host: three}, weight: 30}]}",
    ]));
    let world = World::gateway(&resources);
    for _ in 0..400 {
        assert_eq!(world.get("/").status(), 200);
    }
    let [one, three, never] = upstreams.each_ref().map(|upstream| upstream.asked().len());
    // Three quarters of 400; further away than five standard deviations is no chance.
    assert!((257..=343).contains(&three) && one + three == 400 && never == 0, "{one} {three} {never}");
    // The weight of the only destination means nothing.
    assert_eq!(world.get("/only").body, "one");
}

#[test]
fn what_is_missing_of_a_destination_is_told_by_answer_and_log() {
    let upstream = Endpoint::named("app");
    let world = World::gateway(&[
        service("app", &upstream),
        "apiVersion: v1\nkind: Service\nmetadata: {name: empty}\nspec: {ports: [{name: http, port: 80}]}\n"
            .to_owned(),
        rules(&[
            "{match: [{uri: {prefix: /unknown}}], route: [{destination: {host: nobody.example.com}}]}",
            "{match: [{uri: {prefix: /subset}}], route: [{destination: {host: app, subset: v9}}]}",
            "{match: [{uri: {prefix: /port}}], route: [{destination: {host: app, port: {number: 81}}}]}",
            "{match: [{uri: {prefix: /empty}}], route: [{destination: {host: empty}}]}",
        ]),
    ]);
    let app = "app.default.svc.cluster.local";
    for (path, body, flags, cluster) in [
        ("/unknown", "", "NC cluster_not_found", format!("outbound|{}||nobody.example.com", world.port)),
        ("/subset", "", "NC cluster_not_found", format!("outbound|80|v9|{app}")),
        ("/port", "", "NC cluster_not_found", format!("outbound|81||{app}")),
        (
            "/empty",
            "no healthy upstream",
            "UH no_healthy_upstream",
            "outbound|80||empty.default.svc.cluster.local".to_owned(),
        ),
    ] {
        let answer = world.send(&format!("GET {path} HTTP/1.1\nhost: a\nx-case: {path}\n\n"));
        assert_eq!((answer.status(), answer.body.as_str()), (503, body), "{path}");
        let line = world.logged(path);
        assert!(line.starts_with(&format!("503 {flags} ")) && line.contains(&cluster), "{line}");
    }
    // What is missing is named before any request comes.
    let log = world.log();
    for missing in ["nobody.example.com", "v9", "81"] {
        assert!(
            log.lines().any(|line| line.contains("VirtualService default/rules") && line.contains(missing)),
            "{log}"
        );
    }
}

#[test]
fn applications_are_told_why_a_call_of_theirs_fails_and_clients_of_gateways_are_not() {
    let of = |host: &str, to: &str| {
        virtual_service(
            host,
            &format!("hosts: [{host}.com], http: [{{route: [{{destination: {{host: {to}}}}}]}}]"),
        )
    };
    let entry = |host: &str, address: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {host}}}\nspec: {{hosts: [{host}.com], \
             ports: [{{number: <PORT>, name: http, protocol: HTTP}}], resolution: STATIC, endpoints: [{address}]}}\n"
        )
    };
    let upstream = Endpoint::answering(|_, _| "HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n".to_owned());
    let alive = format!("{{address: 127.0.0.1, ports: {{http: {}}}}}", upstream.port());
    let refusing = format!("{{address: 127.0.0.1, ports: {{http: {}}}}}", free_port());
    let resources = [
        entry("empty", ""),
        entry("refusing", &refusing),
        entry("alive", &alive),
        entry("unknown", &alive),
        of("unknown", "nobody.com"),
    ];
    let world = World::start(&resources, &Options { is_sidecar: true, ..Options::default() });
    let refused = "UF upstream_reset_before_response_started{remote_connection_failure}";
    for (host, reason) in [
        ("empty", Some("UH no_healthy_upstream")),
        ("unknown", Some("NC cluster_not_found")),
        ("refusing", Some(refused)),
        // What the endpoint itself says needs no reason.
        ("alive", None),
    ] {
        let answer = world.send(&format!("GET / HTTP/1.1\nhost: {host}.com\nx-case: {host}\n\n"));
        let told = answer.field("x-postern-reason");
        assert_eq!(
            (answer.status(), told.map(|told| told.replace("URX,", ""))),
            (503, reason.map(str::to_owned)),
            "{host}"
        );
    }
    let gateway = World::gateway(&[rules(&["{route: [{destination: {host: nobody.com}}]}"])]);
    assert_eq!(gateway.get("/").field("x-postern-reason"), None);
}

#[test]
fn short_names_are_services_beside_the_rule_and_names_with_a_dot_stand_as_they_are() {
    let (prod, own) = (Endpoint::named("prod"), Endpoint::named("own"));
    let of = |namespace: &str, path: &str, host: &str| {
        let http =
            format!("{{match: [{{uri: {{prefix: {path}}}}}], route: [{{destination: {{host: {host}}}}}]}}");
        let spec = format!("hosts: ['*'], gateways: [default/gw], http: [{http}]");
        virtual_service(&format!("{namespace}/rules-{}", &path[1..]), &spec)
    };
    let world = World::gateway(&[
        service("prod/app", &prod),
        service("app", &own),
        of("prod", "/short", "app"),
        of("default", "/own", "app"),
        of("default", "/full", "app.prod.svc.cluster.local"),
        of("default", "/half", "app.prod"),
    ]);
    assert_eq!(world.get("/short").body, "prod");
    assert_eq!(world.get("/own").body, "own");
    assert_eq!(world.get("/full").body, "prod");
    assert_eq!(world.get("/half").status(), 503);
    assert!(world.log().contains("app.prod"), "{}", world.log());
}

/// A port that is not written: the service's only one, else that of the listener.
#[test]
fn the_port_is_the_one_written_else_the_only_one_else_the_listeners() {
    let (first, second) = (Endpoint::named("first"), Endpoint::named("second"));
    let two_ports = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: two}}\n\
         spec: {{ports: [{{name: http, port: 80}}, {{name: http-2, port: <PORT>}}]}}\n---\n\
         apiVersion: v1\nkind: Endpoints\nmetadata: {{name: two}}\nsubsets: [{{addresses: [{{ip: 127.0.0.1}}], \
         ports: [{{name: http, port: {}}}, {{name: http-2, port: {}}}]}}]\n",
        first.port(),
        second.port()
    );
    let world = World::gateway(&[
        two_ports,
        service_at("one", ("http", 80), first.port()),
        rules(&[
            "{match: [{uri: {prefix: /written}}], route: [{destination: {host: two, port: {number: 80}}}]}",
            "{match: [{uri: {prefix: /listener}}], route: [{destination: {host: two}}]}",
            "{match: [{uri: {prefix: /only}}], route: [{destination: {host: one}}]}",
        ]),
    ]);
    for (path, body) in [("/written", "first"), ("/listener", "second"), ("/only", "first")] {
        assert_eq!(world.get(path).body, body, "{path}");
    }
}

/// Where the request is through: what follows its body is the next request, and only then.
#[test]
fn clients_go_on_after_an_answer_in_the_place_of_the_endpoint() {
    let (app, breaking) = (Endpoint::named("app"), Endpoint::answering(|_, _| String::new()));
    let world = World::gateway(&[
        service("app", &app),
        service("breaking", &breaking),
        service_at("refusing", ("http", 80), free_port()),
        rules(&[
            "{match: [{uri: {prefix: /breaking}}], route: [{destination: {host: breaking}}]}",
            "{match: [{uri: {prefix: /refusing}}], route: [{destination: {host: refusing}}]}",
            "{route: [{destination: {host: app}}]}",
        ]),
    ]);
    for path in ["/breaking", "/refusing"] {
        for body in
            ["content-length: 4\r\n\r\nbody", "transfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"]
        {
            let mut client = Client::local(world.port);
            client.send(format!(
                "POST {path} HTTP/1.1\r\nhost: a\r\n{body}GET /next HTTP/1.1\r\nhost: a\r\n\r\n"
            ));
            let answer = client.answer();
            assert_eq!((answer.status(), answer.field("connection")), (503, None), "{path} {body}");
            assert_eq!(client.answer().body, "app", "{path} {body}");
        }
    }
    let mut client = Client::local(world.port);
    let answer = client.send("POST /refusing HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhalf").answer();
    assert_eq!((answer.status(), answer.field("connection")), (503, Some("close")));
    assert!(client.ends());
}
