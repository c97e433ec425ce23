//! Which iptables to use, found out without changing anything.
//!
//! Probing legacy iptables by adding a rule registers its tables; the next run would then take the namespace for a
//! legacy one and miss the rules of the first run. Reading is free of that: nft's `-save` creates nothing, and legacy's
//! is asked only when the kernel already lists legacy tables.

use anyhow::{Result, bail};
use rules::parse::Found;
use rules::ruleset::Family;
use rules::settings::ForcedBackend;

use crate::iptables::{self, Flavour, Unusable};

/// What one flavour of iptables holds: IPv4, IPv6.
pub(crate) type State = [Result<Found, Unusable>; 2];

/// The iptables to use, and what it holds.
#[derive(Debug)]
pub(crate) struct Backend {
    /// The flavour.
    pub(crate) flavour: Flavour,
    /// Why it was chosen.
    pub(crate) reason: &'static str,
    /// What it holds.
    pub(crate) state: State,
    /// Another flavour that holds chains of ours as well.
    pub(crate) rival: Option<Flavour>,
}

/// Chooses the iptables to use, for both families alike.
///
/// # Errors
/// None is usable; the message says for each program why.
pub(crate) fn choose(forced: Option<ForcedBackend>) -> Result<Backend> {
    match forced {
        Some(ForcedBackend::Nft) => by_force(Flavour::Nft),
        Some(ForcedBackend::Legacy) => by_force(Flavour::Legacy),
        None => decide(observe()),
    }
}

/// Every flavour that holds something of ours.
pub(crate) fn holders() -> Vec<(Flavour, State)> {
    let mut states = Vec::new();
    let observed = observe();
    states.extend(observed.nft.map(|state| (Flavour::Nft, state)));
    states.extend(observed.legacy.map(|state| (Flavour::Legacy, state)));
    if states.iter().all(|(_, state)| state[0].is_err()) {
        states.extend(observed.plain.map(|state| (Flavour::Plain, state)));
    }
    states.retain(|(_, state)| state.iter().flatten().any(Found::holds_own));
    states
}

/// Fails when no flavour can be asked, so that "nothing found" would mean nothing.
pub(crate) fn require_one() -> Result<()> {
    decide(observe()).map(drop)
}

/// What was seen of each flavour; none for a flavour that was not asked.
struct Observed {
    nft: Option<State>,
    legacy: Option<State>,
    plain: Option<State>,
}

fn observe() -> Observed {
    let nft = installed(Flavour::Nft).then(|| iptables::save(Flavour::Nft));
    let listed = legacy_tables_exist();
    let legacy = (installed(Flavour::Legacy) && (listed || !usable(nft.as_ref())))
        .then(|| iptables::save(Flavour::Legacy));
    let plain = (!usable(nft.as_ref()) && !usable(legacy.as_ref()) && installed(Flavour::Plain))
        .then(|| iptables::save(Flavour::Plain));
    Observed { nft, legacy, plain }
}

fn installed(flavour: Flavour) -> bool {
    iptables::find(&flavour.program(Family::V4, "save")).is_some()
}

fn usable(state: Option<&State>) -> bool {
    state.is_some_and(|state| state[0].is_ok())
}

/// Whether legacy tables are registered in this namespace.
fn legacy_tables_exist() -> bool {
    ["/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"]
        .iter()
        .any(|path| std::fs::read_to_string(path).is_ok_and(|names| !names.trim().is_empty()))
}

fn by_force(flavour: Flavour) -> Result<Backend> {
    let state = iptables::save(flavour);
    if let Err(unusable) = &state[0] {
        bail!("the iptables asked for with --force-iptables-binary cannot be used: {unusable}");
    }
    Ok(Backend { flavour, reason: "--force-iptables-binary", state, rival: None })
}

