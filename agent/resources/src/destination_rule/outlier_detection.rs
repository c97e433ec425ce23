//! When an endpoint is left out for its errors.

use std::time::Duration;

use crate::{
    Path,
    decode::{Context, Fields, Interval, Limit, Shape},
    finding::Problem,
};

/// `OutlierDetection`; what is absent has Istio's default.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct OutlierDetection {
    /// Answers of class 5xx in a row, or errors of the connection; 5 when absent, 0 for none.
    pub consecutive_5xx_errors: Option<u32>,
    /// Answers 502, 503 or 504 in a row; absent or 0 for none.
    pub consecutive_gateway_errors: Option<u32>,
    /// Whether errors of the connection are counted apart from answers.
    pub split_external_local_origin_errors: bool,
    /// Errors of the connection in a row when counted apart; 5 when absent.
    pub consecutive_local_origin_failures: Option<u32>,
    /// How often endpoints are looked at; 10 s when absent.
    pub interval: Option<Duration>,
    /// How long an endpoint is left out the first time; 30 s when absent.
    pub base_ejection_time: Option<Duration>,
    /// Most endpoints left out, in percent; 10 when absent or zero.
    pub max_ejection_percent: Option<u32>,
    /// Percent of healthy endpoints below which none is left out.
    pub min_health_percent: u32,
    /// Status codes that count instead of class 5xx.
    pub http_error_codes: Vec<u32>,
}

impl OutlierDetection {
    /// These settings, with what they leave out taken from `base`.
    #[must_use]
    pub fn over(&self, base: &Self) -> Self {
        let codes = if self.http_error_codes.is_empty() { base } else { self };
        let percent = if self.min_health_percent == 0 { base } else { self };
        Self {
            consecutive_5xx_errors: self.consecutive_5xx_errors.or(base.consecutive_5xx_errors),
            consecutive_gateway_errors: self.consecutive_gateway_errors.or(base.consecutive_gateway_errors),
            split_external_local_origin_errors: self.split_external_local_origin_errors
                || base.split_external_local_origin_errors,
            consecutive_local_origin_failures: self
                .consecutive_local_origin_failures
                .or(base.consecutive_local_origin_failures),
            interval: self.interval.or(base.interval),
            base_ejection_time: self.base_ejection_time.or(base.base_ejection_time),
            max_ejection_percent: self.max_ejection_percent.or(base.max_ejection_percent),
            min_health_percent: percent.min_health_percent,
            http_error_codes: codes.http_error_codes.clone(),
        }
    }
}

impl Shape for OutlierDetection {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let _: Option<i32> = fields.deprecated("consecutiveErrors", "consecutive5xxErrors");
        Self {
            consecutive_5xx_errors: fields.optional("consecutive5xxErrors"),
            consecutive_gateway_errors: fields.optional("consecutiveGatewayErrors"),
            split_external_local_origin_errors: fields.or_default("splitExternalLocalOriginErrors"),
            consecutive_local_origin_failures: fields.optional("consecutiveLocalOriginFailures"),
            interval: fields.optional("interval").map(Interval::get),
            base_ejection_time: fields.optional("baseEjectionTime").map(Interval::get),
            max_ejection_percent: fields.optional("maxEjectionPercent").and_then(Limit::get),
            min_health_percent: fields.or_default("minHealthPercent"),
            http_error_codes: fields.or_default("outlierDetectionHttpErrorCodes"),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        for (name, percent) in [
            ("maxEjectionPercent", self.max_ejection_percent.unwrap_or_default()),
            ("minHealthPercent", self.min_health_percent),
        ] {
            if percent > 100 {
                let problem = Problem::new("is no percentage").found(percent);
                context.error(&at.field(name), problem.expected("0–100"));
            }
        }
        if self.consecutive_local_origin_failures.is_some_and(|count| count > 0)
            && !self.split_external_local_origin_errors
        {
            let problem = Problem::new("has no meaning while errors of the connection are not counted apart");
            context.error(
                &at.field("consecutiveLocalOriginFailures"),
                problem.remedy("add `splitExternalLocalOriginErrors: true`"),
            );
        }
        let codes = at.field("outlierDetectionHttpErrorCodes");
        for (index, code) in self.http_error_codes.iter().enumerate() {
            if !(100..=599).contains(code) {
                let problem = Problem::new("is no status code").found(code);
                context.error(&codes.index(index), problem.expected("100–599"));
            }
        }
    }
}
