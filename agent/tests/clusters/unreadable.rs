//! A DestinationRule that asks for TLS and cannot be read.

use crate::support::{
    Agent, Client, Endpoint, Setup, eventually, free_port, printed, service, virtual_service,
};

fn rule(mode: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: rule}}\n\
         spec: {{host: app, trafficPolicy: {{tls: {{mode: {mode}}}}}}}\n"
    )
}

fn start(setup: Setup, app: &Endpoint, http: u16) -> Agent {
    let gateway = format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: gw}}\nspec: {{servers: [{{port: \
         {{number: {http}, name: http, protocol: HTTP}}, hosts: ['*']}}]}}\n---\n{}---\n{}",
        virtual_service("vs", "hosts: ['*'], gateways: [gw], http: [{route: [{destination: {host: app}}]}]"),
        service("app", app)
    );
    let running = setup.resources("all.yaml", &gateway).mesh("accessLogFile: /dev/stdout\n").start();
    running.await_port(http);
    running
}

#[test]
fn calls_are_refused_other_than_sent_in_clear_text() {
    let (app, http) = (Endpoint::named("app"), free_port());
    let running = start(Setup::router().resources("rule.yaml", &rule("SIMPEL")), &app, http);
    assert_eq!((Client::local(http).get("/").status(), app.requests()), (503, 0));
    let reason = "the DestinationRule asks for TLS and cannot be read";
    running.access_line(&[" 503 URX,UF ", &reason.replace(" ", "_")]);
    let url = format!("http://localhost:{http}/");
    let explain = || printed(&["explain", "request", "GET", &url, "--admin", &running.interfaces.admin]);
    let explained = explain();
    let told = format!("no endpoint is spoken to: {reason} (trafficPolicy of DestinationRule default/rule");
    assert!(explained.contains(&told) && explained.contains("verdict: 503"), "{explained}");
    running.replace("rule.yaml", &rule("DISABLE"));
    eventually("it can be read", || Client::local(http).get("/").body == "app");
    // Now there is a version that counts.
    running.replace("rule.yaml", &rule("SIMPEL"));
    running.log_line(&["the last valid version stays in force"]);
    assert_eq!(Client::local(http).get("/").body, "app");
}

#[test]
fn a_rule_that_comes_later_takes_nothing_from_those_who_did_without() {
    let (app, http) = (Endpoint::named("app"), free_port());
    let running = start(Setup::router(), &app, http);
    assert_eq!(Client::local(http).get("/").body, "app");
    running.replace("rule.yaml", &rule("SIMPEL"));
    running.log_line(&["ERROR", "rule.yaml", "SIMPEL"]);
    running.log_line(&["published", "version=2"]);
    assert_eq!(Client::local(http).get("/").body, "app");
}
