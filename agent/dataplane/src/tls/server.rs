//! Terminates TLS.

use std::{collections::HashMap, fmt, io, sync::Arc};

use rustls::{
    HandshakeKind, ProtocolVersion, ServerConfig, ServerConnection, SupportedCipherSuite,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, UnixTime},
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, danger::ClientCertVerifier},
    sign::CertifiedKey,
};
use snapshot::{
    CertificateFacts, ClientCertificates, Snapshot, TlsContext, TlsContextId, TlsParameters, TlsVersion,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::{
    certificate::{CertificateError, certified_key},
    clients::verifier,
    peer::{OwnCertificate, RetainedFields, Session, uris},
    provider::{provider_for, versions},
    stream::TlsStream,
    tickets::Tickets,
};

/// The TLS contexts of a snapshot, ready to serve; shared by the workers.
#[derive(Clone, Default)]
pub(crate) struct Contexts {
    by_id: Arc<[(Arc<Terms>, Terminator)]>,
}

/// What a handshake asks for. Who has met other terms has not proved to meet these.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Terms {
    clients: ClientCertificates,
    parameters: TlsParameters,
}

impl Terms {
    fn of(context: &TlsContext) -> Self {
        Self { clients: context.clients.clone(), parameters: context.parameters.clone() }
    }

    /// Whether what a handshake has agreed on would be agreed on still. Of suites and groups only their lists are known.
    fn allow(&self, session: &Session, met: &Self) -> bool {
        let (now, then) = (&self.parameters, &met.parameters);
        let version = match session.agreed {
            Some(ProtocolVersion::TLSv1_2) => TlsVersion::V1_2,
            _ => TlsVersion::V1_3,
        };
        now.allows(version)
            && now.cipher_suites == then.cipher_suites
            && now.key_exchanges == then.key_exchanges
    }
}

impl fmt::Debug for Contexts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} contexts]", self.by_id.len())
    }
}

impl Contexts {
    /// What performs the handshake with a client that offers some protocols, joined by commas.
    ///
    /// # Errors
    /// The context has nothing to serve with: what is missing, in words.
    pub(crate) fn acceptor(&self, id: TlsContextId, offered: &str) -> Result<Acceptor, &str> {
        let (terms, terminator) = &self.by_id[id.0 as usize];
        match terminator {
            Terminator::Serving(server) => Ok(Acceptor {
                config: server.config(offered),
                own: Arc::clone(&server.own),
                clients: Arc::clone(&server.clients),
                tickets: Arc::clone(&server.tickets),
                terms: Arc::clone(terms),
            }),
            Terminator::Refusing(missing) => Err(missing),
        }
    }

    /// Whether a client has met what a context asks for now; `None` when its certificates would have to be verified anew
    /// to tell. Certificates of ours may have been replaced meanwhile.
    pub(crate) fn is_met(&self, id: TlsContextId, session: &Session) -> Option<bool> {
        let (terms, _) = &self.by_id[id.0 as usize];
        let met = &*session.terms.borrow();
        if Arc::ptr_eq(terms, met) || terms == met {
            return Some(true);
        }
        let shows = !session.certificates.is_empty();
        match &terms.clients {
            _ if !terms.allow(session, met) => Some(false),
            ClientCertificates::NotAsked => Some(true),
            clients if !shows => Some(!clients.must_show()),
            ClientCertificates::Unverified { .. } => Some(true),
            ClientCertificates::Optional(_) | ClientCertificates::Required(_) => None,
        }
    }

    /// Whether the certificates that a client has shown are accepted by a context now, whose terms it has met then.
    pub(crate) fn accepts(&self, id: TlsContextId, session: &Session) -> bool {
        let (terms, terminator) = &self.by_id[id.0 as usize];
        let accepted = match (terminator, &*session.certificates) {
            (Terminator::Serving(server), [own, others @ ..]) => {
                server.clients.verify_client_cert(own, others, UnixTime::now()).is_ok()
            }
            _ => false,
        };
        if accepted {
            // Other changes should not have them verified again.
            session.terms.replace(Arc::clone(terms));
        }
        accepted
    }
}

