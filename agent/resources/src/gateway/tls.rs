//! TLS settings of a Gateway server (`ServerTLSSettings`).

mod certificate;
mod ciphers;
mod mode;
#[cfg(test)]
mod tests;

pub use certificate::TlsCertificate;
pub use mode::{TlsMode, TlsVersion};

use crate::{
    Path,
    decode::{Context, Fields, Shape},
    finding::{Problem, Rule},
};

/// How a server speaks TLS and where its certificates are.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ServerTls {
    /// Answer every request with a redirect to https (HTTP ports only).
    pub https_redirect: bool,
    /// What is done with TLS; PASSTHROUGH unless written otherwise.
    pub mode: TlsMode,
    /// Path of the certificate chain, PEM.
    pub server_certificate: Option<String>,
    /// Path of the private key, PEM.
    pub private_key: Option<String>,
    /// Path of the CA certificates that client certificates are checked against.
    pub ca_certificates: Option<String>,
    /// Path of a certificate revocation list.
    pub ca_crl: Option<String>,
    /// Name of a Secret in the gateway pod's namespace.
    pub credential_name: Option<String>,
    /// Names of at most two Secrets.
    pub credential_names: Vec<String>,
    /// Name of a Secret with the CA certificates.
    pub ca_cert_credential_name: Option<String>,
    /// At most two certificates by path.
    pub tls_certificates: Vec<TlsCertificate>,
    /// Names of which a client certificate must carry one.
    pub subject_alt_names: Vec<String>,
    /// Digests (SHA-256, base64) of public keys of which a client certificate must have one, if any is written here or
    /// in `verify_certificate_hash`.
    pub verify_certificate_spki: Vec<String>,
    /// Digests (SHA-256, hexadecimal, with or without colons) of client certificates.
    pub verify_certificate_hash: Vec<String>,
    /// Lowest version spoken.
    pub min_protocol_version: TlsVersion,
    /// Highest version spoken.
    pub max_protocol_version: TlsVersion,
    /// Cipher suites of TLS 1.2 and below by OpenSSL's names, as written; empty means the proxy's choice.
    pub cipher_suites: Vec<String>,
    /// Curves by name, as written; empty means the proxy's choice.
    pub ecdh_curves: Vec<String>,
    /// Whether client certificates are asked for but not verified.
    pub insecure_skip_verify: bool,
}

impl Shape for ServerTls {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self {
            https_redirect: fields.or_default("httpsRedirect"),
            mode: fields.or_default("mode"),
            server_certificate: fields.elsewhere("serverCertificate"),
            private_key: fields.elsewhere("privateKey"),
            ca_certificates: fields.elsewhere("caCertificates"),
            ca_crl: fields.elsewhere("caCrl"),
            credential_name: fields.elsewhere("credentialName"),
            credential_names: fields.list_elsewhere("credentialNames"),
            ca_cert_credential_name: fields.elsewhere("caCertCredentialName"),
            tls_certificates: fields.or_default("tlsCertificates"),
            subject_alt_names: fields.or_default("subjectAltNames"),
            verify_certificate_spki: fields.or_default("verifyCertificateSpki"),
            verify_certificate_hash: fields.or_default("verifyCertificateHash"),
            min_protocol_version: fields.or_default("minProtocolVersion"),
            max_protocol_version: fields.or_default("maxProtocolVersion"),
            cipher_suites: fields.or_default("cipherSuites"),
            ecdh_curves: fields.or_default("ecdhCurves"),
            insecure_skip_verify: fields.or_default("insecureSkipVerify"),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        self.check_sources(at, context);
        self.check_client_ca(at, context);
        ciphers::check_names(self, at, context);
        ciphers::check_versions(self, at, context);
        certificate::check_fingerprints(
            &self.verify_certificate_spki,
            &self.verify_certificate_hash,
            at,
            context,
        );
        if self.ca_crl.is_some() && self.mode == TlsMode::Simple {
            let problem = Problem::new("has no meaning in mode SIMPLE").remedy("use mode MUTUAL");
            context.error(&at.field("caCrl"), problem);
        }
    }
}

impl ServerTls {
    /// Whether only the redirect to https is asked for, the one thing an HTTP port may say here.
    pub fn is_redirect_only(&self) -> bool {
        *self == Self { https_redirect: self.https_redirect, ..Self::default() }
    }

