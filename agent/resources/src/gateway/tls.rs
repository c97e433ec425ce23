//! TLS settings of a Gateway server (`ServerTLSSettings`).

use std::str::FromStr;

use crate::{
    Path,
    decode::{Context, Decode, Fields, Shape, word},
    finding::{Problem, Rule},
    yaml::Node,
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
}

/// A certificate by path (`TLSCertificate`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TlsCertificate {
    /// Path of the certificate chain, PEM.
    pub server_certificate: Option<String>,
    /// Path of the private key, PEM.
    pub private_key: Option<String>,
    /// Path of the CA certificates.
    pub ca_certificates: Option<String>,
}

impl Shape for TlsCertificate {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self {
            server_certificate: fields.optional("serverCertificate"),
            private_key: fields.optional("privateKey"),
            ca_certificates: fields.optional("caCertificates"),
        }
    }
}

impl Shape for ServerTls {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let tls = Self {
            https_redirect: fields.or_default("httpsRedirect"),
            mode: fields.or_default("mode"),
            server_certificate: fields.optional("serverCertificate"),
            private_key: fields.optional("privateKey"),
            ca_certificates: fields.optional("caCertificates"),
            ca_crl: fields.planned("caCrl"),
            credential_name: fields.optional("credentialName"),
            credential_names: fields.or_default("credentialNames"),
            ca_cert_credential_name: fields.optional("caCertCredentialName"),
            tls_certificates: fields.or_default("tlsCertificates"),
            subject_alt_names: fields.or_default("subjectAltNames"),
        };
        let _: Option<Vec<String>> = fields.planned("verifyCertificateSpki");
        let _: Option<Vec<String>> = fields.planned("verifyCertificateHash");
        let _: Option<TlsVersion> = fields.planned("minProtocolVersion");
        let _: Option<TlsVersion> = fields.planned("maxProtocolVersion");
        let _: Option<Vec<String>> = fields.planned("cipherSuites");
        let _: Option<Vec<String>> = fields.planned("ecdhCurves");
        let _: Option<bool> = fields.planned("insecureSkipVerify");
        tls
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        self.check_sources(at, context);
        if self.mode.asks_client() && self.server_certificate.is_some() && self.ca_certificates.is_none() {
            let problem = Problem::new(format!("is missing in mode {}", self.mode.name()));
            context.error(&at.field("caCertificates"), problem.expected("the path of the CA certificates"));
        }
        if self.ca_crl.is_some() && self.mode == TlsMode::Simple {
            context.error(
                &at.field("caCrl"),
                Problem::new("has no meaning in mode SIMPLE").remedy("use mode MUTUAL"),
            );
        }
    }
}

impl ServerTls {
    /// Whether only the redirect to https is asked for, the one thing an HTTP port may say here.
    pub fn is_redirect_only(&self) -> bool {
        *self == Self { https_redirect: self.https_redirect, ..Self::default() }
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
        match self.mode {
            TlsMode::Simple | TlsMode::Mutual | TlsMode::OptionalMutual => {
                self.check_certificate(at, used.is_empty(), context);
            }
            TlsMode::IstioMutual if !used.is_empty() => {
                let problem = Problem::new(
                    "is used together with mode ISTIO_MUTUAL, which brings its own certificates",
                );
                context.error(&at.field(first_word(used[0])), problem.remedy("remove it or use mode MUTUAL"));
            }
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
                context.error(&at.field(missing), Problem::new(format!("is missing in mode {mode}")));
            }
        }
    }
}

fn first_word(text: &str) -> &str {
    text.split(' ').next().unwrap_or(text)
}

/// What a server does with TLS.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum TlsMode {
    /// Forward it unopened, by server name. The default, also of `tls: {}`.
    #[default]
    Passthrough,
    /// Terminate it; no client certificate.
    Simple,
    /// Terminate it; a client certificate is required.
    Mutual,
    /// Forward it unopened to the cluster that the server name spells.
    AutoPassthrough,
    /// Terminate it with the workload's own identity; a mesh certificate is required.
    IstioMutual,
    /// Terminate it; a client certificate is verified when given.
    OptionalMutual,
}

