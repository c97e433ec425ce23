//! Where calls to the workload go (`inboundTrafficPolicy`).

use crate::{
    Path,
    decode::{Context, Decode, Fields, Shape, word_of},
    yaml::Node,
};

/// Where calls to the workload go (`InboundTrafficPolicy`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum InboundTrafficPolicy {
    /// Where they were going (`PASSTHROUGH`).
    #[default]
    Passthrough,
    /// To the loopback address (`LOCALHOST`), as releases before 1.10 did.
    Localhost,
}

#[derive(Default)]
pub(super) struct InboundTraffic(pub(super) InboundTrafficPolicy);

impl Shape for InboundTraffic {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self(fields.or_default("mode"))
    }
}

impl Decode for InboundTrafficPolicy {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        word_of(node, &[("PASSTHROUGH", Self::Passthrough), ("LOCALHOST", Self::Localhost)], at, context)
    }
}
