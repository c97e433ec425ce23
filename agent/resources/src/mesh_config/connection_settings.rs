//! `ProxyConfig.ConnectionSettings`: what clients may do, and for how long.

use std::time::Duration;

use crate::{
    Path,
    decode::{Context, Decode, Fields, Limit, Shape, whole_number, word_of},
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
    /// `httpStreamIdleTimeout`; zero is for ever.
    pub stream_idle_timeout: Option<Duration>,
    /// `httpRequestTimeout`; zero is for ever.
    pub request_timeout: Option<Duration>,
    /// `httpMaxStreamDuration`; zero is for ever.
    pub max_stream_duration: Option<Duration>,
    /// `httpMaxConnectionDuration`; zero is for ever.
    pub max_connection_duration: Option<Duration>,
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
    /// `httpPathWithEscapedSlashesAction`.
    pub escaped_slashes: Option<EscapedSlashes>,
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
            stream_idle_timeout: self.stream_idle_timeout.or(base.stream_idle_timeout),
            request_timeout: self.request_timeout.or(base.request_timeout),
            max_stream_duration: self.max_stream_duration.or(base.max_stream_duration),
            max_connection_duration: self.max_connection_duration.or(base.max_connection_duration),
            streams: self.streams.or(base.streams),
            stream_window: self.stream_window.or(base.stream_window),
            connection_window: self.connection_window.or(base.connection_window),
            underscores: self.underscores.or(base.underscores),
            merge_slashes: self.merge_slashes.or(base.merge_slashes),
            escaped_slashes: self.escaped_slashes.or(base.escaped_slashes),
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
            stream_idle_timeout: fields.optional("httpStreamIdleTimeout"),
            request_timeout: fields.optional("httpRequestTimeout"),
            max_stream_duration: fields.optional("httpMaxStreamDuration"),
            max_connection_duration: fields.optional("httpMaxConnectionDuration"),
            streams,
            stream_window,
            connection_window,
            underscores: fields.optional("httpHeadersWithUnderscoresAction"),
            merge_slashes: fields.optional("httpMergeSlashes"),
            escaped_slashes: fields.optional("httpPathWithEscapedSlashesAction"),
            connection_limit: limit.and_then(Limit::get).map(u64::from),
        };
        // Buffers are smaller than anybody asks for, and a client is told to go in as many steps as it takes.
        fields.ignore(&[
            "listenerPerConnectionBufferLimitBytes",
            "clusterPerConnectionBufferLimitBytes",
            "httpDrainTimeout",
        ]);
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
        word_of(node, &[("SIDECAR", Self::Sidecar), ("EDGE", Self::Edge)], at, context)
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
    /// They go on without these fields.
    DropHeader,
}

impl Decode for Underscores {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        let words = [
            ("HEADERS_WITH_UNDERSCORES_ALLOW", Self::Allow),
            ("HEADERS_WITH_UNDERSCORES_REJECT_REQUEST", Self::RejectRequest),
            ("HEADERS_WITH_UNDERSCORES_DROP_HEADER", Self::DropHeader),
            ("ALLOW", Self::Allow),
            ("REJECT_REQUEST", Self::RejectRequest),
            ("DROP_HEADER", Self::DropHeader),
        ];
        word_of(node, &words, at, context)
    }
}

/// What becomes of requests whose paths hold `%2F` or `%5C`, which some servers take for `/`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum EscapedSlashes {
    /// They are like others.
    #[default]
    KeepUnchanged,
    /// They are refused.
    RejectRequest,
    /// The client is sent to the path with slashes.
    UnescapeAndRedirect,
    /// They go on with slashes.
    UnescapeAndForward,
}

impl Decode for EscapedSlashes {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        let words = [
            ("KEEP_UNCHANGED", Self::KeepUnchanged),
            ("REJECT_REQUEST", Self::RejectRequest),
            ("UNESCAPE_AND_REDIRECT", Self::UnescapeAndRedirect),
            ("UNESCAPE_AND_FORWARD", Self::UnescapeAndForward),
        ];
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
            ("httpPathWithEscapedSlashesAction: UNESCAPE", "is not a known word (found `UNESCAPE`"),
            ("httpStreamIdleTimeout: 5", "httpStreamIdleTimeout: is not a duration (found `5`"),
        ] {
            let (_, findings) = read(text);
            assert!(findings.len() == 1 && findings[0].contains(said), "{text}: {findings:?}");
        }
    }
}
