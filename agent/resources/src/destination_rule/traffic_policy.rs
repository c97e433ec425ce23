//! What holds for connections to a service, a subset or one of its ports.

use std::time::Duration;

use super::{ClientTls, ConnectionPool, LoadBalancer, OutlierDetection};
use crate::{
    Path,
    decode::{Context, Decode, Fields, PortNumber, Shape, word_of},
    finding::Problem,
    host,
    virtual_service::PortSelector,
    yaml::Node,
};

/// `TrafficPolicy`; a block that is absent is taken from the level above.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrafficPolicy {
    /// How an endpoint is chosen.
    pub load_balancer: Option<LoadBalancer>,
    /// Limits and time-outs of connections.
    pub connection_pool: Option<ConnectionPool>,
    /// When an endpoint is left out for its errors.
    pub outlier_detection: Option<OutlierDetection>,
    /// TLS to the endpoints.
    pub tls: Option<ClientTls>,
    /// Policies of single ports, which replace the four blocks above whole.
    pub port_level: Vec<PortTrafficPolicy>,
    /// Connections wrapped into those of another host.
    pub tunnel: Option<Tunnel>,
    /// PROXY protocol header sent first.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Retries allowed at a time, in place of `maxRetries`.
    pub retry_budget: Option<RetryBudget>,
}

impl Shape for TrafficPolicy {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self {
            load_balancer: fields.optional("loadBalancer"),
            connection_pool: fields.optional("connectionPool"),
            outlier_detection: fields.optional("outlierDetection"),
            tls: fields.optional("tls"),
            port_level: fields.or_default("portLevelSettings"),
            tunnel: fields.optional("tunnel"),
            proxy_protocol: fields.optional::<ProxyProtocolObject>("proxyProtocol").map(|object| object.0),
            retry_budget: fields.optional("retryBudget"),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        if *self == Self::default() {
            context
                .error(at, Problem::new("is empty").expected("at least one setting, such as `loadBalancer`"));
        }
        if self.tunnel.is_some() && self.proxy_protocol.is_some() {
            context.error(at, Problem::new("has both `tunnel` and `proxyProtocol`").expected("one of them"));
        }
        warn_of_failover(self.load_balancer.as_ref(), self.outlier_detection.as_ref(), at, context);
    }
}

/// `TrafficPolicy.PortTrafficPolicy`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PortTrafficPolicy {
    /// Port of the service.
    pub port: u16,
    /// How an endpoint is chosen.
    pub load_balancer: Option<LoadBalancer>,
    /// Limits and time-outs of connections.
    pub connection_pool: Option<ConnectionPool>,
    /// When an endpoint is left out for its errors.
    pub outlier_detection: Option<OutlierDetection>,
    /// TLS to the endpoints.
    pub tls: Option<ClientTls>,
}

impl Shape for PortTrafficPolicy {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let PortSelector(port) = fields.required("port");
        Self {
            port,
            load_balancer: fields.optional("loadBalancer"),
            connection_pool: fields.optional("connectionPool"),
            outlier_detection: fields.optional("outlierDetection"),
            tls: fields.optional("tls"),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        if *self == (Self { port: self.port, ..Self::default() }) {
            let problem = Problem::new("sets nothing for the port");
            context
                .error(at, problem.expected("`loadBalancer`, `connectionPool`, `outlierDetection` or `tls`"));
        }
        warn_of_failover(self.load_balancer.as_ref(), self.outlier_detection.as_ref(), at, context);
    }
}

fn warn_of_failover(
    load_balancer: Option<&LoadBalancer>,
    outlier_detection: Option<&OutlierDetection>,
    at: &Path<'_>,
    context: &mut Context<'_>,
) {
    if outlier_detection.is_none() && load_balancer.is_some_and(LoadBalancer::fails_over) {
        let problem = Problem::new("names where to fail over to, but nothing tells when an endpoint fails");
        context.warning(
            crate::Rule::Invalid,
            &at.field("loadBalancer"),
            problem.remedy("add `outlierDetection` beside `loadBalancer`"),
        );
    }
}

/// Connections wrapped into those of another host (`TrafficPolicy.TunnelSettings`); for TCP and TLS routes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tunnel {
    /// Method that opens the tunnel.
    pub protocol: TunnelProtocol,
    /// Host at the far end.
    pub target_host: String,
    /// Port at the far end.
    pub target_port: u16,
}

/// Method that opens a tunnel.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum TunnelProtocol {
    /// `CONNECT`.
    #[default]
    Connect,
    /// `POST`.
    Post,
}

impl Decode for TunnelProtocol {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        word_of(node, &[("CONNECT", Self::Connect), ("POST", Self::Post)], at, context)
    }
}

impl Shape for Tunnel {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let port: PortNumber = fields.required("targetPort");
        Self {
            protocol: fields.or_default("protocol"),
            target_host: fields.required("targetHost"),
            target_port: port.get(),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        let is_address = self.target_host.parse::<std::net::IpAddr>().is_ok();
        if !is_address && !host::is_dns_name(&self.target_host) {
            let problem = Problem::new("is no host").found(&self.target_host);
            context.error(&at.field("targetHost"), problem.expected("a host name or an IP address"));
        }
    }
}

/// Version of the PROXY protocol (`TrafficPolicy.ProxyProtocol.VERSION`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ProxyProtocol {
    /// Text.
    #[default]
    V1,
    /// Binary.
    V2,
}

impl Decode for ProxyProtocol {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        word_of(node, &[("V1", Self::V1), ("V2", Self::V2)], at, context)
    }
}

#[derive(Default)]
struct ProxyProtocolObject(ProxyProtocol);

impl Shape for ProxyProtocolObject {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self(fields.or_default("version"))
    }
}

/// Retries allowed at a time (`TrafficPolicy.RetryBudget`).
#[derive(Clone, Debug, PartialEq)]
pub struct RetryBudget {
    /// Share of the active requests that may be retries, 0–100; 20 when absent.
    pub percent: f64,
    /// Number of retries always allowed; 3 when absent.
    pub min_retry_concurrency: u32,
    /// Time over which requests count as active; zero means those active now.
    pub budget_interval: Duration,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { percent: 20.0, min_retry_concurrency: 3, budget_interval: Duration::ZERO }
    }
}

impl Shape for RetryBudget {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let default = Self::default();
        Self {
            percent: fields.optional("percent").unwrap_or(default.percent),
            min_retry_concurrency: fields
                .optional("minRetryConcurrency")
                .unwrap_or(default.min_retry_concurrency),
            budget_interval: fields.or_default("budgetInterval"),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        check_percent(self.percent, &at.field("percent"), context);
    }
}

pub(super) fn check_percent(percent: f64, at: &Path<'_>, context: &mut Context<'_>) {
    if !(0.0..=100.0).contains(&percent) {
        context.error(at, Problem::new("is no percentage").found(percent).expected("0–100"));
    }
}
