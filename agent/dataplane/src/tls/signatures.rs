//! How peers prove that they have the key of the certificate they show: the part that rustls asks of verifiers of clients
//! and of servers alike, in a trait each.

/// The methods for signatures of a verifier, by the algorithms in its field `algorithms`.
macro_rules! signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &rustls::pki_types::CertificateDer<'_>,
            signature: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            let verified =
                rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms);
            match verified {
                Err(error) if super::first_version::is_cause(&error) => {
                    super::first_version::verify_tls12_signature(
                        message,
                        certificate,
                        signature,
                        &self.algorithms,
                    )
                }
                verified => verified,
            }
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &rustls::pki_types::CertificateDer<'_>,
            signature: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            let verified =
                rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms);
            match verified {
                Err(error) if super::first_version::is_cause(&error) => {
                    super::first_version::verify_tls13_signature(
                        message,
                        certificate,
                        signature,
                        &self.algorithms,
                    )
                }
                verified => verified,
            }
        }

        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            self.algorithms.supported_schemes()
        }
    };
}

pub(super) use signatures;
