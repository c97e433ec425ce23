//! Calls to hosts that no resource names (`outboundTrafficPolicy`).

use crate::{
    ClientTls, ClientTlsMode, Path,
    decode::{Context, Decode, Fields, Shape, word, word_of},
    finding::{Problem, Rule},
    yaml::Node,
};

/// What happens to calls to hosts that no resource names.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum OutboundTrafficPolicy {
    /// They go where they were going (`ALLOW_ANY`).
    #[default]
    AllowAny,
    /// They are refused (`REGISTRY_ONLY`).
    RegistryOnly,
    /// Requests go to what DNS says of the host that they ask for, anything else where it was going
    /// (`ALLOW_ANY_DYNAMIC_DNS`, in MeshConfig only).
    AllowAnyDynamicDns,
}

impl Decode for OutboundTrafficPolicy {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        word(node, &["ALLOW_ANY", "REGISTRY_ONLY"], at, context)
    }
}

impl std::str::FromStr for OutboundTrafficPolicy {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "ALLOW_ANY" => Ok(Self::AllowAny),
            "REGISTRY_ONLY" => Ok(Self::RegistryOnly),
            _ => Err(()),
        }
    }
}

/// What the mesh says of them.
#[derive(Default)]
pub(super) struct OutboundTraffic {
    pub(super) mode: OutboundTrafficPolicy,
    pub(super) tls: Option<ClientTls>,
}

impl Shape for OutboundTraffic {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let mode: Option<MeshOutbound> = fields.optional("mode");
        Self { mode: mode.unwrap_or_default().0, tls: fields.optional("tls") }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        let Some(tls) = &self.tls else { return };
        let at = at.field("tls");
        if self.mode != OutboundTrafficPolicy::AllowAnyDynamicDns {
            let problem = Problem::new("has no effect without mode ALLOW_ANY_DYNAMIC_DNS");
            context.warning(Rule::Invalid, &at, problem.remedy("set that mode, or remove it"));
        }
        if tls.mode == ClientTlsMode::IstioMutual {
            let problem = Problem::new("hosts outside the mesh have no certificate of the mesh");
            context.error(
                &at.field("mode"),
                problem.found("ISTIO_MUTUAL").expected("SIMPLE, MUTUAL or DISABLE"),
            );
        }
    }
}

/// A mode of the mesh, which has one more than a Sidecar.
#[derive(Default)]
struct MeshOutbound(OutboundTrafficPolicy);

impl Decode for MeshOutbound {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        let words = [
            ("ALLOW_ANY", OutboundTrafficPolicy::AllowAny),
            ("REGISTRY_ONLY", OutboundTrafficPolicy::RegistryOnly),
            ("ALLOW_ANY_DYNAMIC_DNS", OutboundTrafficPolicy::AllowAnyDynamicDns),
        ];
        Self(word_of(node, &words, at, context))
    }
}
