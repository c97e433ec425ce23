//! Certificates that are out of date when they come, and those that become valid.

use std::{
    fs,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::ClientConfig;

use crate::gateway_tls::gateway::Gateway;
use crate::support::authority::{Authority, ask, connect};

fn is_served(gateway: &Gateway, client: &Arc<ClientConfig>) -> bool {
    ask(&mut connect(client, gateway.https, "a.com"), "a.com").is_ok()
}

/// Puts a certificate of an authority in the place of that of a.com.
fn write(gateway: &Gateway, issuer: &Authority, dates: impl FnOnce(&mut CertificateParams)) {
    let issued = issuer.issue_for("a.com", &KeyPair::generate().unwrap(), dates);
    let (certificate, key) = issued.pem();
    fs::write(gateway.certificates().join("a.crt"), certificate).unwrap();
    fs::write(gateway.certificates().join("a.key"), key).unwrap();
}

#[test]
fn a_valid_certificate_stays_until_there_is_another_that_is_valid() {
    let gateway = Gateway::start();
    let (issuer, next) = (Authority::new(), Authority::new());
    let (client, next_client) = (issuer.client(), next.client());
    write(&gateway, &issuer, |_| {});
    gateway.until("the certificate is served", || is_served(&gateway, &client));

    write(&gateway, &issuer, |params| params.not_after = date_time_ymd(2020, 1, 1));
    gateway.log_line(&["ERROR", "serverCertificate: the certificate has expired", "stays in force"]);
    assert!(is_served(&gateway, &client), "{}", gateway.log());

    // It becomes valid without any change of a file.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let soon = Duration::from_secs(now.as_secs() + 6);
    write(&gateway, &next, |params| params.not_before = date_time_ymd(1970, 1, 1) + soon);
    gateway.until("the other certificate is served", || {
        // One of the two always is.
        assert!(is_served(&gateway, &client) || is_served(&gateway, &next_client), "{}", gateway.log());
        is_served(&gateway, &next_client)
    });
}
