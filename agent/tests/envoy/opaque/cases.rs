//! Where connections go, and what their clients do.

use self::Step::*;

/// A listener, what it leads to, and how that is written for either proxy.
pub(super) struct Place {
    pub(super) name: &'static str,
    pub(super) endpoint: Behaviour,
    /// Server names that it takes; without any it takes every connection.
    pub(super) names: &'static str,
    /// `connectionPool.tcp` of the DestinationRule.
    pub(super) policy: &'static str,
    /// The same in Envoy's cluster.
    pub(super) cluster: &'static str,
    /// The same in Envoy's filter.
    pub(super) proxy: &'static str,
    /// Whether TLS ends there.
    pub(super) is_terminated: bool,
}

impl Place {
    const fn new(name: &'static str, endpoint: Behaviour) -> Self {
        Self { name, endpoint, names: "", policy: "", cluster: "", proxy: "", is_terminated: false }
    }

    const fn terminated(name: &'static str, endpoint: Behaviour) -> Self {
        Self { is_terminated: true, ..Self::new(name, endpoint) }
    }

    /// Whether there is a service of its name.
    pub(super) fn is_known(&self) -> bool {
        self.endpoint != Behaviour::Unknown
    }
}

/// What an endpoint does with a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Behaviour {
    Echoes,
    /// Speaks first, and then echoes.
    Greets,
    /// Listens to the end, and then says what it heard.
    Counts,
    /// Says a word, ends its side, and listens.
    Ends,
    Closes,
    /// Resets after four bytes; answers the word `ask`.
    Resets,
    Refuses,
    /// Neither accepts nor refuses.
    Stalls,
    /// A service without endpoints.
    Nobody,
    /// No service.
    Unknown,
}

pub(super) const PLACES: &[Place] = &[
    Place::new("echo", Behaviour::Echoes),
    Place::new("greets", Behaviour::Greets),
    Place::new("counts", Behaviour::Counts),
    Place::new("ends", Behaviour::Ends),
    Place::new("closes", Behaviour::Closes),
    Place::new("resets", Behaviour::Resets),
    Place { policy: "idleTimeout: 2s", proxy: "idle_timeout: 2s, ", ..Place::new("idle", Behaviour::Echoes) },
    Place {
        policy: "maxConnectionDuration: 3s",
        proxy: "max_downstream_connection_duration: 3s, ",
        ..Place::new("expires", Behaviour::Echoes)
    },
    Place::new("refuses", Behaviour::Refuses),
    Place {
        policy: "connectTimeout: 0.3s",
        cluster: "connect_timeout: 0.3s, ",
        ..Place::new("stalls", Behaviour::Stalls)
    },
    Place::new("nobody", Behaviour::Nobody),
    Place::new("unknown", Behaviour::Unknown),
    Place {
        policy: "maxConnections: 1",
        cluster: "circuit_breakers: {thresholds: [{max_connections: 1}]}, ",
        ..Place::new("limited", Behaviour::Echoes)
    },
    Place::terminated("secured", Behaviour::Echoes),
    Place::terminated("secured-greets", Behaviour::Greets),
    Place::terminated("secured-counts", Behaviour::Counts),
    Place::terminated("secured-ends", Behaviour::Ends),
    Place::terminated("secured-resets", Behaviour::Resets),
    Place { names: "known.test", ..Place::new("named", Behaviour::Echoes) },
];

/// A connection.
pub(super) struct Case {
    pub(super) place: &'static str,
    /// What its client does; it closes at the end.
    pub(super) steps: &'static [Step],
    /// Whether it gets to the endpoint.
    pub(super) reaches: bool,
    /// How many others are there before it.
    pub(super) others: usize,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Say(&'static str),
    /// A client hello for a server name.
    Hello(&'static str),
    Hear(usize),
    HearAll,
    /// The end, however the other side puts it: the program has words for those whom no chain takes.
    Await,
    /// So many bytes and the end, while others are heard.
    Pour(usize),
    /// Ends the client's side.
    End,
    /// The same without a word, where TLS would have one.
    Cut,
    /// Has what follows the last step be a reset.
    Reset,
}

const fn case(place: &'static str, steps: &'static [Step]) -> Case {
    Case { place, steps, reaches: true, others: 0 }
}

const fn unserved(place: &'static str, steps: &'static [Step]) -> Case {
    Case { place, steps, reaches: false, others: 0 }
}

pub(super) const CASES: &[Case] = &[
    case("echo", &[Say("hi\n"), Hear(3), End, HearAll]),
    case("echo", &[Say("hi\n"), Hear(3)]),
    case("echo", &[Say("hi\n"), Hear(3), Reset]),
    case("echo", &[End, HearAll]),
    case("echo", &[Say("hi\n"), End, HearAll]),
    case("echo", &[Pour(3 << 20), HearAll]),
    case("greets", &[Hear(4), Say("hi\n"), Hear(3), End, HearAll]),
    case("greets", &[Hear(4)]),
    case("counts", &[Say("some"), End, HearAll]),
    case("ends", &[Hear(4), HearAll, Say("more"), End]),
    case("ends", &[HearAll]),
    case("closes", &[HearAll]),
    case("closes", &[HearAll, End]),
    case("resets", &[Say("take"), HearAll]),
    case("resets", &[Say("ask"), Hear(4), Say("!"), HearAll]),
    case("idle", &[Say("hi\n"), Hear(3), HearAll]),
    case("expires", &[Say("hi\n"), Hear(3), HearAll]),
    unserved("refuses", &[HearAll]),
    unserved("stalls", &[HearAll]),
    unserved("nobody", &[HearAll]),
    unserved("unknown", &[HearAll]),
    Case { others: 1, ..unserved("limited", &[HearAll]) },
    case("named", &[Hello("known.test"), Hear(87), End, HearAll]),
    unserved("named", &[Hello("other.test"), Await]),
    unserved("named", &[Hello(""), Await]),
    case("secured", &[Say("hi\n"), Hear(3), End, HearAll]),
    case("secured", &[Say("hi\n"), Hear(3), Cut, HearAll]),
    case("secured", &[Say("hi\n"), Hear(3), Reset]),
    case("secured-greets", &[Hear(4), Say("hi\n"), Hear(3), End, HearAll]),
    case("secured-counts", &[Say("some"), End, HearAll]),
    case("secured-ends", &[Hear(4), HearAll, Say("more"), End]),
    case("secured-resets", &[Say("take"), HearAll]),
    unserved("named", &[Say("GET / HTTP/1.1\r\n\r\n"), Await]),
];
