//! Rules for TCP and TLS (routing §7).

use std::net::Shutdown;

use super::world::{World, rules};
use crate::support::{Client, Endpoint, free_port, gateway, service_at, virtual_service};

/// Says its name, and then what it was told, once the client has said all.
fn naming(name: &'static str) -> u16 {
    let endpoint = Endpoint::start(move |mut client| {
        let said = client.rest();
        client.send([name.as_bytes(), b":", &said].concat());
    });
    endpoint.port()
}

/// What comes back for these bytes from a client that closes its side.
fn relayed(port: u16, bytes: &[u8]) -> String {
    let mut client = Client::local(port);
    client.send(bytes);
    // A proxy that has nobody to connect to may have closed.
    _ = client.0.shutdown(Shutdown::Write);
    String::from_utf8(client.rest()).unwrap()
}

fn tcp_gateway(name: &str, port: u16) -> String {
    gateway(name, port, "TCP", "")
}

#[test]
fn tcp_rules_are_met_by_port_and_gateway_and_share_connections_by_weight() {
    let [first, second, other, subnets, nothing] = [(); 5].map(|()| free_port());
    let world = World::gateway(&[
        rules(&["{directResponse: {status: 200}}"]),
        tcp_gateway("first", first),
        tcp_gateway("second", second),
        tcp_gateway("other", other),
        tcp_gateway("subnets", subnets),
        tcp_gateway("nothing", nothing),
        service_at("one", ("tcp", 80), naming("one")),
        service_at("three", ("tcp", 80), naming("three")),
        service_at("never", ("tcp", 80), naming("never")),
        virtual_service(
            "tcp",
            &format!(
                "hosts: ['*'], gateways: [first, second, other, subnets], tcp: [\
                 {{match: [{{port: 1}}], route: [{{destination: {{host: never}}}}]}}, \
                 {{match: [{{port: {first}}}, {{port: {second}}}], route: [{{destination: {{host: one}}, weight: 10}}, \
                 {{destination: {{host: never}}, weight: 0}}, {{destination: {{host: three}}, weight: 30}}]}}, \
                 {{match: [{{gateways: [first]}}], route: [{{destination: {{host: never}}}}]}}, \
                 {{match: [{{port: {subnets}, destinationSubnets: [203.0.113.0/24]}}], \
                 route: [{{destination: {{host: three}}}}]}}, \
                 {{route: [{{destination: {{host: one}}}}]}}]"
            ),
        ),
    ]);
    world.await_port(first);
    for port in [first, second] {
        let answers: Vec<_> = (0..100).map(|_| relayed(port, b"x")).collect();
        let three = answers.iter().filter(|answer| *answer == "three:x").count();
        let one = answers.iter().filter(|answer| *answer == "one:x").count();
        // Three quarters of 100, give or take five standard deviations.
        assert!(one + three == 100 && (53..=97).contains(&three), "{one} {three}");
    }
    assert_eq!(relayed(other, b"bytes"), "one:bytes");
    // Of who connects to a gateway its own address says nothing.
    assert_eq!(relayed(subnets, b"bytes"), "three:bytes");
    // A port without rules has no listener.
    assert!(std::net::TcpStream::connect(("127.0.0.1", nothing)).is_err());
}

#[test]
fn when_an_endpoint_refuses_the_next_one_is_connected_to_and_when_all_do_the_log_says_so() {
    let (dead, hopeless, empty) = (free_port(), free_port(), free_port());
    let alive = naming("alive");
    // Whoever has refused is avoided for a while: of so many the first connection of one meets the dead endpoint.
    let both: [_; 12] = std::array::from_fn(|number| (format!("both-{number}"), free_port()));
    let of_both = |name: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{name: tcp, port: 80}}]}}\n---\n\
             apiVersion: v1\nkind: Endpoints\nmetadata: {{name: {name}}}\nsubsets:\n\
             - {{addresses: [{{ip: 127.0.0.1}}], ports: [{{name: tcp, port: {dead}}}]}}\n\
             - {{addresses: [{{ip: 127.0.0.1}}], ports: [{{name: tcp, port: {alive}}}]}}\n"
        )
    };
    let to = |name: &str, host: &str| {
        virtual_service(
            name,
            &format!(
                "hosts: ['*'], gateways: [{name}], tcp: [{{route: [{{destination: {{host: {host}}}}}]}}]"
            ),
        )
    };
    let mut resources = vec![
        rules(&["{directResponse: {status: 200}}"]),
        tcp_gateway("hopeless", hopeless),
        tcp_gateway("empty", empty),
        service_at("hopeless", ("tcp", 80), dead),
        "apiVersion: v1\nkind: Service\nmetadata: {name: empty}\nspec: {ports: [{name: tcp, port: 80}]}\n"
            .to_owned(),
        to("hopeless", "hopeless"),
        to("empty", "empty"),
    ];
    for (name, port) in &both {
        resources.extend([tcp_gateway(name, *port), of_both(name), to(name, name)]);
    }
    let world = World::gateway(&resources);
    world.await_ready();
    for (name, port) in both {
        assert_eq!(relayed(port, b"x"), "alive:x", "{name}");
    }
    // A connection has no request: the first operators of the line are empty.
    assert_eq!(relayed(hopeless, b"x"), "");
    assert_eq!(relayed(empty, b"x"), "");
    for flags in ["UF,URX", "UH"] {
        world.access_line(&[&format!("- 0 {flags} ")]);
    }
}

#[test]
fn tls_is_passed_on_by_the_names_of_its_rules() {
    let port = free_port();
    let world = World::gateway(&[
        rules(&["{directResponse: {status: 200}}"]),
        gateway("tls", port, "TLS", ", tls: {mode: PASSTHROUGH}"),
        service_at("exact", ("tls", 80), naming("exact")),
        service_at("wild", ("tls", 80), naming("wild")),
        service_at("never", ("tls", 80), naming("never")),
        virtual_service(
            "tls",
            "hosts: ['*.foo.com', foo.com], gateways: [tls], tls: [\
             {match: [{sniHosts: [a.foo.com], port: 1}], route: [{destination: {host: never}}]}, \
             {match: [{sniHosts: [a.foo.com, foo.com]}], route: [{destination: {host: exact}}]}, \
             {match: [{sniHosts: ['*.foo.com']}], route: [{destination: {host: wild}}]}]",
        ),
    ]);
    world.await_port(port);
    let named = |name: &str| relayed(port, &hello(name)).split(':').next().unwrap().to_owned();
    for (name, by) in
        [("a.foo.com", "exact"), ("foo.com", "exact"), ("b.foo.com", "wild"), ("c.b.foo.com", "wild")]
    {
        assert_eq!(named(name), by, "{name}");
    }
    // The alert `unrecognized_name` instead of a bare close.
    assert_eq!(Client::local(port).send(hello("bar.com")).rest(), [21, 3, 3, 0, 2, 2, 112]);
}

/// The first bytes of a TLS client that asks for this name. They are ASCII but for the lengths, so that they come back
/// as text.
fn hello(name: &str) -> Vec<u8> {
    let sized = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
    let server_name = sized(&[&[0][..], &sized(name.as_bytes())].concat());
    let extensions = sized(&[&[0, 0][..], &sized(&server_name)].concat());
    let body = [&[3, 3][..], &[b'r'; 32], &[0], &sized(&[0x13, 0x01]), &[1, 0], &extensions].concat();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let handshake = [&[1][..], &length[1..], &body].concat();
    [&[22, 3, 1][..], &sized(&handshake)].concat()
}
