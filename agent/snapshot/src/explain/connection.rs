//! Which listener and filter chain a connection meets, and whether its TLS handshake can succeed.

use std::net::SocketAddr;

use super::{Entry, Question, Rejected, SHOWN, Spoken, Step, Walk, reasons, tls};
use crate::{
    Application, Binding, ConnectionFacts, Direction, FilterChain, Listener, ListenerId, NetworkFilter,
    PeerMode, Transport,
};

impl<'s> Walk<'s> {
    pub(super) fn listener(&mut self, entry: Entry) -> Option<ListenerId> {
        let (listener, because) = match entry {
            Entry::Port(port) => (self.on_port(port), format!("it is bound to port {port}")),
            Entry::Outbound(to) => match self.snapshot.captured_listener(to) {
                Some(id) => (Some(id), reasons::captured(self.snapshot.listener(id), to)),
                None => (self.of(Direction::Outbound), format!("no listener is for {to} or for its port")),
            },
            Entry::Inbound(_) => (self.of(Direction::Inbound), "it serves everything inbound".to_owned()),
        };
        let step = match listener {
            Some(id) => Step::chosen("listener", self.snapshot.listener(id).name.as_str(), because),
            None => {
                let mut step = Step::nothing("listener", reasons::no_listener(entry));
                let bound =
                    self.snapshot.listeners().iter().filter(|l| matches!(l.binding, Binding::Socket(_)));
                let foreign = self.snapshot.foreign_gateways().iter().filter(|other| match entry {
                    Entry::Port(port) => other.ports.contains(&port),
                    Entry::Outbound(_) | Entry::Inbound(_) => false,
                });
                let foreign = foreign
                    .map(|other| Rejected { name: other.name.clone(), because: other.because.clone() });
                step.rejected = foreign.chain(bound.map(reasons::other_listener)).take(SHOWN).collect();
                step
            }
        };
        self.steps.push(step);
        listener
    }

    fn on_port(&self, port: u16) -> Option<ListenerId> {
        let listeners = (0..).map(ListenerId).zip(self.snapshot.listeners());
        let mut dialled = listeners.filter(|(_, listener)| match listener.binding {
            Binding::Socket(at) => at.port() == port && listener.direction == Direction::Gateway,
            Binding::Dialled(at) => at.port() == port,
            Binding::Captured(_) | Binding::Unix(_) => false,
        });
        dialled.next().map(|(id, _)| id)
    }

    /// The listener that captures one direction.
    fn of(&self, direction: Direction) -> Option<ListenerId> {
        let listeners = (0..).map(ListenerId).zip(self.snapshot.listeners());
        let is_bound = |listener: &Listener| matches!(listener.binding, Binding::Socket(_));
        let mut bound =
            listeners.filter(|(_, listener)| is_bound(listener) && listener.direction == direction);
        bound.next().map(|(id, _)| id)
    }

