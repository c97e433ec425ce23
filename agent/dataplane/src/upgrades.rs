//! Protocols that clients may switch to.

use std::{str::FromStr, sync::Arc};

/// Protocols to which a request may switch its connection, or its stream: offers of others end at the proxy.
///
/// Read from a list with commas, such as `websocket,SPDY/3.1`, or `none`. Each is held against the whole value of
/// `upgrade`, or `:protocol`, in any case, as Envoy's `upgrade_type` is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Upgrades(Arc<[Box<str>]>);

/// Why a list of protocols cannot be used.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum UpgradesError {
    /// One of them cannot stand in `upgrade`.
    #[error(
        "`{0}` is no protocol: expected names as `upgrade` has them, with commas between, such as \
         `websocket,SPDY/3.1`, or `none`"
    )]
    Malformed(String),
    /// A version of HTTP.
    #[error(
        "`{0}` cannot be passed on: its requests would pass all routes and policies unseen; remove it, clients speak \
         HTTP/2 with the proxy by TLS or prior knowledge"
    )]
    Http(String),
}

impl Upgrades {
    /// Whether a request may switch to this, the value of `upgrade` or `:protocol`.
    pub(crate) fn allow(&self, protocol: &str) -> bool {
        self.0.iter().any(|allowed| allowed.eq_ignore_ascii_case(protocol))
    }

    /// Their names.
    pub fn names(&self) -> Vec<&str> {
        self.0.iter().map(|name| &**name).collect()
    }

    /// Whether there is nothing that a request may switch to.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Websocket, as everywhere in Istio.
impl Default for Upgrades {
    fn default() -> Self {
        Self(Arc::new(["websocket".into()]))
    }
}

impl FromStr for Upgrades {
    type Err = UpgradesError;

    fn from_str(list: &str) -> Result<Self, UpgradesError> {
        match list.trim() {
            "none" => Ok(Self(Arc::new([]))),
            list => {
                list.split(',').map(|protocol| checked(protocol.trim())).collect::<Result<_, _>>().map(Self)
            }
        }
    }
}

/// A name, perhaps with a version behind it (RFC 9110 §7.8).
fn checked(protocol: &str) -> Result<Box<str>, UpgradesError> {
    let (name, version) = protocol.split_once('/').unwrap_or((protocol, "0"));
    if !is_token(name) || !is_token(version) || name == "none" || name == "*" {
        return Err(UpgradesError::Malformed(protocol.to_owned()));
    }
    if ["h2c", "h2", "h3", "http"].iter().any(|http| name.eq_ignore_ascii_case(http)) {
        return Err(UpgradesError::Http(protocol.to_owned()));
    }
    Ok(protocol.into())
}

/// Whether it is one word of HTTP (RFC 9110 §5.6.2).
fn is_token(text: &str) -> bool {
    let of_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(of_token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listed_is_allowed_in_any_case_and_nothing_else() {
        let listed: Upgrades = "websocket, SPDY/3.1".parse().unwrap();
        for (protocol, allowed) in [
            ("WebSocket", true),
            ("spdy/3.1", true),
            ("spdy", false),
            ("SPDY/3", false),
            ("websocket, spdy/3.1", false),
            ("", false),
        ] {
            assert_eq!(listed.allow(protocol), allowed, "{protocol}");
        }
        assert!(Upgrades::default().allow("websocket") && !Upgrades::default().allow("SPDY/3.1"));
        let none: Upgrades = "none".parse().unwrap();
        assert!(none.is_empty() && !none.allow("none"));
    }

    #[test]
    fn versions_of_http_and_what_is_no_protocol_are_refused() {
        for wrong in ["", "websocket,", "web socket", "spdy/", "/3.1", "a/b/c", "websocket,none", "*"] {
            assert!(matches!(wrong.parse::<Upgrades>(), Err(UpgradesError::Malformed(_))), "{wrong}");
        }
        for wrong in ["h2c", "websocket,H2C", "HTTP/2.0", "h2"] {
            assert!(matches!(wrong.parse::<Upgrades>(), Err(UpgradesError::Http(_))), "{wrong}");
        }
    }
}
