//! How an endpoint is picked (DestinationRule `loadBalancer`).

use std::time::Duration;

/// How an endpoint is picked among the healthy ones.
#[derive(Clone, Debug, PartialEq)]
pub enum LoadBalancer {
    /// The less busy of two drawn at random.
    LeastRequest(Option<SlowStart>),
    /// One after the other.
    RoundRobin(Option<SlowStart>),
    /// Any.
    Random,
    /// By a key of the request, so that equal keys meet the same endpoint.
    ConsistentHash(HashPolicy),
}

impl Default for LoadBalancer {
    /// Istio's default.
    fn default() -> Self {
        Self::LeastRequest(None)
    }
}

/// New endpoints get their share little by little (DestinationRule `warmup`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlowStart {
    /// How long an endpoint counts as new.
    pub window: Duration,
    /// Percentage of its share at the start, 0–100.
    pub minimum_percent: f64,
    /// Shape of the way to the whole: 1 is a straight line, larger begins faster.
    pub aggression: f64,
}

/// What is hashed and by which table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HashPolicy {
    /// Where the key comes from. A request without it goes anywhere.
    pub key: HashKey,
    /// The table.
    pub function: HashFunction,
}

/// Where a hash key comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HashKey {
    /// A request header, named in lower case.
    Header(String),
    /// A cookie, made when it is missing and has a `ttl`.
    Cookie {
        /// Its name.
        name: String,
        /// Path attribute of one made here.
        path: Option<String>,
        /// Life of one made here; zero ends with the browser's session.
        ttl: Option<Duration>,
        /// Further attributes with their values, such as `SameSite`.
        attributes: Vec<(String, Option<String>)>,
    },
    /// The client's address.
    SourceIp,
    /// The first value of a query parameter.
    QueryParameter(String),
}

/// A consistent hash table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HashFunction {
    /// Points on a ring, at least so many.
    Ring {
        /// Least number of points, at most 8,388,608.
        minimum_size: u32,
    },
    /// Maglev's permutation table.
    Maglev {
        /// A prime below 5,000,011.
        table_size: u32,
    },
}
