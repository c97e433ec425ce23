//! How peers prove that they have the key of the certificate they show: the part that rustls asks of verifiers of clients
//! and of servers alike, in a trait each.

/// The methods for signatures of a verifier, by the algorithms in its field `algorithms`.
macro_rules! signatures {
    () => {
        $crate::tls::signatures::signatures!(verify_tls12_signature);
        $crate::tls::signatures::signatures!(verify_tls13_signature);

        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            self.algorithms.supported_schemes()
        }
    };
    // What rustls does for this version of TLS, and what it does not for certificates of the first version.
    ($verify:ident) => {
        fn $verify(
            &self,
            message: &[u8],
            certificate: &rustls::pki_types::CertificateDer<'_>,
            signature: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            match rustls::crypto::$verify(message, certificate, signature, &self.algorithms) {
                Err(error) if super::first_version::is_cause(&error) => {
                    super::first_version::$verify(message, certificate, signature, &self.algorithms)
                }
                verified => verified,
            }
        }
    };
}

pub(super) use signatures;
