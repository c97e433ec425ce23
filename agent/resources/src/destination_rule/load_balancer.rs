//! How an endpoint is chosen.

use std::{collections::HashSet, time::Duration};

use super::{LocalityLb, ZoneAwareLb, traffic_policy::check_percent};
use crate::{
    Path,
    decode::{Context, Decode, Fields, Interval, Shape, word_of},
    finding::Problem,
    virtual_service::check_header_name,
    yaml::Node,
};

/// `LoadBalancerSettings`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadBalancer {
    /// Rule without a key.
    pub simple: Option<SimpleLb>,
    /// Rule by a key of the request.
    pub consistent_hash: Option<ConsistentHash>,
    /// Preference by locality.
    pub locality: Option<LocalityLb>,
    /// Preference by zone, weighed by the number of endpoints.
    pub zone_aware: Option<ZoneAwareLb>,
    /// Slow start of new endpoints.
    pub warmup: Option<Warmup>,
}

impl Shape for LoadBalancer {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let warmup: Option<Warmup> = fields.optional("warmup");
        let old: Option<Interval> = fields.deprecated("warmupDurationSecs", "warmup.duration");
        Self {
            simple: fields.optional::<WrittenSimple>("simple").and_then(|written| written.0),
            consistent_hash: fields.optional("consistentHash"),
            locality: fields.optional("localityLbSetting"),
            zone_aware: fields.optional("zoneAwareLbSetting"),
            warmup: warmup.or(old.map(|duration| Warmup { duration: duration.get(), ..Warmup::default() })),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        for (one, other, names) in [
            (self.simple.is_some(), self.consistent_hash.is_some(), "`simple` and `consistentHash`"),
            (
                self.locality.is_some(),
                self.zone_aware.is_some(),
                "`localityLbSetting` and `zoneAwareLbSetting`",
            ),
        ] {
            if one && other {
                context.error(at, Problem::new(format!("has both {names}")).expected("one of them"));
            }
        }
    }
}

impl LoadBalancer {
    pub(super) fn fails_over(&self) -> bool {
        self.locality.as_ref().is_some_and(|lb| !(lb.failover.is_empty() && lb.failover_priority.is_empty()))
            || self
                .zone_aware
                .as_ref()
                .is_some_and(|lb| !(lb.failover.is_empty() && lb.failover_priority.is_empty()))
    }
}

/// `LoadBalancerSettings.SimpleLB`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SimpleLb {
    /// The less busy of two random endpoints. Istio's default; `LEAST_CONN` is its old name.
    #[default]
    LeastRequest,
    /// One after the other.
    RoundRobin,
    /// Any.
    Random,
    /// The address the client was calling.
    Passthrough,
}

/// `UNSPECIFIED` leaves the choice to the proxy.
#[derive(Default)]
struct WrittenSimple(Option<SimpleLb>);

impl Decode for WrittenSimple {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        let words = [
            ("UNSPECIFIED", None),
            ("LEAST_REQUEST", Some(SimpleLb::LeastRequest)),
            ("LEAST_CONN", Some(SimpleLb::LeastRequest)),
            ("ROUND_ROBIN", Some(SimpleLb::RoundRobin)),
            ("RANDOM", Some(SimpleLb::Random)),
            ("PASSTHROUGH", Some(SimpleLb::Passthrough)),
        ];
        if node.text() == Some("LEAST_CONN") {
            let problem = Problem::new("is an old name").found("LEAST_CONN").remedy("write `LEAST_REQUEST`");
            context.warning(crate::Rule::Deprecated, at, problem);
        }
        Self(word_of(node, &words, at, context))
    }
}

/// Slow start (`WarmupConfiguration`).
#[derive(Clone, Debug, PartialEq)]
pub struct Warmup {
    /// How long an endpoint counts as new.
    pub duration: Duration,
    /// Share of its weight it begins with, 0–100; 10 when absent.
    pub minimum_percent: f64,
    /// How fast the share grows: 1 is linear.
    pub aggression: f64,
}

impl Default for Warmup {
    fn default() -> Self {
        Self { duration: Duration::ZERO, minimum_percent: 10.0, aggression: 1.0 }
    }
}

impl Shape for Warmup {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let default = Self::default();
        Self {
            duration: fields.required::<Interval>("duration").get(),
            minimum_percent: fields.optional("minimumPercent").unwrap_or(default.minimum_percent),
            aggression: fields.optional("aggression").unwrap_or(default.aggression),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        check_percent(self.minimum_percent, &at.field("minimumPercent"), context);
        if self.aggression <= 0.0 {
            let problem = Problem::new("is not positive").found(self.aggression);
            context.error(&at.field("aggression"), problem.expected("more than 0; 1 grows evenly"));
        }
    }
}

/// Choice by a key of the request (`ConsistentHashLB`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ConsistentHash {
    /// What the key is; without one endpoints are chosen by chance, as in Istio.
    pub key: Option<HashKey>,
    /// How keys are laid out over endpoints.
    pub algorithm: HashAlgorithm,
}

/// What requests are told apart by.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HashKey {
    /// The value of this header.
    Header(String),
    /// The value of this cookie.
    Cookie(HashCookie),
    /// The client's address.
    SourceIp,
    /// The value of this query parameter.
    QueryParameter(String),
}

/// How keys are laid out over endpoints.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HashAlgorithm {
    /// A ring with at least this many points.
    RingHash {
        /// Least number of points; 1024 when absent.
        minimum_ring_size: u64,
    },
    /// A table of this size.
    Maglev {
        /// Number of places, a prime; 65537 when absent.
        table_size: u64,
    },
}

impl HashAlgorithm {
    const DEFAULT_RING: u64 = 1024;
    const DEFAULT_TABLE: u64 = 65_537;
}

