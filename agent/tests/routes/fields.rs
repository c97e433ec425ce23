//! What the proxy itself adds to requests and answers, replaces and takes away, by the side it serves (routing §12).

use std::net::{IpAddr, SocketAddr};

use super::world::{INGRESS, Options, World, rules};
use crate::support::{Client, Endpoint, Message, free_port, gateway, service, virtual_service};

const RULE: &str = "{route: [{destination: {host: app}}]}";

/// The three sides that a proxy serves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Side {
    Gateway,
    /// What a sidecar's application calls.
    Outbound,
    /// Who calls a sidecar's application.
    Inbound,
}

/// What the endpoint heard, and what the client was answered.
fn passed(side: Side, mesh: &str, fields: &str) -> (Message, Message) {
    let endpoint = Endpoint::answering(|_, _| {
        "HTTP/1.1 200 X\r\ncontent-length: 0\r\nserver: own\r\n\
         connection: x-hop\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\nproxy-connection: keep-alive\r\n\
         upgrade: h2c\r\nx-envoy-upstream-service-time: own\r\nx-envoy-peer-metadata: own\r\n\
         x-envoy-peer-metadata-id: own\r\nx-kept: 1\r\n\r\n"
            .to_owned()
    });
    let application = (side == Side::Inbound).then(|| endpoint.port());
    let options = Options { is_sidecar: side != Side::Gateway, application, mesh, ..Options::default() };
    let entry = format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: app}}\nspec: {{hosts: [app.example.com], \
         ports: [{{number: <PORT>, name: http, protocol: HTTP}}], resolution: STATIC, \
         endpoints: [{{address: 127.0.0.1, ports: {{http: {}}}}}]}}\n",
        endpoint.port()
    );
    let world = match side {
        Side::Gateway => World::start(&[service("app", &endpoint), rules(&[RULE])], &options),
        Side::Outbound | Side::Inbound => World::start(&[entry], &options),
    };
    let host: IpAddr = if side == Side::Inbound { INGRESS } else { "127.0.0.1" }.parse().unwrap();
    let mut client = Client::connect(SocketAddr::new(host, world.port));
    let answer = client.ask("/", fields).answer();
    assert_eq!(answer.status(), 200, "{side:?}: {}", world.log());
    (endpoint.last(), answer)
}

/// Gateways trust what as many proxies before them have written as they are told of, and sidecars everything.
#[test]
fn who_asked_and_how_is_told_as_far_as_it_is_trusted() {
    use Side::{Gateway, Inbound, Outbound};
    const TRUSTING: &str = "defaultConfig: {gatewayTopology: {numTrustedProxies: 1}}";
    const CLAIMS: &str =
        "x-forwarded-for: 1.1.1.1, 2.2.2.2\r\nx-forwarded-proto: https\r\nx-request-id: a-b-c\r\n";
    // The side, mesh-wide settings, what is claimed, and then: the client's addresses, the scheme, the one address
    // that is believed, and whether the request keeps its name.
    let cases = [
        (Gateway, "", "", [Some("127.0.0.1"), Some("http"), Some("127.0.0.1")], false),
        (Gateway, "", CLAIMS, [Some("1.1.1.1, 2.2.2.2,127.0.0.1"), Some("http"), Some("127.0.0.1")], false),
        (
            Gateway,
            TRUSTING,
            CLAIMS,
            [Some("1.1.1.1, 2.2.2.2,127.0.0.1"), Some("https"), Some("2.2.2.2")],
            false,
        ),
        (Outbound, "", "", [None, Some("http"), None], false),
        (Outbound, "", CLAIMS, [Some("1.1.1.1, 2.2.2.2"), Some("https"), None], true),
        (Inbound, "", "", [None, Some("http"), None], false),
        (Inbound, "", CLAIMS, [Some("1.1.1.1, 2.2.2.2"), Some("https"), None], true),
    ];
    for (side, mesh, claims, expected, keeps) in cases {
        let (request, _) = passed(side, mesh, claims);
        let names = ["x-forwarded-for", "x-forwarded-proto", "x-envoy-external-address"];
        assert_eq!(names.map(|name| request.field(name)), expected, "{side:?} {mesh} {claims}");
        let id = request.field("x-request-id").unwrap();
        assert!(if keeps { id == "a-b-c" } else { id.len() == 36 }, "{side:?} {claims}: {id}");
    }
}

#[test]
fn what_holds_for_one_connection_only_is_taken_from_answers() {
    for (side, server) in
        [(Side::Gateway, "istio-envoy"), (Side::Outbound, "envoy"), (Side::Inbound, "istio-envoy")]
    {
        let (_, answer) = passed(side, "", "");
        let of_mesh = ["x-envoy-peer-metadata", "x-envoy-peer-metadata-id"];
        for name in
            ["x-hop", "keep-alive", "proxy-connection", "upgrade", "connection"].iter().chain(&of_mesh)
        {
            assert_eq!(answer.field(name), None, "{side:?}: {answer:?}");
        }
        assert_eq!((answer.field("x-kept"), answer.field("server")), (Some("1"), Some(server)), "{side:?}");
        // Where there is none: a date, and how long the answer took.
        let date = answer.field("date").unwrap_or_default();
        assert!(date.ends_with(" GMT") && date.len() == 29, "{side:?}: {answer:?}");
        let took = answer.fields("x-envoy-upstream-service-time");
        assert!(matches!(took[..], [took] if took.parse::<u64>().is_ok()), "{side:?}: {answer:?}");
    }
}

#[test]
fn paths_are_brought_into_the_form_that_the_mesh_asks_for() {
    const PATH: &str = "/x/../a//b\\c/%2e/d%2Fe";
    for (normalization, expected) in [
        ("", "/a//b/c/d%2Fe"),
        ("DEFAULT", "/a//b/c/d%2Fe"),
        ("BASE", "/a//b/c/d%2Fe"),
        ("NONE", PATH),
        ("MERGE_SLASHES", "/a/b/c/d%2Fe"),
        ("DECODE_AND_MERGE_SLASHES", "/a/b/c/d/e"),
    ] {
        let mesh = match normalization {
            "" => String::new(),
            word => format!("pathNormalization: {{normalization: {word}}}"),
        };
        let endpoint = Endpoint::named("app");
        let options = Options { mesh: &mesh, ..Options::default() };
        let world = World::start(&[service("app", &endpoint), rules(&[RULE])], &options);
        assert_eq!(world.get(PATH).status(), 200);
        assert_eq!(endpoint.last().asks_for(), format!("GET {expected}"), "{normalization}");
    }
}

/// Of requests and of opaque bytes; without the variable it is an hour.
#[test]
fn idle_connections_end_after_the_time_of_the_environment() {
    let (app, lines, opaque) = (Endpoint::named("app"), Endpoint::opaque("lines"), free_port());
    let tcp = "hosts: ['*'], gateways: [raw], tcp: [{route: [{destination: {host: lines}}]}]";
    let resources = [
        service("app", &app),
        rules(&[RULE]),
        service("lines", &lines),
        gateway("raw", opaque, "TCP", ""),
        virtual_service("raw", tcp),
    ];
    let variables = &[("ISTIO_META_IDLE_TIMEOUT", "1s")];
    let world = World::start(&resources, &Options { variables, ..Options::default() });
    let mut client = Client::local(world.port);
    assert_eq!(client.get("/").body, "app");
    let mut other = Client::local(opaque);
    assert_eq!(other.send("x\n").line(), "lines");
    assert!(client.ends() && other.ends());
}
