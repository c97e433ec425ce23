//! The way from one set of rules to another, and how packets fare on it.

use rules::packet::{Direction, Packet};
use rules::ports::Port;
use rules::ruleset::{ConnectionState, Family, RuleSet, TableName, Target};
use rules::simulate::{LocalDelivery, Verdict, simulate};

use crate::kernel::Kernel;
use crate::wanted::Wanted;

/// What the kernel holds at one moment.
pub(crate) struct State {
    pub(crate) rules: RuleSet,
    pub(crate) deliveries: Vec<LocalDelivery>,
}

impl State {
    fn captures_by_tproxy(&self) -> bool {
        let chains = self.rules.tables.get(&TableName::Mangle).map_or(&[][..], |table| &table.chains);
        let mut rules = chains.iter().flat_map(|chain| &chain.rules);
        rules.any(|rule| matches!(rule.target, Target::Tproxy { .. }))
    }

    fn fate(&self, packet: &Packet) -> Fate {
        let walk = simulate(packet, &self.rules, &self.deliveries);
        assert!(walk.certain, "{packet}: {walk}");
        // The zone counts for queries that are redirected and for the proxy's answers to them: both in the same one.
        let answers = packet.source.port() == Port::DNS.number()
            && packet.destination.port() != Port::RESOLVER.number()
            && packet.state == ConnectionState::Established;
        let zone = walk.zone.filter(|_| answers || matches!(walk.verdict, Verdict::Redirect(_)));
        // What the pod sends to itself arrives without a routing rule of ours.
        let to_itself = packet.out_interface.as_deref() == Some("lo");
        let is_delivered = walk.delivered_by.is_some() && !to_itself;
        let mark = (packet.direction == Direction::In).then_some(walk.mark);
        Fate { zone, is_delivered, mark, verdict: walk.verdict }
    }
}

/// What becomes of a packet.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Fate {
    verdict: Verdict,
    is_delivered: bool,
    /// Of what comes in: there TPROXY's is the only one that rules give.
    mark: Option<u32>,
    zone: Option<u16>,
}

impl Fate {
    fn is_captured_twice(&self) -> bool {
        match self.verdict {
            Verdict::TproxyRedirected { .. } => true,
            Verdict::Redirect(_) => self.mark.is_some_and(|mark| mark != 0),
            _ => false,
        }
    }
}

/// A way from what the kernel holds to something else, in one family.
pub(crate) struct Way {
    /// The tables at its beginning, and after each step.
    pub(crate) kernels: Vec<Kernel>,
    /// The routing rules before, and those after.
    pub(crate) deliveries: [Vec<LocalDelivery>; 2],
}

impl Way {
    pub(crate) fn new(kernel: &Kernel, document: &str, deliveries: [Vec<LocalDelivery>; 2]) -> Self {
        let mut kernels = vec![kernel.clone()];
        kernels.extend(kernel.after_each(document));
        Self { kernels, deliveries }
    }

    /// To what `wanted` says, with the document that says it.
    pub(crate) fn to(wanted: &Wanted, family: Family, kernel: &Kernel, before: &[LocalDelivery]) -> Self {
        let after = wanted.delivery.into_iter().collect();
        Self::new(kernel, &wanted.document(family, kernel), [before.to_vec(), after])
    }

    pub(crate) fn end(&self) -> &Kernel {
        self.kernels.last().unwrap()
    }

    /// Every routing rule that there may be on the way.
    pub(crate) fn all_deliveries(&self) -> Vec<LocalDelivery> {
        self.deliveries.concat()
    }

    /// What there is at the beginning and after each step, routing rules added first and taken away last.
    fn states(&self, family: Family) -> Vec<State> {
        let [before, after] = &self.deliveries;
        let both = self.all_deliveries();
        let between = self.kernels.iter().map(|kernel| (kernel, &both));
        let ends = [(&self.kernels[0], before), (self.end(), after)];
        let [first, last] = ends.map(std::iter::once);
        let state = |(kernel, deliveries): (&Kernel, &Vec<_>)| State {
            rules: kernel.found(family).rule_set(),
            deliveries: deliveries.clone(),
        };
        first.chain(between).chain(last).map(state).collect()
    }

    /// Every packet fares after every step as in one of the `whole` states.
    ///
    /// Left out is what a whole set of rules captures by both ways at once where several use TPROXY: what comes in by
    /// an interface of `-k`.
    pub(crate) fn expect_nothing_new(
        &self,
        family: Family,
        whole: &[&State],
        packets: &[Packet],
        about: &dyn Fn() -> String,
    ) {
        let states = self.states(family);
        let several_use_tproxy = whole.iter().filter(|state| state.captures_by_tproxy()).count() > 1;
        for packet in packets.iter().filter(|packet| packet.source.is_ipv4() == (family == Family::V4)) {
            let fates: Vec<_> = whole.iter().map(|state| state.fate(packet)).collect();
            if several_use_tproxy && fates.iter().any(Fate::is_captured_twice) {
                continue;
            }
            for (number, state) in states.iter().enumerate() {
                let fate = state.fate(packet);
                assert!(
                    fates.contains(&fate),
                    "{family}: {}\nafter step {number} of {}: {packet}\n{fate:?}, none of\n{fates:#?}",
                    about(),
                    states.len() - 1,
                );
            }
        }
    }
}
