//! Authorities, what they issue, and clients that trust them.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
    time::Duration,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
    client::Resumption,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::{ServerConfig, WebPkiClientVerifier},
};

/// An authority whose certificates the clients here trust.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, PEM.
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: String,
    der: CertificateDer<'static>,
}

impl Issued {
    fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(KeyPair::from_pem(&self.key).unwrap().serialize_der().into())
    }

    /// Certificate and key.
    pub(crate) fn pem(&self) -> (&str, &str) {
        (&self.certificate, &self.key)
    }
}

impl Authority {
    pub(crate) fn new() -> Self {
        Self::called("Authority")
    }

    pub(crate) fn called(name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for a name, with a key of its own.
    pub(crate) fn issue(&self, name: &str) -> Issued {
        self.issue_for(name, &KeyPair::generate().unwrap(), |_| {})
    }

    pub(crate) fn issue_for(
        &self,
        name: &str,
        key: &KeyPair,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Issued {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        change(&mut params);
        let made = params.signed_by(key, &self.0).unwrap();
        Issued { certificate: made.pem(), key: key.serialize_pem(), der: made.der().clone() }
    }

    /// A list that revokes the certificate with this serial number, PEM.
    pub(crate) fn revoking(&self, serial_number: SerialNumber) -> String {
        let revoked = RevokedCertParams {
            serial_number,
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2124, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.0).unwrap().pem().unwrap()
    }

    /// Clients that make a full handshake each time, in any version.
    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        self.client_with(rustls::ALL_VERSIONS, None)
    }

    /// Clients that speak some versions and may show a certificate.
    pub(crate) fn client_with(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        shown: Option<&Issued>,
    ) -> Arc<ClientConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions);
        let builder = builder.unwrap().with_root_certificates(self.roots());
        let mut config = match shown {
            None => builder.with_no_client_auth(),
            Some(issued) => {
                builder.with_client_auth_cert(vec![issued.der.clone()], issued.private_key()).unwrap()
            }
        };
        config.resumption = Resumption::disabled();
        Arc::new(config)
    }

    /// A server that shows a certificate and asks for one of this authority, which clients need not have.
    pub(crate) fn server(&self, shown: &Issued) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(self.roots().into(), Arc::clone(&provider));
        let clients = clients.allow_unauthenticated().build().unwrap();
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.unwrap().with_client_cert_verifier(clients);
        Arc::new(builder.with_single_cert(vec![shown.der.clone()], shown.private_key()).unwrap())
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(self.0.der().to_vec())).unwrap();
        roots
    }
}

pub(crate) type Connection = StreamOwned<ClientConnection, TcpStream>;

/// A connection for a server name; the handshake comes with the first byte.
pub(crate) fn connect(config: &Arc<ClientConfig>, port: u16, name: &str) -> Connection {
    let tcp = TcpStream::connect(("127.0.0.1", port)).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let session = ClientConnection::new(Arc::clone(config), name.to_owned().try_into().unwrap()).unwrap();
    StreamOwned::new(session, tcp)
}

/// Asks for a host over a connection; the answer is 200 and `https`.
pub(crate) fn ask(connection: &mut Connection, host: &str) -> Result<(), String> {
    let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n");
    connection.write_all(request.as_bytes()).map_err(|error| format!("writing: {error}"))?;
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\n") {
        connection.read_exact(&mut byte).map_err(|error| format!("reading: {error}"))?;
        answer.push(byte[0]);
    }
    if !answer.starts_with(b"HTTP/1.1 200") {
        return Err(String::from_utf8(answer).unwrap());
    }
    let mut body = [0; 5];
    connection.read_exact(&mut body).map_err(|error| format!("reading the body: {error}"))?;
    assert_eq!(&body, b"https");
    Ok(())
}