/// What becomes of the handshakes of a context.
#[derive(Clone)]
enum Terminator {
    Serving(Server),
    /// They are refused: for want of what.
    Refusing(Arc<str>),
}

/// What performs the handshakes of a context.
#[derive(Clone)]
struct Server {
    config: Arc<ServerConfig>,
    /// For clients that offer only protocols nobody here speaks: they are served without agreeing on one, as Envoy does
    /// it. `None` when that cannot happen.
    without_protocols: Option<Arc<ServerConfig>>,
    protocols: Arc<[String]>,
    own: Arc<OwnCertificate>,
    clients: Arc<dyn ClientCertVerifier>,
    tickets: Arc<Tickets>,
}

impl Server {
    fn config(&self, offered: &str) -> Arc<ServerConfig> {
        let agrees = || offered.split(',').any(|offer| self.protocols.iter().any(|own| own == offer));
        match &self.without_protocols {
            Some(config) if !offered.is_empty() && !agrees() => Arc::clone(config),
            _ => Arc::clone(&self.config),
        }
    }
}

/// Performs the server's side of one handshake.
pub(crate) struct Acceptor {
    config: Arc<ServerConfig>,
    own: Arc<OwnCertificate>,
    clients: Arc<dyn ClientCertVerifier>,
    tickets: Arc<Tickets>,
    terms: Arc<Terms>,
}

impl Acceptor {
    /// Performs it over a connection to the client.
    ///
    /// # Errors
    /// The client and this server do not agree, what it had shown before a resumed session is no longer accepted, or the
    /// connection failed. The client has been sent an alert; whether it arrives is for whoever closes the stream.
    pub(crate) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        self,
        stream: S,
        kept: RetainedFields,
    ) -> Result<(TlsStream<S>, Session), (io::Error, S)> {
        let accepting = tokio_rustls::TlsAcceptor::from(self.config).accept(stream);
        let mut stream = accepting.into_fallible().await?;
        if let Err(refused) = verify_resumed(stream.get_ref().1, &self.terms.clients, &*self.clients) {
            // It has been given a new ticket with what it showed in it, and may have another certificate by now: without
            // a ticket it can show that, or is told what is wrong.
            self.tickets.forget();
            // Only that the connection ends can be said: after a handshake rustls sends no other alert.
            _ = stream.shutdown().await;
            return Err((io::Error::new(io::ErrorKind::InvalidData, refused), stream.into_inner().0));
        }
        let session = Session::of(stream.get_ref().1, &self.own, (self.terms, kept));
        Ok((TlsStream::new(stream), session))
    }
}

/// Verifies what the client of a resumed session has shown once, of which rustls verifies nothing: each resumption
/// brings a new ticket, so that a certificate would be good for ever.
///
/// Everything is verified, not the dates alone, which would save a signature or two: a chain may hold certificates that
/// nobody needs, and authorities and revocation lists end too. It is what a full handshake would have said.
fn verify_resumed(
    session: &ServerConnection,
    asked: &ClientCertificates,
    clients: &dyn ClientCertVerifier,
) -> Result<(), rustls::Error> {
    let verifies = matches!(asked, ClientCertificates::Optional(_) | ClientCertificates::Required(_));
    match session.peer_certificates() {
        Some([own, others @ ..]) if verifies && session.handshake_kind() == Some(HandshakeKind::Resumed) => {
            clients.verify_client_cert(own, others, UnixTime::now()).map(|_| ())
        }
        _ => Ok(()),
    }
}

/// A context that is known already keeps its session tickets.
#[derive(Default)]
pub(crate) struct Cache(HashMap<String, (TlsContext, (Arc<Terms>, Terminator))>);

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
            let made = match known.remove(&context.name).filter(|(same, _)| same == context) {
                Some((_, made)) => made,
                None => {
                    let terminator = terminator(context).unwrap_or_else(|reason| {
                        let missing = Terminator::Refusing(reason.to_string().into());
                        refused.push(ContextError { name: context.name.clone(), reason });
                        missing
                    });
                    (Arc::new(Terms::of(context)), terminator)
                }
            };
            by_id.push(made.clone());
            self.0.insert(context.name.clone(), (context.clone(), made));
        }
        (Contexts { by_id: by_id.into() }, refused)
    }
}

