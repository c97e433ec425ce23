use std::{
    future::poll_fn,
    task::{Context, Poll},
    time::Duration,
};

use rcgen::{CertifiedKey as Made, generate_simple_self_signed};
use rustls::{ClientConfig, RootCertStore, pki_types::PrivateKeyDer};
use snapshot::{Authority, Certificate, Credential, Draft, PeerRules, TrustBundle};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;
use crate::{tls::provider::provider, transport::Transport};

fn client_config(roots: RootCertStore) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Never readable, so that waiting for bytes goes on.
impl Transport for DuplexStream {
    fn poll_readable(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    /// It knows no resets.
    fn reset_on_close(&self) {}

    /// Nor ends that are known before they are read.
    fn has_ended(&self) -> bool {
        false
    }

    fn unacknowledged(&self) -> u32 {
        0
    }
}

#[test]
fn who_was_verified_anew_has_met_what_is_asked_now() {
    let Made { cert, signing_key } = generate_simple_self_signed(["a.com".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let certificate = Some(Certificate::new(vec![cert.der().clone()], key));
    let bundle = Some(TrustBundle { certificates: [cert.der().clone()].into(), revocations: [].into() });
    let authority = Authority { name: "test".to_owned(), bundle };
    let context = TlsContext {
        name: "test".to_owned(),
        credentials: vec![Credential { name: "test".to_owned(), certificate }],
        clients: ClientCertificates::Required(PeerRules { authority, ..PeerRules::default() }),
        ..TlsContext::default()
    };
    let snapshot = Draft { tls_contexts: vec![context], ..Draft::default() }.finish();
    let (contexts, _) = Cache::default().contexts(&snapshot);
    let session = Session { certificates: [cert.der().clone()].into(), ..Session::default() };
    assert_eq!(contexts.is_met(TlsContextId(0), &session), None);
    assert!(contexts.accepts(TlsContextId(0), &session));
    assert_eq!(contexts.is_met(TlsContextId(0), &session), Some(true));
}

#[tokio::test]
async fn what_was_written_leaves_while_more_is_waited_for() {
    const SIZE: usize = 40_000;
    let Made { cert, signing_key } = generate_simple_self_signed(["a.com".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let certificate = Some(Certificate::new(vec![cert.der().clone()], key));
    let credentials = vec![Credential { name: "test".to_owned(), certificate }];
    let context = TlsContext { name: "test".to_owned(), credentials, ..TlsContext::default() };
    let snapshot = Draft { tls_contexts: vec![context], ..Draft::default() }.finish();
    let (contexts, refused) = Cache::default().contexts(&snapshot);
    assert!(refused.is_empty());
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    // A pipe that holds a fraction of what is written, so that most of it stays with rustls.
    let (near, far) = tokio::io::duplex(512);
    let connector = tokio_rustls::TlsConnector::from(client_config(roots));
    let (server, client) = tokio::join!(
        contexts.acceptor(TlsContextId(0), "").unwrap().accept(near, RetainedFields::default()),
        connector.connect("a.com".try_into().unwrap(), far)
    );
    let (mut server, mut client) = (server.unwrap().0, client.unwrap());
    server.write_all(&[7; SIZE]).await.unwrap();
    let mut received = vec![0; SIZE];
    tokio::select! {
        read = client.read_exact(&mut received) => assert_eq!(read.unwrap(), SIZE),
        _ = poll_fn(|cx| server.poll_readable(cx)) => panic!("there is nothing to read"),
        () = tokio::time::sleep(Duration::from_secs(10)) => panic!("bytes stayed behind"),
    }
}
