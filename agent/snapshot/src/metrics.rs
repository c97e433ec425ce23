//! Which of Istio's metrics are kept, and under which labels (Telemetry `metrics`).

use std::collections::BTreeMap;

use crate::Direction;

/// One of Istio's standard metrics.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[expect(missing_docs, reason = "Istio documents each by the name of its family")]
pub enum Metric {
    RequestCount,
    RequestDuration,
    RequestSize,
    ResponseSize,
    RequestMessages,
    ResponseMessages,
    TcpOpened,
    TcpClosed,
    TcpSent,
    TcpReceived,
}

impl Metric {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::RequestCount,
        Self::RequestDuration,
        Self::RequestSize,
        Self::ResponseSize,
        Self::RequestMessages,
        Self::ResponseMessages,
        Self::TcpOpened,
        Self::TcpClosed,
        Self::TcpSent,
        Self::TcpReceived,
    ];

    /// The name of its family.
    pub fn family(self) -> &'static str {
        match self {
            Self::RequestCount => "istio_requests_total",
            Self::RequestDuration => "istio_request_duration_milliseconds",
            Self::RequestSize => "istio_request_bytes",
            Self::ResponseSize => "istio_response_bytes",
            Self::RequestMessages => "istio_request_messages_total",
            Self::ResponseMessages => "istio_response_messages_total",
            Self::TcpOpened => "istio_tcp_connections_opened_total",
            Self::TcpClosed => "istio_tcp_connections_closed_total",
            Self::TcpSent => "istio_tcp_sent_bytes_total",
            Self::TcpReceived => "istio_tcp_received_bytes_total",
        }
    }
}

/// What becomes of the standard metrics, by the side of the workload that calls are served on.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct MetricRules {
    /// Of calls of the workload to others, and those that a gateway serves (`CLIENT`).
    pub client: SideRules,
    /// Of calls to the workload (`SERVER`).
    pub server: SideRules,
}

/// What becomes of the metrics of one side; those that are not named are as Istio has them.
pub type SideRules = BTreeMap<Metric, MetricRule>;

impl MetricRules {
    /// What becomes of a metric of one side.
    pub fn of(&self, direction: Direction, metric: Metric) -> &MetricRule {
        const AS_IT_IS: &MetricRule = &MetricRule { disabled: false, labels: BTreeMap::new() };
        let side = match direction {
            Direction::Outbound | Direction::Gateway => &self.client,
            Direction::Inbound => &self.server,
        };
        side.get(&metric).unwrap_or(AS_IT_IS)
    }
}

/// What becomes of a metric.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct MetricRule {
    /// Whether it is left out.
    pub disabled: bool,
    /// Changes of labels, by name.
    pub labels: BTreeMap<String, LabelRule>,
}

/// What becomes of a label.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LabelRule {
    /// It is left out.
    Remove,
    /// It has this value.
    Text(String),
    /// It has the value of a standard label.
    Label(&'static str),
    /// It has the name of the cluster.
    Cluster,
}

impl LabelRule {
    /// What there is in place of expressions that are not understood.
    pub const EXPECTED: &str =
        "a text in quotes, `response.code`, `response.grpc_status` or `xds.cluster_name`";

    /// The rule for a label with the value of a CEL expression; `None` when that is not understood.
    pub fn of_expression(expression: &str) -> Option<Self> {
        let expression = expression.trim();
        let attribute = expression.strip_prefix("string(").and_then(|rest| rest.strip_suffix(')'));
        match attribute.unwrap_or(expression).trim() {
            "response.code" => Some(Self::Label("response_code")),
            "response.grpc_status" => Some(Self::Label("grpc_response_status")),
            "xds.cluster_name" => Some(Self::Cluster),
            _ => quoted(expression).map(|text| Self::Text(text.to_owned())),
        }
    }
}

/// The text between quotes of a kind, if that is all there is.
fn quoted(expression: &str) -> Option<&str> {
    let quote = expression.chars().next().filter(|first| matches!(first, '"' | '\''))?;
    let text = expression.strip_prefix(quote)?.strip_suffix(quote)?;
    (!text.contains([quote, '\\'])).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simple_expressions_are_understood_and_others_are_not() {
        let of = LabelRule::of_expression;
        assert_eq!(of(" 'a b' "), Some(LabelRule::Text("a b".to_owned())));
        assert_eq!(of("\"it's\""), Some(LabelRule::Text("it's".to_owned())));
        assert_eq!(of("string(response.code)"), Some(LabelRule::Label("response_code")));
        assert_eq!(of("xds.cluster_name"), Some(LabelRule::Cluster));
        for other in ["request.host", "'a' + 'b'", "'", "''' ", "'a\\n'", "string('a')", ""] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
