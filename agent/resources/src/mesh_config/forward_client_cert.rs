//! What is told of clients' certificates in `x-forwarded-client-cert`.

use crate::{
    Path,
    decode::{Context, Decode, word_of},
    yaml::Node,
};

/// `ForwardClientCertDetails`, in Envoy's meaning.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ForwardClientCertDetails {
    /// The field is removed.
    Sanitize,
    /// It goes on as it came from clients that have shown a certificate.
    ForwardOnly,
    /// What the client has shown is added to it.
    AppendForward,
    /// What the client has shown takes its place.
    SanitizeSet,
    /// It goes on as it came.
    AlwaysForwardOnly,
}

/// As written; `UNDEFINED` is as if nothing were.
#[derive(Default)]
pub(super) struct Written(pub(super) Option<ForwardClientCertDetails>);

impl Decode for Written {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        let words = [
            ("UNDEFINED", None),
            ("SANITIZE", Some(ForwardClientCertDetails::Sanitize)),
            ("FORWARD_ONLY", Some(ForwardClientCertDetails::ForwardOnly)),
            ("APPEND_FORWARD", Some(ForwardClientCertDetails::AppendForward)),
            ("SANITIZE_SET", Some(ForwardClientCertDetails::SanitizeSet)),
            ("ALWAYS_FORWARD_ONLY", Some(ForwardClientCertDetails::AlwaysForwardOnly)),
        ];
        Self(word_of(node, &words, at, context))
    }
}
