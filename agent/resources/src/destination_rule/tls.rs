//! TLS to the endpoints (`ClientTLSSettings`).

use crate::{
    Path,
    decode::{Context, Decode, Fields, Shape, word_of},
    finding::{Problem, Rule},
    yaml::Node,
};

/// How TLS is spoken to the endpoints, and with which certificates.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ClientTls {
    /// Whether and how.
    pub mode: ClientTlsMode,
    /// Path of the client's certificate chain, PEM.
    pub client_certificate: Option<String>,
    /// Path of the client's private key, PEM.
    pub private_key: Option<String>,
    /// Path of the CA certificates the endpoint is checked against; absent means the system's.
    pub ca_certificates: Option<String>,
    /// Path of a certificate revocation list.
    pub ca_crl: Option<String>,
    /// Name of a Secret with what the paths would hold.
    pub credential_name: Option<String>,
    /// Names of which the endpoint's certificate must carry one.
    pub subject_alt_names: Vec<String>,
    /// Server name sent; absent means the request's host.
    pub sni: Option<String>,
    /// Whether any certificate of the endpoint is accepted.
    pub insecure_skip_verify: bool,
}

impl Shape for ClientTls {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self {
            mode: fields.or_default("mode"),
            client_certificate: fields.elsewhere("clientCertificate"),
            private_key: fields.elsewhere("privateKey"),
            ca_certificates: fields.elsewhere("caCertificates"),
            ca_crl: fields.elsewhere("caCrl"),
            credential_name: fields.elsewhere("credentialName"),
            subject_alt_names: fields.or_default("subjectAltNames"),
            sni: fields.optional("sni"),
            insecure_skip_verify: fields.or_default("insecureSkipVerify"),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        let files = self.files();
        match self.mode {
            ClientTlsMode::Simple | ClientTlsMode::Mutual if self.credential_name.is_some() => {
                for name in files {
                    let problem = Problem::new("cannot be combined with `credentialName`");
                    context.error(&at.field(name), problem.remedy("remove one of the two"));
                }
            }
            ClientTlsMode::Mutual => self.check_client_pair(at, context),
            ClientTlsMode::IstioMutual | ClientTlsMode::Disable => {
                let credential = self.credential_name.as_ref().map(|_| "credentialName");
                for name in files.into_iter().chain(credential) {
                    let problem = Problem::new(format!("has no effect in mode {}", self.mode.name()));
                    context.warning(
                        Rule::Invalid,
                        &at.field(name),
                        problem.remedy("use mode SIMPLE or MUTUAL"),
                    );
                }
            }
            ClientTlsMode::Simple | ClientTlsMode::Unreadable => {}
        }
        self.check_skipped_verification(at, context);
    }
}

impl ClientTls {
    /// Paths of the files that are read for it.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        let files = [&self.client_certificate, &self.private_key, &self.ca_certificates, &self.ca_crl];
        files.into_iter().filter_map(|path| path.as_deref())
    }

    fn files(&self) -> Vec<&'static str> {
        let files = [
            (&self.client_certificate, "clientCertificate"),
            (&self.private_key, "privateKey"),
            (&self.ca_certificates, "caCertificates"),
            (&self.ca_crl, "caCrl"),
        ];
        files.into_iter().filter(|(written, _)| written.is_some()).map(|(_, name)| name).collect()
    }

    fn check_client_pair(&self, at: &Path<'_>, context: &mut Context<'_>) {
        for (half, name) in
            [(&self.client_certificate, "clientCertificate"), (&self.private_key, "privateKey")]
        {
            if half.as_deref().is_none_or(str::is_empty) {
                let problem = Problem::new("is missing in mode MUTUAL");
                context.error(&at.field(name), problem.expected("its path, or a `credentialName`"));
            }
        }
    }

    fn check_skipped_verification(&self, at: &Path<'_>, context: &mut Context<'_>) {
        let verifies = !matches!(self.mode, ClientTlsMode::Simple | ClientTlsMode::Mutual);
        if !self.insecure_skip_verify || verifies {
            return;
        }
        for (written, name) in [
            (self.ca_certificates.is_some(), "caCertificates"),
            (!self.subject_alt_names.is_empty(), "subjectAltNames"),
        ] {
            if written {
                let problem = Problem::new("is not looked at with `insecureSkipVerify: true`");
                context.error(&at.field(name), problem.remedy("remove one of the two"));
            }
        }
    }
}

/// `ClientTLSSettings.TLSmode`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ClientTlsMode {
    /// Clear text.
    #[default]
    Disable,
    /// TLS without a client certificate.
    Simple,
    /// TLS with a client certificate.
    Mutual,
    /// TLS with the workload's own identity.
    IstioMutual,
    /// What is written cannot be read. It has no name: nobody writes it.
    Unreadable,
}

impl ClientTlsMode {
    const NAMES: [(&'static str, Self); 4] = [
        ("DISABLE", Self::Disable),
        ("SIMPLE", Self::Simple),
        ("MUTUAL", Self::Mutual),
        ("ISTIO_MUTUAL", Self::IstioMutual),
    ];

    /// The mode as Istio spells it.
    pub fn name(self) -> &'static str {
        Self::NAMES.into_iter().find(|(_, mode)| *mode == self).map_or("", |(name, _)| name)
    }
}

impl Decode for ClientTlsMode {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        word_of(node, &Self::NAMES, at, context)
    }
}
