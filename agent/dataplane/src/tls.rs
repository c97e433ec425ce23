//! Terminates TLS: the only module that knows rustls and its crypto provider.

mod hello;

use std::{
    collections::HashMap,
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use snapshot::{Certificate, Snapshot, TlsContext, TlsContextId};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::transport::Transport;

pub(crate) use hello::Hello;

/// The fatal alert that no server here has the name asked for (RFC 6066 §3), in the clear: no version is agreed yet.
pub(crate) const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// Why a certificate cannot serve.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CertificateError {
    /// The key belongs to another certificate.
    #[error("key does not match certificate")]
    KeyMismatch,
    /// The certificate is not X.509 as RFC 5280 has it.
    #[error("certificate is not valid X.509")]
    Malformed,
    /// The key is of no kind that can sign here.
    #[error("key is not usable: expected RSA of 2048–8192 bits, ECDSA P-256, P-384 or P-521, or Ed25519")]
    KeyUnusable,
    /// The cryptographic library gives up.
    #[error("no random numbers for session tickets")]
    NoTickets,
}

/// Checks that a certificate can serve: that it can be read, that its key can sign, that the two belong together.
///
/// # Errors
/// What is wrong, without any bytes of the key.
pub fn check_certificate(certificate: &Certificate) -> Result<(), CertificateError> {
    certified_key(certificate, &provider()).map(|_| ())
}

fn provider() -> CryptoProvider {
    aws_lc_rs::default_provider()
}

fn certified_key(
    certificate: &Certificate,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, CertificateError> {
    let key = provider.key_provider.load_private_key(certificate.expose_key().clone_key());
    let key = key.map_err(|_| CertificateError::KeyUnusable)?;
    let certified = CertifiedKey::new(certificate.chain().to_vec(), key);
    match certified.keys_match() {
        Ok(()) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
            Err(CertificateError::KeyMismatch)
        }
        // Every key of this provider tells its public half, so what is not known is the certificate's.
        Err(_) => Err(CertificateError::Malformed),
    }
}

/// The TLS contexts of a snapshot, ready to serve; shared by the workers.
#[derive(Clone, Default)]
pub(crate) struct Contexts {
    by_id: Arc<[Arc<ServerConfig>]>,
}

impl fmt::Debug for Contexts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} contexts]", self.by_id.len())
    }
}

/// A context that is known already keeps its session tickets.
#[derive(Default)]
pub(crate) struct Cache(HashMap<String, (TlsContext, Arc<ServerConfig>)>);

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} contexts]", self.0.len())
    }
}

/// A context whose handshakes are all refused, and why.
#[derive(Debug, thiserror::Error)]
#[error("credential `{name}`: {reason}: its handshakes are refused")]
pub struct ContextError {
    /// Name of the context.
    pub name: String,
    /// What is wrong with its certificate.
    pub reason: CertificateError,
}

impl Cache {
    /// Makes the contexts of a snapshot, once per distinct context. One that cannot serve refuses its own handshakes.
    pub(crate) fn contexts(&mut self, snapshot: &Snapshot) -> (Contexts, Vec<ContextError>) {
        let mut known = std::mem::take(&mut self.0);
        let mut refused = Vec::new();
        let mut by_id = Vec::with_capacity(snapshot.tls_contexts().len());
        for context in snapshot.tls_contexts() {
            let config = match known.remove(&context.name).filter(|(same, _)| same == context) {
                Some((_, config)) => config,
                None => Arc::new(server_config(context).unwrap_or_else(|reason| {
                    refused.push(ContextError { name: context.name.clone(), reason });
                    refusing()
                })),
            };
            by_id.push(Arc::clone(&config));
            self.0.insert(context.name.clone(), (context.clone(), config));
        }
        (Contexts { by_id: by_id.into() }, refused)
    }
}

fn server_config(context: &TlsContext) -> Result<ServerConfig, CertificateError> {
    let Some(certificate) = &context.certificate else { return Ok(refusing()) };
    let certified = certified_key(certificate, &provider())?;
    let mut config = config(Arc::new(Always(Some(Arc::new(certified)))));
    config.alpn_protocols = context.alpn.iter().map(|name| name.clone().into_bytes()).collect();
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(|_| CertificateError::NoTickets)?;
    Ok(config)
}

/// Answers every client with an alert.
fn refusing() -> ServerConfig {
    config(Arc::new(Always(None)))
}

fn config(certificates: Arc<dyn ResolvesServerCert>) -> ServerConfig {
    ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .expect("the provider has suites for both versions")
        .with_no_client_auth()
        .with_cert_resolver(certificates)
}

/// The same certificate for every client: the filter chain was chosen by server name before.
#[derive(Debug)]
struct Always(Option<Arc<CertifiedKey>>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }
}

/// Performs the server's side of the handshake.
///
/// # Errors
/// The client and this server do not agree, or the connection failed; the client has been sent an alert.
pub(crate) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    contexts: &Contexts,
    id: TlsContextId,
) -> io::Result<TlsStream<S>> {
    let config = Arc::clone(&contexts.by_id[id.0 as usize]);
    tokio_rustls::TlsAcceptor::from(config).accept(stream).await.map(TlsStream)
}

/// A connection after its handshake. What was written is with the peer only after a flush.
pub(crate) struct TlsStream<S>(tokio_rustls::server::TlsStream<S>);

impl<S: Transport> Transport for TlsStream<S> {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What is still to be written must not wait until somebody writes again.
        if self.0.get_ref().1.wants_write() {
            _ = Pin::new(&mut self.0).poll_flush(cx)?;
        }
        let (stream, session) = self.0.get_mut();
        // Without a wish to read there are decrypted bytes, or the peer has said that it ends.
        if !session.wants_read() && !session.wants_write() {
            return Poll::Ready(Ok(()));
        }
        stream.poll_readable(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.0).poll_read(cx, into)) {
            // Many clients close without saying so first; framing above tells whether anything is missing.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            result => Poll::Ready(result),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use rcgen::{CertifiedKey as Made, generate_simple_self_signed};
    use rustls::{ClientConfig, RootCertStore, pki_types::PrivateKeyDer};
    use snapshot::Draft;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;

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
    }

    #[tokio::test]
    async fn what_was_written_leaves_while_more_is_waited_for() {
        const SIZE: usize = 40_000;
        let Made { cert, signing_key } = generate_simple_self_signed(["a.com".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
        let certificate = Some(Certificate::new(vec![cert.der().clone()], key));
        let context = TlsContext { name: "test".to_owned(), certificate, alpn: vec![] };
        let snapshot = Draft { tls_contexts: vec![context], ..Draft::default() }.finish();
        let (contexts, refused) = Cache::default().contexts(&snapshot);
        assert!(refused.is_empty());
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        // A pipe that holds a fraction of what is written, so that most of it stays with rustls.
        let (near, far) = tokio::io::duplex(512);
        let connector = tokio_rustls::TlsConnector::from(client_config(roots));
        let (server, client) = tokio::join!(
            accept(near, &contexts, TlsContextId(0)),
            connector.connect("a.com".try_into().unwrap(), far)
        );
        let (mut server, mut client) = (server.unwrap(), client.unwrap());
        server.write_all(&[7; SIZE]).await.unwrap();
        let mut received = vec![0; SIZE];
        tokio::select! {
            read = client.read_exact(&mut received) => assert_eq!(read.unwrap(), SIZE),
            _ = poll_fn(|cx| server.poll_readable(cx)) => panic!("there is nothing to read"),
            () = tokio::time::sleep(Duration::from_secs(10)) => panic!("bytes stayed behind"),
        }
    }
}
