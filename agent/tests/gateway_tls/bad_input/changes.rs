//! Mistakes in the `tls` of a server that serves.

use super::{gateway, outcome, routes, secret};
use crate::support::{Setup, authority::Authority, free_port};

#[test]
fn a_server_keeps_its_certificate_and_lets_nobody_in_unverified() {
    let (port, issuer) = (free_port(), Authority::new());
    let client = issuer.client();
    let issued = issuer.issue("shop.test");
    let tls = |tls: &str| gateway("shop", port, &format!("tls: {{{tls}}}"));
    let good = tls("mode: SIMPLE, credentialName: shop");
    let (certificate, key) = issued.pem();
    let running = Setup::router()
        .resources("routes.yaml", &routes(&["shop"]))
        .resources("secret.yaml", &secret("shop", &[("tls.crt", certificate), ("tls.key", key)]))
        .resources("gateway.yaml", &good)
        .start();
    let is_served = || outcome(port, "shop.test", &client).is_ok();
    running.await_port(port);
    running.until("the certificate is served", is_served);

    running.replace("gateway.yaml", &tls("mode: SIMPLE, credentialName: shopp"));
    let kept = "the last good certificate of this server, `kubernetes://shop`, stays in force";
    running.log_line(&["ERROR", "tls.credentialName: there is no such Secret", kept, "did you mean `shop`?"]);
    running.log_line(&["published", "version=2"]);
    assert!(is_served(), "{}", running.log());

    running.replace("gateway.yaml", &tls("mode: MUTUAL, credentialName: shop"));
    running.until("nobody is let in", || !is_served());
    running.log_line(&["ERROR", "Secret default/shop holds no CA certificate", "clients cannot be verified"]);
    running.replace("gateway.yaml", &good);
    running.until("the certificate is served again", is_served);
}
