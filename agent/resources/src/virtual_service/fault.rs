//! Faults that are injected, and copies that are sent elsewhere: for shares of the requests.

use std::time::Duration;

use super::{Destination, check_one_of, check_status};
use crate::{
    Path,
    decode::{Context, Fields, Interval, Shape},
    finding::{Problem, Rule},
};

/// Faults to inject (`HTTPFaultInjection`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fault {
    /// Delay before the request is sent on.
    pub delay: Option<FaultDelay>,
    /// Answer instead of sending it on.
    pub abort: Option<FaultAbort>,
}

/// `HTTPFaultInjection.Delay`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FaultDelay {
    /// Share of requests; absent means none.
    pub percentage: Option<Percent>,
    /// How long.
    pub fixed_delay: Option<Duration>,
}

/// `HTTPFaultInjection.Abort`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FaultAbort {
    /// Share of requests; absent means none.
    pub percentage: Option<Percent>,
    /// Status code, 200–599.
    pub http_status: Option<u32>,
    /// gRPC status by name.
    pub grpc_status: Option<String>,
}

impl Shape for Fault {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self { delay: fields.optional("delay"), abort: fields.optional("abort") }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        if *self == Self::default() {
            context.error(at, Problem::new("is empty").expected("`delay` or `abort`"));
        }
    }
}

impl Shape for FaultDelay {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let percent = Percent::read_whole("percent", "percentage.value", fields);
        let _: Option<Duration> = fields.unsupported("exponentialDelay", "fixedDelay");
        Self {
            percentage: fields.optional("percentage").or(percent),
            fixed_delay: fields.required_some("fixedDelay").map(Interval::get),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        check_percentage(self.percentage, "delayed", at, context);
    }
}

impl Shape for FaultAbort {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let _: Option<String> = fields.unsupported("http2Error", "httpStatus");
        Self {
            percentage: fields.optional("percentage"),
            http_status: fields.optional("httpStatus"),
            grpc_status: fields.optional("grpcStatus"),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        if let Some(status) = self.http_status {
            check_status(status, 200..=599, &at.field("httpStatus"), context);
        }
        check_one_of(self.grpc_status.as_deref(), &GRPC_STATUS, &at.field("grpcStatus"), context);
        match (self.http_status.is_some(), self.grpc_status.is_some()) {
            (true, true) => context
                .error(at, Problem::new("has both `httpStatus` and `grpcStatus`").expected("one of them")),
            (false, false) => {
                let problem = Problem::new("has no status and aborts nothing");
                context.warning(Rule::Invalid, at, problem.expected("`httpStatus` or `grpcStatus`"));
            }
            _ if !context.refused => check_percentage(self.percentage, "aborted", at, context),
            _ => {}
        }
    }
}

/// Without a percentage Istio takes none, where people mean all.
fn check_percentage(percentage: Option<Percent>, what: &str, at: &Path<'_>, context: &mut Context<'_>) {
    if percentage.is_none() {
        let problem = Problem::new(format!("is missing, so no request is {what}"));
        let problem = problem.expected("`value: 100` for every request");
        context.warning(Rule::Invalid, &at.field("percentage"), problem);
    }
}

/// The names of gRPC status codes, each at the place of its number.
pub const GRPC_STATUS: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Where copies of requests go (`HTTPMirrorPolicy`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mirror {
    /// Receives the copies.
    pub destination: Destination,
    /// Share of requests; absent means all.
    pub percentage: Option<Percent>,
}

impl Shape for Mirror {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self { destination: fields.required("destination"), percentage: fields.optional("percentage") }
    }
}

/// A share of requests, 0–100 (`Percent`).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Percent {
    /// Percent, in steps of 0.0001.
    pub value: f64,
}

impl Percent {
    /// Reads the older form of a share, a whole number.
    pub(super) fn read_whole(
        name: &'static str,
        instead: &str,
        fields: &mut Fields<'_, '_, '_>,
    ) -> Option<Self> {
        let percent: u32 = fields.deprecated(name, instead)?;
        if percent > 100 {
            fields.error(name, Problem::new("is no percentage").found(percent).expected("0–100"));
        }
        Some(Self { value: f64::from(percent) })
    }
}

impl Shape for Percent {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self { value: fields.or_default("value") }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        let too_small = self.value > 0.0 && self.value < 0.0001;
        if !(0.0..=100.0).contains(&self.value) || too_small {
            let problem = Problem::new("is no percentage").found(self.value).expected("0, or 0.0001–100");
            context.error(&at.field("value"), problem);
        }
    }
}