fn decide(observed: Observed) -> Result<Backend> {
    let Observed { nft, legacy, plain } = observed;
    let holds = |state: &Option<State>| state.as_ref().is_some_and(holds_own_chain);
    let rivals = holds(&nft) && holds(&legacy);
    let rules_in_legacy = legacy.as_ref().is_some_and(holds_any_rule);
    let choice = if holds(&nft) {
        (Flavour::Nft, "it holds our chains already", nft)
    } else if holds(&legacy) {
        (Flavour::Legacy, "it holds our chains already", legacy)
    } else if usable(legacy.as_ref()) && rules_in_legacy {
        (Flavour::Legacy, "it holds rules of others", legacy)
    } else if usable(nft.as_ref()) {
        (Flavour::Nft, "it works", nft)
    } else if usable(legacy.as_ref()) {
        (Flavour::Legacy, "nft does not work", legacy)
    } else if usable(plain.as_ref()) {
        (Flavour::Plain, "neither nft nor legacy is there by name", plain)
    } else {
        bail!(
            "no usable iptables: {}",
            reasons(&[(Flavour::Nft, nft), (Flavour::Legacy, legacy), (Flavour::Plain, plain)])
        );
    };
    let (flavour, reason, Some(state)) = choice else { bail!("no usable iptables") };
    Ok(Backend { flavour, reason, state, rival: rivals.then_some(Flavour::Legacy) })
}

fn holds_own_chain(state: &State) -> bool {
    state.iter().flatten().any(Found::holds_own_chain)
}

fn holds_any_rule(state: &State) -> bool {
    let chains = |found: &Found| {
        found.tables.values().any(|table| table.chains.iter().any(|chain| !chain.rules.is_empty()))
    };
    state.iter().flatten().any(chains)
}

fn reasons(states: &[(Flavour, Option<State>)]) -> String {
    let reason = |(flavour, state): &(Flavour, Option<State>)| match state {
        Some([Err(unusable), _]) => unusable.to_string(),
        _ => format!("{}: missing", flavour.program(Family::V4, "save")),
    };
    format!(
        "{}; install the iptables package in the image",
        states.iter().map(reason).collect::<Vec<_>>().join("; ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use rules::parse::parse;

    const OURS: &str = "*nat\n:ISTIO_OUTPUT - [0:0]\nCOMMIT\n";
    const OTHERS: &str = "*nat\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -j ACCEPT\nCOMMIT\n";
    const EMPTY: &str = "*nat\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n";

    fn holding(text: &str) -> Option<State> {
        Some(Family::BOTH.map(|family| Ok(parse(family, text).unwrap())))
    }

    fn broken() -> Option<State> {
        Some(Family::BOTH.map(|_| Err(Unusable { program: "x".to_owned(), reason: "broken".to_owned() })))
    }

    fn chosen(nft: Option<State>, legacy: Option<State>, plain: Option<State>) -> Flavour {
        decide(Observed { nft, legacy, plain }).unwrap().flavour
    }

    #[test]
    fn the_holder_of_our_chains_is_kept() {
        assert_eq!(chosen(holding(EMPTY), holding(OURS), None), Flavour::Legacy);
        assert_eq!(chosen(holding(OURS), holding(OTHERS), None), Flavour::Nft);
    }

    #[test]
    fn legacy_is_chosen_for_its_rules_only() {
        assert_eq!(chosen(holding(EMPTY), holding(OTHERS), None), Flavour::Legacy);
        assert_eq!(chosen(holding(EMPTY), holding(EMPTY), None), Flavour::Nft);
    }

    #[test]
    fn what_works_is_chosen() {
        assert_eq!(chosen(broken(), holding(EMPTY), None), Flavour::Legacy);
        assert_eq!(chosen(None, None, holding(EMPTY)), Flavour::Plain);
    }

    #[test]
    fn nothing_usable_says_why_for_each() {
        let error = decide(Observed { nft: broken(), legacy: None, plain: None }).unwrap_err().to_string();
        assert!(error.contains("x: broken") && error.contains("iptables-legacy-save: missing"), "{error}");
    }

    #[test]
    fn our_chains_in_both_are_noticed() {
        let backend = decide(Observed { nft: holding(OURS), legacy: holding(OURS), plain: None }).unwrap();
        assert_eq!((backend.flavour, backend.rival), (Flavour::Nft, Some(Flavour::Legacy)));
    }
}
