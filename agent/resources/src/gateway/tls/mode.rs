//! What a Gateway server does with TLS, and which versions it speaks.

use std::str::FromStr;

use crate::{
    Path,
    decode::{Context, Decode, word, word_of},
    yaml::Node,
};

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

    pub(super) fn asks_client(self) -> bool {
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

/// `ServerTLSSettings.TLSProtocol`, in order.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum TlsVersion {
    /// What the proxy thinks best: TLS 1.2 at least, TLS 1.3 at most.
    #[default]
    Auto,
    /// TLS 1.0.
    V1_0,
    /// TLS 1.1.
    V1_1,
    /// TLS 1.2.
    V1_2,
    /// TLS 1.3.
    V1_3,
}

impl TlsVersion {
    const NAMES: [(&'static str, Self); 5] = [
        ("TLS_AUTO", Self::Auto),
        ("TLSV1_0", Self::V1_0),
        ("TLSV1_1", Self::V1_1),
        ("TLSV1_2", Self::V1_2),
        ("TLSV1_3", Self::V1_3),
    ];

    /// The version as Istio spells it.
    pub fn name(self) -> &'static str {
        Self::NAMES.into_iter().find(|(_, version)| *version == self).map_or("", |(name, _)| name)
    }
}

impl Decode for TlsVersion {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        word_of(node, &Self::NAMES, at, context)
    }
}
