//! Which listener and filter chain a connection meets, and whether its TLS handshake can succeed.

use std::net::SocketAddr;

use super::{Entry, Question, Rejected, SHOWN, Step, Walk, reasons};
use crate::{
    Application, Binding, ClientCertificates, ConnectionFacts, Direction, FilterChain, Listener, ListenerId,
    NetworkFilter, TlsContext, Transport,
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
            Binding::Captured(_) => false,
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
        let destination = match (question.entry, listener.binding) {
            (Entry::Outbound(to) | Entry::Inbound(to), _) => to,
            (Entry::Port(_), Binding::Socket(at) | Binding::Dialled(at) | Binding::Captured(at)) => {
                SocketAddr::new(question.dialled.unwrap_or(at.ip()), at.port())
            }
        };
        self.destination = destination;
        let (transport, application) = match question.tls {
            true => (Transport::Tls, Application::Opaque),
            false => (Transport::RawBuffer, Application::Http),
        };
        let facts =
            ConnectionFacts { destination, server_name: question.server_name, transport, application };
        let chosen = self.snapshot.select_filter_chain(&facts, id);
        let others =
            listener.filter_chains.iter().filter(|chain| chosen.is_none_or(|c| !std::ptr::eq(*chain, c)));
        let rejected: Vec<_> = others
            .take(SHOWN)
            .map(|chain| Rejected {
                name: chain.name.clone(),
                because: reasons::chain(&chain.matches, &facts),
            })
            .collect();
        let step = match chosen {
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
        self.steps.push(Step { rejected, ..step });
        chosen
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
                self.describe_tls(context);
                let why = context.missing.as_ref()?;
                Some(format!("TLS handshake refused: {why}"))
            }
        }
    }

    fn describe_tls(&mut self, context: &TlsContext) {
        let mut because = Vec::new();
        if context.missing.is_none() && context.credentials.iter().all(|one| one.certificate.is_none()) {
            because.push("its certificate is not among what is looked at here".to_owned());
        }
        let asked = match &context.clients {
            ClientCertificates::NotAsked => None,
            ClientCertificates::Required(rules) => {
                Some(format!("clients must show a certificate issued by {}", rules.authority.name))
            }
            ClientCertificates::Optional(rules) => {
                Some(format!("clients may show a certificate, issued by {}", rules.authority.name))
            }
            ClientCertificates::Unverified { required: true } => {
                Some("clients must show a certificate, whoever issued it".to_owned())
            }
            ClientCertificates::Unverified { required: false } => {
                Some("clients may show a certificate, whoever issued it".to_owned())
            }
        };
        because.extend(asked);
        self.steps.push(Step { because, ..Step::chosen("TLS", &context.name, "") });
    }

    /// What to add when no chain accepts a connection because it speaks TLS, or does not.
    pub(super) fn tls_mismatch<R>(&self, question: &Question<'_, R>, id: ListenerId) -> &'static str {
        let mut transports =
            self.snapshot.listener(id).filter_chains.iter().map(|chain| chain.matches.transport);
        match question.tls {
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
