//! What is added to a running proxy does not take the place of what it serves, however it is called.

use super::world::{World, rules};
use crate::support::{Endpoint, eventually, gateway, printed, service, virtual_service};

/// Waits for a finding that holds all of these texts.
fn await_finding(world: &World, texts: &[&str]) {
    eventually(&texts.join(" … "), || {
        let said = printed(&["request", "GET", "/findings", "--admin", &world.interfaces.admin]);
        said.lines().any(|line| texts.iter().all(|text| line.contains(text)))
    });
}

fn world(app: &Endpoint) -> World {
    World::gateway(&[service("app", app), rules(&["{route: [{destination: {host: app}}]}"])])
}

#[test]
fn a_gateway_that_is_added_leaves_the_port_to_the_one_that_serves() {
    let app = Endpoint::named("app");
    let world = world(&app);
    world.replace("0.yaml", &gateway("aa", world.port, "TCP", ""));
    let loses = [
        "error",
        "Gateway default/aa: spec.servers[0].port: cannot share port",
        "Gateway default/gw",
        "which was there first (after a restart the order of names decides) and speaks HTTP",
        "use another port, or remove one of the two",
    ];
    await_finding(&world, &loses);
    assert_eq!(world.get("/").body, "app");
    // An edit makes the one that serves no younger, and an edit of the other makes that no older.
    world.replace("listener.yaml", &format!("# edited\n{}", gateway("gw", world.port, "HTTP", "")));
    await_finding(&world, &["Gateway default/gw (", "listener.yaml:6:"]);
    world.replace("0.yaml", &format!("# edited\n{}", gateway("aa", world.port, "TCP", "")));
    await_finding(&world, &["0.yaml:6:", loses[1]]);
    assert_eq!(world.get("/").body, "app");
    // When nobody is there any more, the port is free.
    world.replace("listener.yaml", &gateway("gw", world.port, "TCP", ""));
    await_finding(&world, &["warning", "Gateway default/gw: spec.servers[0].port: leads nowhere"]);
}

#[test]
fn a_second_document_of_a_name_leaves_the_one_in_force() {
    let app = Endpoint::named("app");
    let world = world(&app);
    let again = "hosts: ['*'], gateways: [gw], http: [{directResponse: {status: 418}}]";
    world.replace("0.yaml", &virtual_service("rules", again));
    await_finding(
        &world,
        &[
            "error",
            "0.yaml:1:1: VirtualService default/rules: is written a second time and left out",
            "is in force, for it was there first; after a restart this one is (remove or rename one of the two)",
        ],
    );
    assert_eq!(world.get("/").status(), 200);
    world.replace("rules.yaml", &service("app", &app));
    eventually("the second is alone", || world.get("/").status() == 418);
}
