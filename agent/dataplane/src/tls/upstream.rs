//! Speaks TLS to endpoints.

mod resumed;

use std::{
    cell::RefCell,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, OnceLock},
};

use rustls::{
    ClientConfig, Error, InvalidMessage, RootCertStore,
    client::{
        WebPkiServerVerifier,
        danger::{ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use snapshot::{
    CrlBundle, NameMatch, PeerRules, ServerCheck, ServerNameSource, Speaks, TlsParameters, UpstreamTls,
    UpstreamTlsUse,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use self::resumed::verify_resumed;
use super::{
    authorities::{Authorities, is_of_authority},
    clients::check_rules,
    peer::UpstreamSession,
    provider::{provider_for, versions},
    signatures::signatures,
    stream::TlsStream,
    words,
};

pub(crate) use self::resumed::is_outdated;

/// Why TLS to a cluster's endpoints cannot be spoken at all.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum UpstreamTlsError {
    #[error("{0}")]
    Nobody(&'static str),
    #[error("there is no usable client certificate")]
    NoCredential,
    #[error("there is no usable CA certificate")]
    NoAuthority,
    #[error(
        "the system has no CA certificates: install its package `ca-certificates`, or write `caCertificates`"
    )]
    NoSystemRoots,
    #[error("{0}")]
    Certificate(#[from] super::CertificateError),
    #[error("{0}")]
    Config(String),
}

/// What performs handshakes with the endpoints of a cluster. Made at the first connection: most clusters are never
/// used.
pub(crate) struct Connector {
    settings: Arc<UpstreamTls>,
    /// By what is spoken, and by whether there is a name to be proved: what checks a name and what does not must never
    /// stand for each other, nor share sessions.
    configs: [[RefCell<Option<Made>>; 2]; 3],
}

/// What handshakes are made with, and what verifies endpoints in them, if they can be made at all.
type Made = Result<(Arc<ClientConfig>, Arc<dyn ServerCertVerifier>), UpstreamTlsError>;

impl Connector {
    pub(crate) fn new(settings: &Arc<UpstreamTls>) -> Self {
        Self { settings: Arc::clone(settings), configs: Default::default() }
    }

    /// Whether it does what these settings ask for.
    pub(crate) fn is_for(&self, settings: &Arc<UpstreamTls>) -> bool {
        self.settings == *settings
    }

    /// Whether connections of `old` are such as it would make.
    pub(crate) fn keeps_connections_of(&self, old: &Self) -> bool {
        self.settings.keeps_connections_of(&old.settings)
    }

    /// Whether it is the mesh's own, inside which applications may speak theirs.
    pub(crate) fn is_of_mesh(&self) -> bool {
        self.settings.of_mesh
    }

    /// Whether TLS is spoken to an endpoint.
    pub(crate) fn is_spoken_to(&self, speaks_mesh_tls: bool) -> bool {
        self.settings.is_spoken_to(speaks_mesh_tls)
    }

    /// Whether the host of a request is sent as server name, so that requests for different hosts cannot share
    /// connections.
    pub(crate) fn is_by_host(&self) -> bool {
        self.settings.server_name == ServerNameSource::Authority
    }

    /// Performs the handshake over a connection to `ip`, if it is to an address of IP; `host` is what the request is for,
    /// if there is one.
    ///
    /// # Errors
    /// The endpoint is not what it has to be, or refuses us, or the connection failed; or its session was resumed and is
    /// [not good any more](is_outdated): the next handshake is a whole one.
    pub(crate) async fn connect(
        &self,
        stream: TcpStream,
        (ip, host): (Option<IpAddr>, Option<&str>),
        speaks: Speaks,
    ) -> io::Result<(TlsStream<TcpStream>, UpstreamSession)> {
        let name = self.settings.name_for(host);
        let has_name = name.is_some();
        let made = &self.configs[speaks as usize][usize::from(has_name)];
        let (config, verifier) = self.config(made, (speaks, has_name)).map_err(io::Error::other)?;
        // An address is never sent as server name (RFC 6066 §3).
        let name = match name {
            Some(name) => ServerName::try_from(name.to_owned()).map_err(io::Error::other)?,
            // Where there is no address either, one stands for it that nobody has.
            None => ServerName::IpAddress(ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)).into()),
        };
        let connected = tokio_rustls::TlsConnector::from(config).connect(name.clone(), stream).await;
        let stream = connected.map_err(|error| words::of_endpoint(error, &self.settings.check))?;
        verify_resumed(stream.get_ref().1, &name, &*verifier).map_err(|refused| {
            // What it was to be resumed from would be offered again and again.
            made.take();
            io::Error::other(refused)
        })?;
        let credential = self.settings.credential.as_ref().and_then(|own| own.certificate.as_ref());
        let own = credential.and_then(|certificate| certificate.chain().first());
        let session = UpstreamSession::of(stream.get_ref().1, own);
        Ok((TlsStream::new(stream), session))
    }

    /// Made when it is needed first, and anew when its sessions have been forgotten.
    fn config(&self, made: &RefCell<Option<Made>>, (speaks, has_name): (Speaks, bool)) -> Made {
        let make = || client_config(&self.settings, speaks, has_name);
        made.borrow_mut().get_or_insert_with(make).clone()
    }
}

/// Speaks TLS to whoever is at `address`, whatever certificate they show.
///
/// # Errors
/// They do not speak TLS, or the connection failed.
pub async fn connect_unverified(
    stream: TcpStream,
    address: SocketAddr,
) -> io::Result<impl AsyncRead + AsyncWrite + Unpin + Send> {
    let settings = UpstreamTls {
        endpoints: UpstreamTlsUse::All,
        server_name: ServerNameSource::Authority,
        check: ServerCheck::Unverified,
        credential: None,
        of_mesh: false,
        parameters: TlsParameters::default(),
    };
    let (config, _) = client_config(&settings, Speaks::Http1, false).map_err(io::Error::other)?;
    let name = ServerName::IpAddress(address.ip().into());
    let connected = tokio_rustls::TlsConnector::from(config).connect(name, stream).await;
    connected.map(TlsStream::new)
}

/// Whether a handshake failed because what the endpoint said is no TLS at all.
pub(crate) fn is_clear_text(error: &io::Error) -> bool {
    let error = error.get_ref().and_then(|error| error.downcast_ref::<Error>());
    matches!(error, Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)))
}

