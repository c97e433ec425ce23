//! What each rule is for, in the words `explain` prints.

use std::fmt;

/// What a rule of ours is for.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Purpose {
    /// An interface without capture.
    ExcludedInterface,
    /// What a virtual machine sends is not inbound traffic.
    VirtualMachineNotInbound,
    /// What a virtual machine sends is captured as outbound traffic.
    VirtualMachineOutbound,
    /// Packets that belong to no connection are dropped.
    DropInvalid,
    /// The inbound tunnel is not redirected.
    InboundTunnel,
    /// To the outbound port of the proxy.
    ToOutboundPort,
    /// To the inbound port of the proxy.
    ToInboundPort,
    /// The kernel hands incoming connections to our inbound chain.
    EnterInbound,
    /// The kernel hands outgoing connections to our outbound chain.
    EnterOutbound,
    /// The kernel hands DNS queries to our DNS chain.
    EnterDns,
    /// An inbound port left alone.
    ExcludedInboundPort,
    /// An inbound port to capture.
    CaptureInbound,
    /// An outbound port left alone.
    ExcludedOutboundPort,
    /// The proxy handing an inbound connection to the application.
    Passthrough,
    /// The proxy calling its own pod goes through the inbound side.
    ProxyCallsItself,
    /// The application talking to itself is left alone.
    ApplicationLoopback,
    /// The proxy's own traffic is left alone.
    ProxyTraffic,
    /// Traffic of an excluded group is left alone.
    ExcludedGroup,
    /// Traffic of groups that are not listed is left alone.
    UnlistedGroup,
    /// Loopback destinations are left alone.
    LoopbackDestination,
    /// Destinations left alone.
    ExcludedDestination,
    /// An outbound port captured whatever the address.
    CaptureOutboundPort,
    /// Outbound destinations to capture.
    CaptureOutbound,
    /// DNS queries go to the proxy.
    ToDnsPort,
    /// Connection tracking of DNS between the proxy and the resolver, apart from the application's.
    ProxyResolverZone,
    /// Connection tracking of DNS between the application and the proxy.
    ApplicationProxyZone,
    /// Later packets of a connection that TPROXY has captured.
    DivertEstablished,
    /// The mark that delivers a packet to the proxy.
    MarkForProxy,
    /// To the transparent socket of the proxy.
    ToTransparentSocket,
    /// The connection remembers that the proxy speaks with the client's address.
    RememberMark,
    /// Answers to the proxy speaking with the client's address go to the proxy.
    RecallMark,
    /// The proxy speaking with the client's address is left alone.
    ProxySpoke,
    /// The proxy calling its own pod is told from the application doing so.
    MarkProxyLoop,
}

impl Purpose {
    /// A short clause about the packets that meet the rule.
    pub fn clause(self) -> &'static str {
        match self {
            Self::ExcludedInterface => "interface without capture",
            Self::VirtualMachineNotInbound => "traffic of a virtual machine is not inbound",
            Self::VirtualMachineOutbound => "traffic of a virtual machine is captured as outbound",
            Self::DropInvalid => "packet of no connection",
            Self::InboundTunnel => "inbound tunnel, never redirected",
            Self::ToOutboundPort => "to the outbound port of the proxy",
            Self::ToInboundPort => "to the inbound port of the proxy",
            Self::EnterInbound => "inbound traffic",
            Self::EnterOutbound => "outbound traffic",
            Self::EnterDns => "DNS traffic",
            Self::ExcludedInboundPort => "inbound port left alone",
            Self::CaptureInbound => "inbound port to capture",
            Self::ExcludedOutboundPort => "outbound port left alone",
            Self::Passthrough => "proxy hands an inbound connection to the application",
            Self::ProxyCallsItself => "proxy calls its own pod: inbound",
            Self::ApplicationLoopback => "application talks to its own pod",
            Self::ProxyTraffic => "the proxy's own traffic",
            Self::ExcludedGroup => "traffic of an excluded group",
            Self::UnlistedGroup => "traffic of a group that is not listed",
            Self::LoopbackDestination => "loopback destination",
            Self::ExcludedDestination => "destination left alone",
            Self::CaptureOutboundPort => "outbound port to capture",
            Self::CaptureOutbound => "outbound destination to capture",
            Self::ToDnsPort => "to the DNS port of the proxy",
            Self::ProxyResolverZone => "DNS between proxy and resolver",
            Self::ApplicationProxyZone => "DNS between application and proxy",
            Self::DivertEstablished => "connection captured before",
            Self::MarkForProxy => "mark that delivers the packet to the proxy",
            Self::ToTransparentSocket => "to the transparent socket of the proxy",
            Self::RememberMark => "connection on which the proxy speaks as the client",
            Self::RecallMark => "answer to the proxy speaking as the client",
            Self::ProxySpoke => "proxy speaks as the client",
            Self::MarkProxyLoop => "proxy calls its own pod",
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.clause())
    }
}
