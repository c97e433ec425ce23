//! `ProxyConfig.ConnectionSettings`: what clients may do, and for how long.

use std::time::Duration;

use super::Anything;
use crate::{
    Path,
    decode::{Context, Decode, Fields, Limit, Shape, whole_number, word_of},
    finding::{Problem, Rule},
    yaml::Node,
};

/// `ProxyConfig.ConnectionSettings` but for its limit of connections; what is absent is as the profile has it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ConnectionSettings {
    /// `profile`: whether gateways are as Envoy recommends at the edge.
    pub profile: Option<Profile>,
    /// `httpIdleTimeout`; zero is for ever.
    pub idle_timeout: Option<Duration>,
    /// `httpRequestHeadersTimeout`; zero is for ever.
    pub head_timeout: Option<Duration>,
    /// `httpMaxConcurrentStreams`.
    pub streams: Option<u32>,
    /// `http2InitialStreamWindowSize`.
    pub stream_window: Option<u32>,
    /// `http2InitialConnectionWindowSize`.
    pub connection_window: Option<u32>,
    /// `httpHeadersWithUnderscoresAction`.
    pub underscores: Option<Underscores>,
    /// `httpMergeSlashes`.
    pub merge_slashes: Option<bool>,
    /// `globalDownstreamConnectionLimit`.
    pub(super) connection_limit: Option<u64>,
}

impl ConnectionSettings {
    /// These, with what they leave out taken from `base`.
    pub(super) fn over(self, base: Self) -> Self {
        Self {
            profile: self.profile.or(base.profile),
            idle_timeout: self.idle_timeout.or(base.idle_timeout),
            head_timeout: self.head_timeout.or(base.head_timeout),
            streams: self.streams.or(base.streams),
            stream_window: self.stream_window.or(base.stream_window),
            connection_window: self.connection_window.or(base.connection_window),
            underscores: self.underscores.or(base.underscores),
            merge_slashes: self.merge_slashes.or(base.merge_slashes),
            connection_limit: self.connection_limit.or(base.connection_limit),
        }
    }
}

impl Shape for ConnectionSettings {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let limit: Option<Limit> = fields.optional("globalDownstreamConnectionLimit");
        let Streams(streams) = fields.or_default("httpMaxConcurrentStreams");
        let Window(stream_window) = fields.or_default("http2InitialStreamWindowSize");
        let Window(connection_window) = fields.or_default("http2InitialConnectionWindowSize");
        let settings = Self {
            profile: fields.optional("profile"),
            idle_timeout: fields.optional("httpIdleTimeout"),
            head_timeout: fields.optional("httpRequestHeadersTimeout"),
            streams,
            stream_window,
            connection_window,
            underscores: fields.optional("httpHeadersWithUnderscoresAction"),
            merge_slashes: fields.optional("httpMergeSlashes"),
            connection_limit: limit.and_then(Limit::get).map(u64::from),
        };
        for name in ["httpStreamIdleTimeout", "httpRequestTimeout", "httpPathWithEscapedSlashesAction"] {
            fields.planned::<Anything>(name);
        }
        fields.planned_rest();
        settings
    }
}

/// `ConnectionSettings.Profile`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Profile {
    /// Nothing but what is written.
    #[default]
    Sidecar,
    /// Gateways are as Envoy recommends at the edge in what is not written; sidecars are not.
    Edge,
}

impl Decode for Profile {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        let profile = word_of(node, &[("SIDECAR", Self::Sidecar), ("EDGE", Self::Edge)], at, context);
        if profile == Self::Edge {
            let missing = "httpStreamIdleTimeout, httpRequestTimeout and httpPathWithEscapedSlashesAction";
            let problem = Problem::new("does not bring everything yet").found("EDGE");
            let problem = problem.remedy(format!("do not count on its {missing}"));
            context.warning(Rule::NotSupported, at, problem);
        }
        profile
    }
}

