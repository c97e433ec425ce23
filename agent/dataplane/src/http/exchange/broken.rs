//! What keeps a request from its answer, or an answer from its client.

use ::http1::BodyError;

use super::UpstreamVersion;
use crate::{
    failure::LocalReply,
    http::{Outcome, pump::PumpError, stream_limits::Overdue},
    relay::{RelayError, Transferred},
    upstream::ConnectError,
};

/// What ended an exchange before the head of the answer.
pub(in crate::http) enum Broken {
    /// The client is gone.
    Downstream,
    /// The client's body breaks its framing.
    Body,
    /// It broke the rules of HTTP/2.
    Malformed,
    /// The client's body stopped coming.
    Idle,
    /// The endpoint closed without a byte of an answer.
    Closed,
    /// The endpoint reset the request.
    Reset,
    /// The endpoint did not look at the request: asking again does no harm, whatever it is. It may have too much to do.
    Refused,
    /// The same, because its connection was on its way out.
    LeftOut,
    /// The endpoint's answer is not HTTP.
    Protocol,
    /// There is no connection.
    Connect(ConnectError),
    /// A limit of time has passed.
    Late(Late),
    /// A limit of the client's listener has.
    Overdue(Overdue),
}

/// A limit of time for a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::http) enum Late {
    /// That of the route, for all tries.
    Whole,
    /// That of each try.
    OneTry,
    /// The gRPC client's own.
    Deadline,
}

impl Late {
    pub(in crate::http) fn is_of_one_try(self) -> bool {
        self == Self::OneTry
    }
}

impl Broken {
    /// The answer to give in the endpoint's place; none when nobody is there to get it.
    pub(in crate::http) fn reply(&self) -> Option<LocalReply<'static>> {
        match self {
            Self::Downstream => None,
            Self::Body => Some(LocalReply::BAD_REQUEST),
            Self::Malformed => Some(LocalReply::BROKEN_HTTP2),
            Self::Idle => Some(LocalReply::STREAM_TIMEOUT),
            Self::Closed => Some(LocalReply::UPSTREAM_CLOSED),
            Self::Reset => Some(LocalReply::UPSTREAM_RESET),
            Self::Refused | Self::LeftOut => Some(LocalReply::UPSTREAM_REFUSED),
            Self::Protocol => Some(LocalReply::UPSTREAM_PROTOCOL_ERROR),
            Self::Connect(error) => Some(LocalReply::connect_failed(error)),
            Self::Overdue(overdue) => Some(overdue.reply()),
            Self::Late(Late::Whole) => Some(LocalReply::TIMEOUT),
            Self::Late(Late::OneTry) => Some(LocalReply::TRY_TIMEOUT),
            Self::Late(Late::Deadline) => Some(LocalReply::DEADLINE),
        }
    }
}

impl From<PumpError> for Broken {
    fn from(error: PumpError) -> Self {
        match error {
            PumpError::Read | PumpError::Body(BodyError::Truncated) => Self::Downstream,
            PumpError::Body(_) | PumpError::Text => Self::Body,
            PumpError::Malformed => Self::Malformed,
            PumpError::Write | PumpError::Untaken => Self::Closed,
            PumpError::Idle => Self::Idle,
            PumpError::Late => Self::Late(Late::Whole),
            PumpError::Overdue(overdue) => Self::Overdue(overdue),
        }
    }
}

/// How the log tells of another protocol that client and endpoint have spoken.
pub(in crate::http) fn switched_outcome(
    (transferred, result): (Transferred, Result<(), RelayError>),
    version: UpstreamVersion,
) -> Outcome<'static> {
    let (flags, details) = match body_end(match result {
        Ok(()) => Ok(()),
        Err(RelayError::Downstream(_)) => Err(PumpError::Write),
        Err(RelayError::Upstream(_)) => Err(PumpError::Read),
        Err(RelayError::Untaken) => Err(PumpError::Untaken),
        Err(RelayError::Idle | RelayError::Expired) => Err(PumpError::Idle),
    }) {
        ("UC", _) if version == UpstreamVersion::Http2 => {
            ("UR", "upstream_reset_after_response_started{remote_reset}")
        }
        end => end,
    };
    Outcome { flags, details, received: transferred.received, sent: transferred.sent, ..Outcome::default() }
}

/// How the log tells of a body that did not arrive whole, and of one that did: flags and details.
pub(in crate::http) fn body_end(moved: Result<(), PumpError>) -> (&'static str, &'static str) {
    match moved {
        Ok(()) => ("", "via_upstream"),
        Err(PumpError::Write) => ("DC", "downstream_remote_disconnect"),
        Err(PumpError::Idle) => ("SI", "stream_idle_timeout"),
        // As Envoy tells of streams that its overload manager resets.
        Err(PumpError::Untaken) => ("OM", "overload"),
        Err(PumpError::Late) => ("UT", "response_timeout"),
        Err(PumpError::Overdue(overdue)) => {
            let LocalReply { flags, details, .. } = overdue.reply();
            (flags, details)
        }
        Err(PumpError::Read | PumpError::Malformed) => {
            ("UC", "upstream_reset_after_response_started{connection_termination}")
        }
        Err(PumpError::Body(_) | PumpError::Text) => {
            ("UPE", "upstream_reset_after_response_started{protocol_error}")
        }
    }
}