    pub(super) fn filter_chain<R>(
        &mut self,
        question: &Question<'_, R>,
        id: ListenerId,
    ) -> Option<&'s FilterChain> {
        let listener = self.snapshot.listener(id);
        let destination = match (question.entry, listener.binding.address()) {
            (Entry::Outbound(to) | Entry::Inbound(to), _) => to,
            (Entry::Port(_), Some(at)) => SocketAddr::new(question.dialled.unwrap_or(at.ip()), at.port()),
            (Entry::Port(_), None) => super::UNKNOWN,
        };
        (self.destination, self.direction) = (destination, listener.direction);
        let (transport, application) = match question.spoken {
            Spoken::MeshTls => (Transport::Tls, Application::MeshHttp),
            Spoken::Tls => (Transport::Tls, Application::Opaque),
            Spoken::ClearText => (Transport::RawBuffer, Application::Http),
        };
        let facts =
            ConnectionFacts { destination, server_name: question.server_name, transport, application };
        let chosen = self.snapshot.select_filter_chain(&facts, id);
        let others =
            listener.filter_chains.iter().filter(|chain| chosen.is_none_or(|c| !std::ptr::eq(*chain, c)));
        let mut rejected: Vec<_> = others
            .take(SHOWN)
            .map(|chain| Rejected {
                name: chain.name.clone(),
                because: reasons::chain(&chain.matches, &facts),
            })
            .collect();
        // With and without Istio's protocols a port has two chains of one name.
        rejected.dedup_by(|a, b| a.name == b.name && a.because == b.because);
        let mut step = match chosen {
            Some(chain) => {
                let is_default = listener
                    .default_filter_chain
                    .as_ref()
                    .is_some_and(|default| std::ptr::eq(default, chain));
                let because = match is_default {
                    true => "no other chain accepts the connection".to_owned(),
                    false => reasons::chain_conditions(&chain.matches),
                };
                Step::chosen("filter chain", chain.name.as_str(), because)
            }
            None => Step::nothing("filter chain", "none accepts the connection"),
        };
        step.because.extend(self.asked_of_peers(listener.direction, destination.port()));
        let peers = self.snapshot.peer_authentication().filter(|_| listener.direction == Direction::Inbound);
        let refused = peers.iter().flat_map(|rules| &rules.refused);
        step.because.extend(
            refused.map(|refused| format!("PeerAuthentication {refused} is refused as it is written now")),
        );
        self.steps.push(Step { rejected, ..step });
        chosen
    }

    /// Which mutual TLS is asked of connections to a port of the workload, and by whom.
    fn asked_of_peers(&self, direction: Direction, port: u16) -> Option<String> {
        let rules = self.snapshot.peer_authentication().filter(|_| direction == Direction::Inbound)?;
        let rule = rules.of(port);
        let by = match &rule.policy {
            Some(policy) => format!("PeerAuthentication {policy} says so"),
            None if rules.refused.is_empty() => "no PeerAuthentication says otherwise".to_owned(),
            None => "no PeerAuthentication in force says otherwise".to_owned(),
        };
        let without = match rule.mode {
            PeerMode::Permissive if !rules.has_identity => {
                "; clear text only, for the workload has no certificate (--identity-dir)"
            }
            _ => "",
        };
        Some(format!("mutual TLS is {}: {by}{without}", rule.mode.as_str()))
    }

    /// Why TLS fails, when it must: nothing the client shows could help.
    pub(super) fn handshake(&mut self, client_speaks_tls: bool, chain: &FilterChain) -> Option<String> {
        let is_http = matches!(chain.filter, NetworkFilter::Http(_));
        match chain.tls.map(|tls| self.snapshot.tls_context(tls)) {
            None if client_speaks_tls && is_http => Some(
                "400 DPE http1.codec_error: the client speaks TLS on a port that serves clear text"
                    .to_owned(),
            ),
            Some(_) if !client_speaks_tls => {
                Some("connection closed: the client speaks clear text where TLS is terminated".to_owned())
            }
            None => None,
            Some(context) => {
                self.steps.push(tls::terminated(context));
                let why = context.missing.as_ref()?;
                Some(format!("TLS handshake refused: {why}"))
            }
        }
    }

    /// What to add when no chain accepts a connection because it speaks TLS, or does not.
    pub(super) fn tls_mismatch<R>(&self, question: &Question<'_, R>, id: ListenerId) -> &'static str {
        let listener = self.snapshot.listener(id);
        let asked = self.snapshot.peer_authentication().filter(|_| listener.direction == Direction::Inbound);
        let mut transports = listener.filter_chains.iter().map(|chain| chain.matches.transport);
        let mode = asked.map(|rules| rules.of(self.destination.port()).mode);
        match question.spoken != Spoken::ClearText {
            false if mode == Some(PeerMode::Strict) => {
                ": the client speaks clear text, and mutual TLS is STRICT"
            }
            false if transports.all(|transport| transport == Some(Transport::Tls)) => {
                ": the client speaks clear text, and the port serves TLS only"
            }
            true if transports.all(|transport| transport == Some(Transport::RawBuffer)) => {
                ": the client speaks TLS, and the port serves clear text only"
            }
            _ => "",
        }
    }
}
