//! Which mutual TLS is asked of clients of a workload, for those who ask why.

use std::collections::BTreeMap;

/// What the PeerAuthentications for a workload come to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PeerAuthentication {
    /// For ports that nothing else is said of.
    pub elsewhere: PeerRule,
    /// Ports that something is said of.
    pub by_port: BTreeMap<u16, PeerRule>,
    /// PeerAuthentications that may be for the workload and were refused, each with where its mistake is.
    pub refused: Vec<String>,
    /// Whether the workload has a certificate to speak mutual TLS with.
    pub has_identity: bool,
}

impl PeerAuthentication {
    /// What is asked of connections to a port.
    pub fn of(&self, port: u16) -> &PeerRule {
        self.by_port.get(&port).unwrap_or(&self.elsewhere)
    }
}

/// What is asked of connections, and who asks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PeerRule {
    /// What is asked.
    pub mode: PeerMode,
    /// `<namespace>/<name>` of a PeerAuthentication; `None` for the default.
    pub policy: Option<String>,
}

/// Modes of a PeerAuthentication.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PeerMode {
    /// Clear text only.
    Disable,
    /// Mutual TLS and clear text.
    Permissive,
    /// Mutual TLS only.
    Strict,
}

impl PeerMode {
    /// Istio's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "DISABLE",
            Self::Permissive => "PERMISSIVE",
            Self::Strict => "STRICT",
        }
    }
}