/// What becomes of requests with fields whose names hold `_`, which some servers take for `-`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Underscores {
    /// They are like others.
    #[default]
    Allow,
    /// They are refused.
    RejectRequest,
}

impl Decode for Underscores {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        const DROP: &str = "HEADERS_WITH_UNDERSCORES_DROP_HEADER";
        let words = [
            ("HEADERS_WITH_UNDERSCORES_ALLOW", Self::Allow),
            ("HEADERS_WITH_UNDERSCORES_REJECT_REQUEST", Self::RejectRequest),
            (DROP, Self::RejectRequest),
            ("ALLOW", Self::Allow),
            ("REJECT_REQUEST", Self::RejectRequest),
            ("DROP_HEADER", Self::RejectRequest),
        ];
        if matches!(node.text(), Some(DROP | "DROP_HEADER")) {
            let problem = Problem::new("is not supported yet: requests with such fields are refused");
            let problem = problem.remedy("write HEADERS_WITH_UNDERSCORES_REJECT_REQUEST");
            context.warning(Rule::NotSupported, at, problem);
        }
        word_of(node, &words, at, context)
    }
}

/// A number of concurrent streams.
#[derive(Default)]
struct Streams(Option<u32>);

impl Decode for Streams {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        Self(Some(within(node, 1, at, context)))
    }
}

/// Bytes of a flow-control window of HTTP/2, which cannot begin smaller than it is without a word (RFC 9113 §6.9.2).
#[derive(Default)]
struct Window(Option<u32>);

impl Decode for Window {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        Self(Some(within(node, 65_535, at, context)))
    }
}

/// A number from `least` to what 31 bits hold.
fn within(node: &Node<'_>, least: u32, at: &Path<'_>, context: &mut Context<'_>) -> u32 {
    let number = whole_number(node, i64::from(least)..=i32::MAX.into(), at, context);
    u32::try_from(number).unwrap_or(least)
}

#[cfg(test)]
mod tests {
    use super::{super::ProxyConfig, *};

    fn read(text: &str) -> (ConnectionSettings, Vec<String>) {
        let (config, findings) =
            ProxyConfig::read("PROXY_CONFIG", &format!("connectionSettings: {{{text}}}"));
        (config.connection_settings, findings.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn limits_are_read_and_the_pod_has_the_last_word() {
        let text = "httpMaxConcurrentStreams: 200, http2InitialStreamWindowSize: 65536, httpIdleTimeout: 10s, \
                    httpHeadersWithUnderscoresAction: HEADERS_WITH_UNDERSCORES_REJECT_REQUEST";
        let (settings, findings) = read(text);
        let expected = ConnectionSettings {
            streams: Some(200),
            stream_window: Some(65_536),
            idle_timeout: Some(Duration::from_secs(10)),
            underscores: Some(Underscores::RejectRequest),
            ..ConnectionSettings::default()
        };
        assert_eq!((settings, findings), (expected, Vec::new()));
        let own = read("httpMaxConcurrentStreams: 5").0.over(settings);
        assert_eq!(own, ConnectionSettings { streams: Some(5), ..expected });
    }

    #[test]
    fn what_cannot_be_is_refused_and_what_is_missing_is_said() {
        for (text, said) in [
            (
                "http2InitialStreamWindowSize: 1000",
                "is out of range (found `1000`; expected a whole number, 65535–",
            ),
            ("httpMaxConcurrentStreams: 0", "is out of range (found `0`; expected a whole number, 1–"),
            ("profile: EDGY", "profile: is not a known word (found `EDGY`"),
            ("profile: EDGE", "profile: does not bring everything yet (found `EDGE`"),
            ("httpStreamIdleTimeout: 5s", "httpStreamIdleTimeout: is not supported yet"),
            ("httpHeadersWithUnderscoresAction: DROP_HEADER", "requests with such fields are refused"),
        ] {
            let (_, findings) = read(text);
            assert!(findings.len() == 1 && findings[0].contains(said), "{text}: {findings:?}");
        }
    }
}