impl Default for HashAlgorithm {
    fn default() -> Self {
        Self::RingHash { minimum_ring_size: Self::DEFAULT_RING }
    }
}

impl Shape for ConsistentHash {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let header: Option<String> = fields.optional("httpHeaderName");
        let cookie: Option<HashCookie> = fields.optional("httpCookie");
        let source: Option<bool> = fields.optional("useSourceIp");
        let parameter: Option<String> = fields.optional("httpQueryParameterName");
        let keys: Vec<HashKey> = [
            header.map(HashKey::Header),
            cookie.map(HashKey::Cookie),
            source.filter(|used| *used).map(|_| HashKey::SourceIp),
            parameter.map(HashKey::QueryParameter),
        ]
        .into_iter()
        .flatten()
        .collect();
        if keys.len() > 1 {
            fields.error_here(Problem::new("names several keys").expected(KEYS));
        }
        Self { key: keys.into_iter().next(), algorithm: read_algorithm(fields) }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        match &self.key {
            None => {
                let problem = Problem::new("names no key, so requests go to endpoints by chance");
                context.warning(crate::Rule::Invalid, at, problem.expected(KEYS));
            }
            Some(HashKey::Header(name)) => check_header_name(name, &at.field("httpHeaderName"), context),
            Some(HashKey::QueryParameter(name)) if name.is_empty() => {
                let problem = Problem::new("is empty").expected("the name of a query parameter");
                context.error(&at.field("httpQueryParameterName"), problem);
            }
            _ => {}
        }
        match self.algorithm {
            HashAlgorithm::RingHash { minimum_ring_size } if minimum_ring_size > LARGEST_RING => {
                let problem = Problem::new("is larger than a ring may be").found(minimum_ring_size);
                context.error(
                    &at.field("ringHash").field("minimumRingSize"),
                    problem.expected(format!("at most {LARGEST_RING} points, as in Envoy")),
                );
            }
            HashAlgorithm::Maglev { table_size } if table_size >= LARGEST_TABLE || !is_prime(table_size) => {
                let problem = Problem::new("is no size for a table").found(table_size);
                context.error(
                    &at.field("maglev").field("tableSize"),
                    problem.expected(format!("a prime below {LARGEST_TABLE}, such as 65537")),
                );
            }
            _ => {}
        }
    }
}

const KEYS: &str = "one of `httpHeaderName`, `httpCookie`, `useSourceIp` and `httpQueryParameterName`";

/// Envoy's `maximum_ring_size`.
const LARGEST_RING: u64 = 8_388_608;

const LARGEST_TABLE: u64 = 5_000_011;

fn is_prime(number: u64) -> bool {
    number >= 2
        && (2..)
            .take_while(|divisor| divisor * divisor <= number)
            .all(|divisor| !number.is_multiple_of(divisor))
}

fn read_algorithm(fields: &mut Fields<'_, '_, '_>) -> HashAlgorithm {
    let ring: Option<Ring> = fields.optional("ringHash");
    let table: Option<Table> = fields.optional("maglev");
    let old: Option<u64> = fields.deprecated("minimumRingSize", "ringHash.minimumRingSize");
    if ring.is_some() && table.is_some() {
        fields.error_here(Problem::new("has both `ringHash` and `maglev`").expected("one of them"));
    }
    if old.is_some_and(|size| size != 0) && (ring.is_some() || table.is_some()) {
        let problem = Problem::new("is written beside another algorithm");
        fields.error("minimumRingSize", problem.remedy("use only `ringHash.minimumRingSize`"));
    }
    let at_least = |size: u64| if size == 0 { HashAlgorithm::DEFAULT_RING } else { size };
    match (ring, table) {
        (Some(Ring(size)), _) => HashAlgorithm::RingHash { minimum_ring_size: at_least(size) },
        (_, Some(Table(size))) => {
            HashAlgorithm::Maglev { table_size: size.unwrap_or(HashAlgorithm::DEFAULT_TABLE) }
        }
        _ => HashAlgorithm::RingHash { minimum_ring_size: at_least(old.unwrap_or_default()) },
    }
}

#[derive(Default)]
struct Ring(u64);

impl Shape for Ring {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self(fields.or_default("minimumRingSize"))
    }
}

#[derive(Default)]
struct Table(Option<u64>);

impl Shape for Table {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self(fields.optional("tableSize"))
    }
}

/// A cookie that requests are told apart by (`ConsistentHashLB.HTTPCookie`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HashCookie {
    /// Name.
    pub name: String,
    /// Path the cookie is made for.
    pub path: Option<String>,
    /// Life of a cookie that is made for clients without one; zero lasts for the session, absent makes none.
    pub ttl: Option<Duration>,
    /// Further attributes with their values.
    pub attributes: Vec<(String, String)>,
}

impl Shape for HashCookie {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let attributes: Vec<Attribute> = fields.or_default("attributes");
        Self {
            name: fields.required("name"),
            path: fields.optional("path"),
            ttl: fields.optional("ttl"),
            attributes: attributes.into_iter().map(|attribute| (attribute.0, attribute.1)).collect(),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        check_header_name(&self.name, &at.field("name"), context);
        let (list, mut names) = (at.field("attributes"), HashSet::new());
        for (index, (name, _)) in self.attributes.iter().enumerate() {
            if !names.insert(name.to_ascii_lowercase()) {
                let problem = Problem::new("is written twice").found(name);
                context.error(&list.index(index).field("name"), problem.expected("each attribute once"));
            }
        }
    }
}

#[derive(Default)]
struct Attribute(String, String);

impl Shape for Attribute {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self(fields.required("name"), fields.or_default("value"))
    }
}
