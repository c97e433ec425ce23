//! What is wrong with certificates, with what is asked of clients, and with resources about TLS: for each mistake what
//! the log and `validate` say, and the alert that a client gets.

mod changes;
mod clients;
mod resources;
mod servers;

use std::{fmt::Write as _, sync::Arc};

use rustls::{AlertDescription, ClientConfig};

use crate::gateway_tls::gateway::upstream;
use crate::support::{
    authority::{ask, connect},
    service,
};

/// What becomes of a client that asks for a name: it is answered, or gets an alert.
fn outcome(port: u16, name: &str, client: &Arc<ClientConfig>) -> Result<(), String> {
    ask(&mut connect(client, port, name), name)
}

fn told(alert: AlertDescription) -> String {
    rustls::Error::AlertReceived(alert).to_string()
}

/// A Gateway with one server for its own name.
pub(crate) fn gateway(name: &str, port: u16, server: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: {name}}}\nspec:\n  servers:\n  \
         - {{port: {{number: {port}, name: https, protocol: HTTPS}}, hosts: [{name}.test], {server}}}\n---\n"
    )
}

/// What leads requests of Gateways to an endpoint that answers with the scheme.
pub(crate) fn routes(gateways: &[&str]) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: vs}}\nspec: {{hosts: ['*'], \
         gateways: [{}], http: [{{route: [{{destination: {{host: app}}}}]}}]}}\n---\n{}---\n",
        gateways.join(", "),
        service("app", &upstream()),
    )
}

fn secret(name: &str, data: &[(&str, &str)]) -> String {
    let mut yaml = format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\nstringData:\n");
    for (key, value) in data {
        let indented: String = value.lines().map(|line| format!("    {line}\n")).collect();
        write!(yaml, "  {key}: |\n{indented}").unwrap();
    }
    yaml + "---\n"
}
