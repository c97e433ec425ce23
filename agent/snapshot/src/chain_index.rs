//! The choice of a filter chain, by look-ups instead of one chain after the other: a gateway may have thousands.

use std::{collections::HashMap, net::IpAddr};

use foldhash::fast::FixedState;
use ipnet::IpNet;

use crate::{
    filter_chain::{Application, ConnectionFacts, FilterChain, FilterChainMatch, Inspection, Transport},
    hosts::{HostName, HostPattern, HostTable},
};

/// Finds a listener's filter chains by destination and server name.
#[derive(Clone, Debug, Default)]
pub(crate) struct ChainIndex {
    by_port: Map<u16, PortChains>,
    /// For the ports that have no chain of their own.
    any_port: PortChains,
}

type Map<K, V> = HashMap<K, V, FixedState>;

/// The chains for the connections to one port.
#[derive(Clone, Debug, Default)]
struct PortChains {
    /// Chains for some destinations only, the narrowest network first.
    networks: Vec<(IpNet, NamedChains)>,
    /// Chains for any destination.
    anywhere: NamedChains,
    inspection: Option<Inspection>,
}

/// The chains that compete for the connections to one port in one network.
#[derive(Clone, Debug, Default)]
struct NamedChains {
    /// Position in `groups`.
    names: HostTable<usize>,
    addresses: Map<IpAddr, usize>,
    /// Positions of chains in the listener, in its order, that ask for the same server name.
    groups: Vec<Vec<usize>>,
    /// Those that ask for none.
    unnamed: Vec<usize>,
}

impl ChainIndex {
    pub(crate) fn new(chains: &[FilterChain], has_default: bool) -> Self {
        let mut index = Self::default();
        let mut groups = HashMap::<_, usize>::new();
        for (position, chain) in chains.iter().enumerate() {
            let port = chain.matches.destination_port;
            let chains = match port {
                Some(port) => index.by_port.entry(port).or_default(),
                None => &mut index.any_port,
            };
            chains.require(inspection(chain, has_default));
            let subnets = &chain.matches.destination_subnets;
            let anywhere = subnets.is_empty().then_some(None);
            for network in subnets.iter().map(|net| Some(net.trunc())).chain(anywhere) {
                let chains = chains.within(network);
                let names = &chain.matches.server_names;
                if names.is_empty() || names.contains(&HostPattern::Any) {
                    chains.unnamed.push(position);
                }
                for name in names.iter().filter(|name| **name != HostPattern::Any) {
                    let group =
                        *groups.entry((port, network, name)).or_insert_with(|| chains.new_group(name));
                    chains.groups[group].push(position);
                }
            }
        }
        index
    }

    /// What has to be read of connections to a port.
    pub(crate) fn inspection(&self, port: u16) -> Inspection {
        self.chains(port).inspection.unwrap_or(Inspection::Nothing)
    }

    /// Position of the chain that serves a connection.
    pub(crate) fn select(&self, connection: &ConnectionFacts<'_>, chains: &[FilterChain]) -> Option<usize> {
        let of_port = self.chains(connection.destination.port());
        let destination = connection.destination.ip().to_canonical();
        let networks = of_port.networks.iter().filter(|(network, _)| network.contains(&destination));
        let mut narrowest_first = networks.map(|(_, named)| named).chain([&of_port.anywhere]);
        narrowest_first.find_map(|named| best(named.named(connection), connection, chains))
    }

    fn chains(&self, port: u16) -> &PortChains {
        self.by_port.get(&port).unwrap_or(&self.any_port)
    }
}

/// Position of the best of the candidates.
fn best(candidates: &[usize], connection: &ConnectionFacts<'_>, chains: &[FilterChain]) -> Option<usize> {
    let matches = |position: &&usize| &chains[**position].matches;
    let transport = |position: &&usize| optional(matches(position).transport, connection.transport);
    let application = |position: &&usize| application(matches(position), connection.application);
    let best_transport = candidates.iter().filter_map(|p| transport(&p)).max()?;
    let fitting = || candidates.iter().filter(|p| transport(p) == Some(best_transport));
    let best_application = fitting().filter_map(|p| application(&p)).max()?;
    fitting().find(|p| application(p) == Some(best_application)).copied()
}

impl PortChains {
    /// The chains for a network, or for any destination.
    fn within(&mut self, network: Option<IpNet>) -> &mut NamedChains {
        let Some(network) = network else { return &mut self.anywhere };
        let known = self.networks.iter().position(|(known, _)| *known == network);
        let at = known.unwrap_or_else(|| {
            let length = network.prefix_len();
            let at = self.networks.partition_point(|(known, _)| known.prefix_len() >= length);
            self.networks.insert(at, (network, NamedChains::default()));
            at
        });
        &mut self.networks[at].1
    }

    fn require(&mut self, more: Inspection) {
        let both = |known| match (known, more) {
            (Inspection::Protocol { hello: a }, Inspection::Protocol { hello: b }) => {
                Inspection::Protocol { hello: a || b }
            }
            (known, more) if known == more => known,
            (Inspection::Protocol { hello }, other) | (other, Inspection::Protocol { hello }) => {
                Inspection::Protocol { hello: hello || other == Inspection::Hello }
            }
            (Inspection::Hello, _) | (_, Inspection::Hello) => Inspection::Protocol { hello: true },
            (Inspection::Nothing, Inspection::Nothing) => Inspection::Nothing,
        };
        self.inspection = Some(self.inspection.map_or(more, both));
    }
}

impl NamedChains {
    fn new_group(&mut self, name: &HostPattern) -> usize {
        let group = self.groups.len();
        self.groups.push(Vec::new());
        self.names.insert(name, group);
        if let HostPattern::Exact(name) = name
            && let Ok(address) = name.parse()
        {
            self.addresses.insert(address, group);
        }
        group
    }

    /// The chains for the server name of a connection: the exact name, else the longest suffix, else those that ask for
    /// none.
    fn named(&self, connection: &ConnectionFacts<'_>) -> &[usize] {
        let group = match connection.server_name {
            Some(name) => self.names.find(&HostName::of_authority(name)),
            None if connection.transport == Transport::Tls => {
                self.addresses.get(&connection.destination.ip().to_canonical()).copied()
            }
            None => None,
        };
        group.map_or(&self.unnamed, |group| &self.groups[group])
    }
}

/// What must be known of a connection to tell whether a chain is for it.
fn inspection(chain: &FilterChain, has_default: bool) -> Inspection {
    let matches = &chain.matches;
    let of_mesh = matches!(matches.application, Some(Application::Mesh | Application::MeshHttp));
    let hello = !matches.server_names.is_empty() || chain.tls.is_some() || of_mesh;
    match matches.transport {
        Some(Transport::Tls) if hello && !has_default => Inspection::Hello,
        None if !hello && matches.application.is_none() => Inspection::Nothing,
        _ => Inspection::Protocol { hello },
    }
}

fn application(condition: &FilterChainMatch, value: Application) -> Option<usize> {
    match (condition.application, value) {
        (Some(Application::Mesh), Application::MeshHttp) => Some(1),
        (condition, value) => optional(condition, value).map(|rank| 2 * rank),
    }
}

fn optional<T: PartialEq>(condition: Option<T>, value: T) -> Option<usize> {
    match condition {
        None => Some(0),
        Some(wanted) if wanted == value => Some(1),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests;