fn client_config(settings: &UpstreamTls, speaks: Speaks, has_name: bool) -> Made {
    let provider = provider_for(&settings.parameters);
    let verifier = verifier(&settings.check, has_name, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions(&settings.parameters))
        .map_err(|_| super::CertificateError::Parameters)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&verifier));
    let mut config = match &settings.credential {
        None => builder.with_no_client_auth(),
        Some(credential) => {
            let certificate = credential.certificate.as_ref().ok_or(UpstreamTlsError::NoCredential)?;
            let key = certificate.expose_key().clone_key();
            let config = builder.with_client_auth_cert(certificate.chain().to_vec(), key);
            config.map_err(|error| UpstreamTlsError::Config(error.to_string()))?
        }
    };
    config.alpn_protocols = settings.protocols(speaks).iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok((Arc::new(config), verifier))
}

fn verifier(
    check: &ServerCheck,
    has_name: bool,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, UpstreamTlsError> {
    let algorithms = provider.signature_verification_algorithms;
    let (authorities, revocations, names) = match check {
        ServerCheck::Unverified => return Ok(Arc::new(Anything { algorithms })),
        ServerCheck::Nobody(reason) => return Err(UpstreamTlsError::Nobody(reason)),
        ServerCheck::System(names) => (system_authorities()?, CrlBundle::default(), names),
        ServerCheck::Authority(authority, names) => {
            let bundle = authority.bundle.as_ref().ok_or(UpstreamTlsError::NoAuthority)?;
            (Arc::new(Authorities::of(bundle)?), Arc::clone(&bundle.revocations), names)
        }
    };
    let chain = webpki(authorities.roots().clone(), &revocations, provider)?;
    let names = if has_name || !names.is_empty() { Some(names.clone()) } else { None };
    let provider = Arc::clone(provider);
    Ok(Arc::new(ByNames { authorities, revocations, chain, names, provider, algorithms }))
}

fn webpki(
    roots: RootCertStore,
    revocations: &CrlBundle,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, UpstreamTlsError> {
    let mut builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    if !revocations.is_empty() {
        builder = builder
            .with_crls(revocations.iter().cloned())
            .only_check_end_entity_revocation()
            .enforce_revocation_expiration();
    }
    builder.build().map_err(|error| UpstreamTlsError::Config(error.to_string()))
}

/// What the system trusts, read once.
fn system_authorities() -> Result<Arc<Authorities>, UpstreamTlsError> {
    static SYSTEM: OnceLock<Arc<Authorities>> = OnceLock::new();
    let load = || Authorities::readable(rustls_native_certs::load_native_certs().certs).into();
    let system = SYSTEM.get_or_init(load);
    if system.roots().is_empty() { Err(UpstreamTlsError::NoSystemRoots) } else { Ok(Arc::clone(system)) }
}

/// The chain; then one of the names, or the server name sent when there are none.
#[derive(Debug)]
struct ByNames {
    authorities: Arc<Authorities>,
    revocations: CrlBundle,
    /// By all authorities.
    chain: Arc<WebPkiServerVerifier>,
    /// `None` asks for no name.
    names: Option<Vec<NameMatch>>,
    provider: Arc<CryptoProvider>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ByNames {
    /// The chain and the name; one that is trusted itself needs no chain.
    fn verify_chain(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        (server_name, staple, now): (&ServerName<'_>, &[u8], UnixTime),
    ) -> Result<(), Error> {
        let make = |roots| webpki(roots, &self.revocations, &self.provider).ok();
        self.authorities.verify(now, (&self.chain, make), |chain, _| {
            match chain.verify_server_cert(certificate, intermediates, server_name, staple, now) {
                Err(error)
                    if is_of_authority(&error)
                        && self.revocations.is_empty()
                        && self.authorities.hold(certificate, now) =>
                {
                    verify_server_name(&ParsedCertificate::try_from(certificate)?, server_name)
                }
                verified => verified.map(|_| ()),
            }
        })
    }
}

impl ServerCertVerifier for ByNames {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        staple: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        use rustls::CertificateError::{NotValidForName, NotValidForNameContext};
        let verified = self.verify_chain(certificate, intermediates, (server_name, staple, now));
        match (&self.names, verified) {
            // The name comes last: the chain was good.
            (None, Err(Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }))) => {}
            (
                Some(names),
                Err(Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. })),
            ) if !names.is_empty() => {}
            (_, verified) => verified?,
        }
        let names = self.names.clone().unwrap_or_default();
        let rules = PeerRules { names, ..PeerRules::default() };
        check_rules(certificate, &rules).map_err(|_| words::misnamed(certificate, &rules.names))?;
        Ok(ServerCertVerified::assertion())
    }

    signatures!();
}

/// Accepts whatever an endpoint shows (`insecureSkipVerify`).
#[derive(Debug)]
struct Anything {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    signatures!();
}