fn terminator(context: &TlsContext) -> Result<Terminator, CertificateError> {
    let provider = provider_for(&context.parameters);
    let certificates = context.credentials.iter().filter_map(|credential| credential.certificate.as_ref());
    let certified = certificates.map(|certificate| certified_key(certificate, &provider).map(Arc::new));
    let certified: Vec<_> = certified.collect::<Result<_, _>>()?;
    let clients = verifier(&context.clients, &provider)?;
    let (false, Some(clients)) = (certified.is_empty(), clients) else {
        return Ok(Terminator::Refusing(context.missing.as_deref().unwrap_or(NO_CERTIFICATE).into()));
    };
    let resolver = Arc::new(BySignature::new(certified, &provider));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions(&context.parameters))
        .map_err(|_| CertificateError::Parameters)?
        .with_client_cert_verifier(Arc::clone(&clients))
        .with_cert_resolver(resolver);
    let tickets = Arc::new(Tickets::new().map_err(|_| CertificateError::NoTickets)?);
    config.ticketer = Arc::clone(&tickets) as _;
    if !matches!(context.clients, ClientCertificates::NotAsked) {
        // Sessions that are kept here, for clients of TLS 1.2 without tickets, could not be forgotten.
        config.session_storage = Arc::new(NoServerSessionStorage {});
    }
    // One is enough to resume; each costs the handshake.
    config.send_tls13_tickets = 1;
    let without_protocols = (!context.alpn.is_empty()).then(|| Arc::new(config.clone()));
    config.alpn_protocols = context.alpn.iter().map(|name| name.clone().into_bytes()).collect();
    let (protocols, config) = (context.alpn.clone().into(), Arc::new(config));
    let own = Arc::new(own(context));
    Ok(Terminator::Serving(Server { config, without_protocols, protocols, own, clients, tickets }))
}

/// The first that can be read: several of one context are for the same names.
fn own(context: &TlsContext) -> OwnCertificate {
    let certificates = context.credentials.iter().filter_map(|credential| credential.certificate.as_ref());
    let own = |first: &CertificateDer<'static>| {
        let facts = CertificateFacts::of(first).ok()?;
        let uris = uris(&facts).map(str::to_owned).collect();
        Some(OwnCertificate { certificate: Some(first.clone()), uris })
    };
    certificates.filter_map(|one| own(one.chain().first()?)).next().unwrap_or_default()
}

const NO_CERTIFICATE: &str = "there is no usable certificate";

/// The first certificate that the client can verify: the filter chain was chosen by server name before.
#[derive(Debug)]
struct BySignature {
    /// Elliptic curves before RSA: they cost a tenth.
    certified: Vec<Arc<CertifiedKey>>,
    suites: Vec<SupportedCipherSuite>,
}

impl BySignature {
    fn new(mut certified: Vec<Arc<CertifiedKey>>, provider: &CryptoProvider) -> Self {
        certified.sort_by_key(|certified| certified.key.algorithm() == rustls::SignatureAlgorithm::RSA);
        Self { certified, suites: provider.cipher_suites.clone() }
    }

    fn suits(&self, certified: &CertifiedKey, hello: &ClientHello<'_>) -> bool {
        let algorithm = certified.key.algorithm();
        let suite = |suite: &SupportedCipherSuite| {
            suite.usable_for_signature_algorithm(algorithm) && hello.cipher_suites().contains(&suite.suite())
        };
        certified.key.choose_scheme(hello.signature_schemes()).is_some() && self.suites.iter().any(suite)
    }
}

impl ResolvesServerCert for BySignature {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        match self.certified.as_slice() {
            [only] => Some(Arc::clone(only)),
            // Where none suits, rustls says so to the client with the alert for it.
            several => several.iter().find(|one| self.suits(one, &hello)).or(several.first()).cloned(),
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests have a runtime with timers")]
mod tests;