    /// Paths of the files that are read for it.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        let own = [&self.server_certificate, &self.private_key, &self.ca_certificates, &self.ca_crl];
        let listed = self.tls_certificates.iter();
        let listed = listed.flat_map(|one| [&one.server_certificate, &one.private_key, &one.ca_certificates]);
        own.into_iter().chain(listed).filter_map(|path| path.as_deref())
    }

    fn check_sources(&self, at: &Path<'_>, context: &mut Context<'_>) {
        let sources = [
            (self.credential_name.is_some(), "credentialName"),
            (!self.credential_names.is_empty(), "credentialNames"),
            (
                self.server_certificate.is_some() || self.private_key.is_some(),
                "serverCertificate and privateKey",
            ),
            (!self.tls_certificates.is_empty(), "tlsCertificates"),
        ];
        let used: Vec<_> = sources.into_iter().filter(|(used, _)| *used).map(|(_, name)| name).collect();
        if used.len() > 1 {
            let problem = Problem::new("names more than one source of certificates").found(used.join(", "));
            return context.error(at, problem.expected("one of them"));
        }
        for (count, field) in [
            (self.credential_names.len(), "credentialNames"),
            (self.tls_certificates.len(), "tlsCertificates"),
        ] {
            if count > 2 {
                let problem = Problem::new("names more than two certificates").found(count);
                context.warning(
                    Rule::Invalid,
                    &at.field(field),
                    problem.remedy("one RSA and one ECDSA suffice"),
                );
            }
        }
        match self.mode {
            TlsMode::Simple | TlsMode::Mutual | TlsMode::OptionalMutual => {
                self.check_certificate(at, used.is_empty(), context);
            }
            TlsMode::IstioMutual => self.check_istio_mutual(used.first().copied(), at, context),
            TlsMode::Passthrough | TlsMode::AutoPassthrough if !used.is_empty() => {
                let problem = Problem::new(format!("has no effect in mode {}", self.mode.name()));
                context.warning(
                    Rule::Invalid,
                    &at.field(first_word(used[0])),
                    problem.remedy("use mode SIMPLE to terminate TLS"),
                );
            }
            _ => {}
        }
    }

    fn check_istio_mutual(&self, source: Option<&str>, at: &Path<'_>, context: &mut Context<'_>) {
        let others = [
            (&self.ca_certificates, "caCertificates"),
            (&self.ca_crl, "caCrl"),
            (&self.ca_cert_credential_name, "caCertCredentialName"),
        ];
        let other = others.into_iter().find(|(written, _)| written.is_some()).map(|(_, name)| name);
        if let Some(name) = source.or(other) {
            let problem =
                Problem::new("is used together with mode ISTIO_MUTUAL, which brings its own certificates");
            context.error(&at.field(first_word(name)), problem.remedy("remove it or use mode MUTUAL"));
        }
    }

    /// Client certificates are checked against CAs; those of a credential come with it.
    fn check_client_ca(&self, at: &Path<'_>, context: &mut Context<'_>) {
        let by_path = self.server_certificate.is_some()
            || self.tls_certificates.iter().any(|certificate| certificate.ca_certificates.is_none());
        let has_ca = self.ca_certificates.is_some() || self.ca_cert_credential_name.is_some();
        if self.mode.asks_client() && by_path && !has_ca && !self.insecure_skip_verify {
            let problem = Problem::new(format!("is missing in mode {}", self.mode.name()));
            context.error(&at.field("caCertificates"), problem.expected("the path of the CA certificates"));
        }
    }

    fn check_certificate(&self, at: &Path<'_>, no_source: bool, context: &mut Context<'_>) {
        let mode = self.mode.name();
        if no_source {
            let problem = Problem::new(format!("has no certificate for mode {mode}"));
            return context
                .error(at, problem.expected("`credentialName`, or `serverCertificate` and `privateKey`"));
        }
        let halves = [
            ("serverCertificate", &self.server_certificate, &self.private_key),
            ("privateKey", &self.private_key, &self.server_certificate),
        ];
        for (missing, half, other) in halves {
            if half.is_none() && other.is_some() {
                let problem = Problem::new(format!("is missing in mode {mode}"));
                context.error(&at.field(missing), problem.expected("a path, or `credentialName` for both"));
            }
        }
    }
}

fn first_word(text: &str) -> &str {
    text.split(' ').next().unwrap_or(text)
}
