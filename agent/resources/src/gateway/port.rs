//! Ports of Gateway servers, and what is spoken there.

use std::str::FromStr;

use crate::{
    Path,
    decode::{Context, Decode, Fields, PortNumber, Shape, word},
    finding::Problem,
    yaml::{Node, Value},
};

/// `Port` of a server.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ServerPort {
    /// Declared port, 1–65535; 0 with a unix socket only.
    pub number: u16,
    /// What is spoken there.
    pub protocol: Protocol,
    /// Name, unique within the Gateway.
    pub name: String,
}

impl Shape for ServerPort {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let problem = Problem::new("is not for Gateways");
        let remedy = "write it in the Service that selects the gateway";
        fields.refused::<u32>("targetPort", problem.remedy(remedy));
        let MaybeZeroPort(number) = fields.required("number");
        Self { number, protocol: fields.required("protocol"), name: fields.required("name") }
    }
}

/// A port number where zero may be right; the `bind` decides.
#[derive(Default)]
pub(crate) struct MaybeZeroPort(u16);

impl MaybeZeroPort {
    pub(crate) fn get(self) -> u16 {
        self.0
    }
}

impl Decode for MaybeZeroPort {
    const FORM: &'static str = PortNumber::FORM;

    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        match &node.value {
            Value::Scalar { text, plain: true } if text == "0" => Self(0),
            _ => Self(PortNumber::decode(node, at, context).get()),
        }
    }
}

/// Protocol of a server port; case does not matter when written.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Protocol {
    /// HTTP/1.1, and HTTP/2 with prior knowledge.
    #[default]
    Http,
    /// HTTP over TLS, or opaque TLS in mode PASSTHROUGH.
    Https,
    /// gRPC.
    Grpc,
    /// gRPC-Web, bridged to gRPC.
    GrpcWeb,
    /// HTTP/2.
    Http2,
    /// MongoDB, relayed as bytes.
    Mongo,
    /// Bytes.
    Tcp,
    /// TLS: passed through or terminated, then relayed as bytes.
    Tls,
    /// Redis, relayed as bytes.
    Redis,
    /// MySQL, relayed as bytes.
    Mysql,
}

impl Protocol {
    const NAMES: [(&'static str, Self); 10] = [
        ("HTTP", Self::Http),
        ("HTTPS", Self::Https),
        ("GRPC", Self::Grpc),
        ("GRPC-WEB", Self::GrpcWeb),
        ("HTTP2", Self::Http2),
        ("MONGO", Self::Mongo),
        ("TCP", Self::Tcp),
        ("TLS", Self::Tls),
        ("REDIS", Self::Redis),
        ("MYSQL", Self::Mysql),
    ];

    /// Clear-text HTTP of any version.
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2 | Self::Grpc | Self::GrpcWeb)
    }

    /// TLS on the wire.
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Tls)
    }
}

impl FromStr for Protocol {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let named = Self::NAMES.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
        named.map(|(_, protocol)| protocol).ok_or(())
    }
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name =
            Self::NAMES.into_iter().find(|(_, protocol)| protocol == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

impl Decode for Protocol {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        word(node, &Self::NAMES.map(|(name, _)| name), at, context)
    }
}