impl TlsMode {
    const NAMES: [(&'static str, Self); 6] = [
        ("PASSTHROUGH", Self::Passthrough),
        ("SIMPLE", Self::Simple),
        ("MUTUAL", Self::Mutual),
        ("AUTO_PASSTHROUGH", Self::AutoPassthrough),
        ("ISTIO_MUTUAL", Self::IstioMutual),
        ("OPTIONAL_MUTUAL", Self::OptionalMutual),
    ];

    /// The mode as Istio spells it.
    pub fn name(self) -> &'static str {
        Self::NAMES.into_iter().find(|(_, mode)| *mode == self).map_or("", |(name, _)| name)
    }

    /// Whether TLS ends here.
    pub fn terminates(self) -> bool {
        !matches!(self, Self::Passthrough | Self::AutoPassthrough)
    }

    fn asks_client(self) -> bool {
        matches!(self, Self::Mutual | Self::OptionalMutual)
    }
}

impl FromStr for TlsMode {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::NAMES.into_iter().find(|(name, _)| *name == text).map(|(_, mode)| mode).ok_or(())
    }
}

impl Decode for TlsMode {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        word(node, &Self::NAMES.map(|(name, _)| name), at, context)
    }
}

/// Only checked for its spelling so far.
#[derive(Default)]
struct TlsVersion;

impl TlsVersion {
    const NAMES: [&'static str; 5] = ["TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"];
}

impl FromStr for TlsVersion {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if Self::NAMES.contains(&text) { Ok(Self) } else { Err(()) }
    }
}

impl Decode for TlsVersion {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        word(node, &Self::NAMES, at, context)
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{findings, gateway};

    fn https(tls: &str) -> String {
        let port = "port: {number: 443, name: https, protocol: HTTPS}, hosts: [a.com]";
        format!(
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: gw}}\nspec:\n  servers:\n  - {{{port}, tls: {{{tls}}}}}\n"
        )
    }

    #[test]
    fn every_source_of_certificates_is_accepted_alone() {
        for tls in [
            "mode: SIMPLE, credentialName: a",
            "mode: SIMPLE, credentialNames: [a, b]",
            "mode: SIMPLE, serverCertificate: /c, privateKey: /k",
            "mode: MUTUAL, serverCertificate: /c, privateKey: /k, caCertificates: /ca, subjectAltNames: [a.b]",
            "mode: OPTIONAL_MUTUAL, credentialName: a, caCertCredentialName: b",
            "mode: ISTIO_MUTUAL",
            "mode: PASSTHROUGH",
            "",
        ] {
            assert_eq!(findings(&https(tls)), Vec::<String>::new(), "{tls}");
        }
        assert_eq!(gateway(&https("")).servers[0].tls.as_ref().unwrap().mode, super::TlsMode::Passthrough);
    }

    #[test]
    fn incomplete_or_contradicting_settings_are_one_message_each() {
        for (tls, wrong) in [
            ("mode: SIMPLE", "tls: has no certificate for mode SIMPLE"),
            ("mode: SIMPLE, serverCertificate: /c", "privateKey: is missing in mode SIMPLE"),
            ("mode: MUTUAL, privateKey: /k", "serverCertificate: is missing in mode MUTUAL"),
            (
                "mode: MUTUAL, serverCertificate: /c, privateKey: /k",
                "caCertificates: is missing in mode MUTUAL",
            ),
            (
                "mode: SIMPLE, credentialName: a, privateKey: /k",
                "tls: names more than one source of certificates",
            ),
            (
                "mode: ISTIO_MUTUAL, credentialName: a",
                "credentialName: is used together with mode ISTIO_MUTUAL",
            ),
            ("mode: PASSTHROUGH, credentialName: a", "credentialName: has no effect in mode PASSTHROUGH"),
            ("mode: SIMPEL, credentialName: a", "did you mean `SIMPLE`?"),
            ("mode: simple, credentialName: a", "did you mean `SIMPLE`?"),
            ("mode: PASSTHROUGH, minProtocolVersion: TLSV1_3", "minProtocolVersion: is not supported yet"),
        ] {
            let findings = findings(&https(tls));
            assert_eq!(findings.len(), 1, "{tls}: {findings:#?}");
            assert!(findings[0].contains(wrong), "{tls}: {findings:#?}");
        }
    }
}
