//! Where the proxy itself listens.

use std::{net::SocketAddr, sync::Arc};

use crate::SourceAddresses;

/// Where the interfaces of the proxy listen. What it forwards does not go there at loopback, where processes of the pod
/// are believed: it would come from the pod, whoever has sent it and whoever has written where it goes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct OwnPorts(Arc<[SocketAddr]>);

impl OwnPorts {
    /// Of interfaces that listen at these addresses.
    pub fn new(at: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self(at.into_iter().collect())
    }

    /// Whether nothing is forwarded to an endpoint that is called from `source`: calls to the workload, which are told
    /// from those of the pod by that, reach what everybody reaches.
    pub fn refuse(&self, endpoint: SocketAddr, source: Option<SourceAddresses>) -> bool {
        let is_told_apart = source == Some(SourceAddresses::INBOUND);
        let is_own =
            |own: &SocketAddr| own.port() == endpoint.port() && !(is_told_apart && own.ip().is_unspecified());
        let ip = endpoint.ip().to_canonical();
        // Connections to no address in particular go to loopback, too.
        (ip.is_loopback() || ip.is_unspecified()) && self.0.iter().any(is_own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_forwarded_to_the_proxy_at_loopback_but_calls_to_what_everybody_reaches() {
        let own = ["127.0.0.1:15000", "0.0.0.0:15020"].map(|own| own.parse().unwrap());
        let own = OwnPorts::new(own);
        let refused = |endpoint: &str, source| own.refuse(endpoint.parse().unwrap(), source);
        for port in [15000, 15020] {
            for ip in ["127.0.0.1", "127.0.0.6", "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]"] {
                assert!(refused(&format!("{ip}:{port}"), None), "{ip}:{port}");
            }
            assert!(!refused(&format!("10.0.0.1:{port}"), None));
        }
        assert!(!refused("127.0.0.1:8080", None));
        let inbound = Some(SourceAddresses::INBOUND);
        assert!(refused("127.0.0.1:15000", inbound) && !refused("127.0.0.1:15020", inbound));
    }
}
