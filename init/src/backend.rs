//! What is to hold the rules, iptables of some flavour or nftables itself, found out without changing anything.
//!
//! Probing legacy iptables by adding a rule registers its tables; the next run would then take the namespace for a
//! legacy one and miss the rules of the first run. Reading is free of that: nft's `-save` creates nothing, and legacy's
//! is asked only when the kernel already lists legacy tables.

use anyhow::{Result, bail};
use rules::parse::Found;
use rules::ruleset::Family;
use rules::settings::{ForcedBackend, Options};

use crate::iptables::{self, Flavour, Unusable};
use crate::legacy;
use crate::nftables::{self, NftablesState};

/// A kind of backend: what holds the rules.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum BackendKind {
    /// iptables of this flavour.
    Iptables(Flavour),
    /// nftables itself.
    Nftables,
}

impl BackendKind {
    /// Whether writing waits for the lock of iptables.
    pub(crate) fn takes_lock(self) -> bool {
        matches!(self, Self::Iptables(Flavour::Legacy | Flavour::Plain))
    }
}

impl std::fmt::Display for BackendKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Iptables(flavour) => f.write_str(&flavour.program(Family::V4, "restore")),
            Self::Nftables => f.write_str("native nftables"),
        }
    }
}

/// What a backend of one kind holds: IPv4, IPv6.
pub(crate) type State = [Result<Found, Unusable>; 2];

/// What is to hold the rules, and what it holds.
#[derive(Debug)]
pub(crate) struct Backend {
    /// What it is.
    pub(crate) kind: BackendKind,
    /// Why it was chosen.
    pub(crate) reason: &'static str,
    /// What it holds.
    pub(crate) state: State,
    /// Whether the state follows from the kernel having no table at all; its programs have not been started then.
    pub(crate) untried: bool,
    /// Something else that holds chains of ours as well.
    pub(crate) rival: Option<BackendKind>,
}

/// How closely to look.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Look {
    /// Where the kernel has no table, no program is asked what is in it.
    Quick,
    /// Programs are asked in any case, which tells whether they work.
    Close,
}

/// Chooses what is to hold the rules, for both families alike.
///
/// # Errors
/// Nothing is usable; the message says for each program why.
pub(crate) fn choose(options: &Options, look: Look) -> Result<Backend> {
    match options.forced_backend {
        _ if options.native_nftables => native(observe(look)),
        Some(ForcedBackend::Nft) => by_force(Flavour::Nft, look),
        Some(ForcedBackend::Legacy) => by_force(Flavour::Legacy, look),
        None => decide(observe(look)),
    }
}

/// Everything that holds something of ours.
pub(crate) fn holders() -> Vec<(BackendKind, State)> {
    let Observed { nft, legacy, plain, native, .. } = observe(Look::Quick);
    let mut states = Vec::new();
    states.extend(nft.map(|state| (BackendKind::Iptables(Flavour::Nft), state)));
    states.extend(legacy.map(|state| (BackendKind::Iptables(Flavour::Legacy), state)));
    if states.iter().all(|(_, state)| state[0].is_err()) {
        states.extend(plain.map(|state| (BackendKind::Iptables(Flavour::Plain), state)));
    }
    states.push((BackendKind::Nftables, native));
    states.retain(|(_, state)| state.iter().flatten().any(Found::holds_own));
    states
}

/// Fails when nothing can be asked, so that "nothing found" would mean nothing.
pub(crate) fn require_one() -> Result<()> {
    decide(observe(Look::Quick)).map(drop)
}

/// What was seen; none for a flavour of iptables that was not asked.
struct Observed {
    nft: Option<State>,
    legacy: Option<State>,
    plain: Option<State>,
    native: State,
    /// Whether the state of `nft` follows from there being no table.
    untried: bool,
}

fn observe(look: Look) -> Observed {
    let holdings = nftables::look();
    let empty = holdings.as_ref().is_ok_and(|found| !found.tables_of_iptables);
    let untried = look == Look::Quick && empty && installed_for_both(Flavour::Nft);
    let nft = installed(Flavour::Nft).then(|| if untried { nothing() } else { iptables::save(Flavour::Nft) });
    let legacy = (installed(Flavour::Legacy) && (legacy_tables() != Legacy::None || !usable(nft.as_ref())))
        .then(|| iptables::save(Flavour::Legacy));
    let plain = (!usable(nft.as_ref()) && !usable(legacy.as_ref()) && installed(Flavour::Plain))
        .then(|| iptables::save(Flavour::Plain));
    Observed { nft, legacy, plain, native: native_state(holdings), untried }
}

fn nothing() -> State {
    Family::BOTH.map(|family| Ok(Found::nothing(family)))
}

fn native_state(holdings: Result<NftablesState, Unusable>) -> State {
    match holdings {
        Ok(NftablesState { ours: [v4, v6], .. }) => [Ok(v4), Ok(v6)],
        Err(unusable) => [Err(unusable.clone()), Err(unusable)],
    }
}

fn installed(flavour: Flavour) -> bool {
    is_there(flavour, Family::V4)
}

fn installed_for_both(flavour: Flavour) -> bool {
    Family::BOTH.into_iter().all(|family| is_there(flavour, family))
}

fn is_there(flavour: Flavour, family: Family) -> bool {
    iptables::find(&flavour.program(family, "save")).is_some()
}

fn usable(state: Option<&State>) -> bool {
    state.is_some_and(|state| state[0].is_ok())
}

/// The tables of legacy iptables in this namespace.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Legacy {
    /// None is registered.
    None,
    /// Some are, or nobody may know.
    Some,
}

fn legacy_tables() -> Legacy {
    let none = |family| legacy::registered(family).is_ok_and(|tables| tables.is_empty());
    if Family::BOTH.into_iter().all(none) { Legacy::None } else { Legacy::Some }
}

fn by_force(flavour: Flavour, look: Look) -> Result<Backend> {
    let holdings = nftables::look();
    let empty = match flavour {
        Flavour::Legacy => legacy_tables() == Legacy::None,
        _ => holdings.as_ref().is_ok_and(|found| !found.tables_of_iptables),
    };
    let untried = look == Look::Quick && empty && installed_for_both(flavour);
    let state = if untried { nothing() } else { iptables::save(flavour) };
    if let Err(unusable) = &state[0] {
        bail!("the iptables asked for with --force-iptables-binary cannot be used: {unusable}");
    }
    let rival = other_iptables(flavour, holdings.as_ref())
        .or_else(|| holds_own_chain(&native_state(holdings)).then_some(BackendKind::Nftables));
    let kind = BackendKind::Iptables(flavour);
    Ok(Backend { kind, reason: "--force-iptables-binary", state, untried, rival })
}

/// The other kind of iptables, if it holds chains of ours. It is asked only where the kernel has tables of its kind.
fn other_iptables(flavour: Flavour, holdings: Result<&NftablesState, &Unusable>) -> Option<BackendKind> {
    let (other, has_tables) = match flavour {
        Flavour::Legacy => (Flavour::Nft, holdings.is_ok_and(|found| found.tables_of_iptables)),
        _ => (Flavour::Legacy, legacy_tables() != Legacy::None),
    };
    let holds = has_tables && installed(other) && holds_own_chain(&iptables::save(other));
    holds.then_some(BackendKind::Iptables(other))
}

/// Native nftables because it was asked for.
fn native(observed: Observed) -> Result<Backend> {
    let Observed { nft, legacy, native, .. } = observed;
    if let Err(unusable) = &native[0] {
        bail!("--native-nftables cannot be used: {unusable}");
    }
    let rival = [(Flavour::Nft, nft), (Flavour::Legacy, legacy)]
        .into_iter()
        .find(|(_, state)| state.as_ref().is_some_and(holds_own_chain))
        .map(|(flavour, _)| BackendKind::Iptables(flavour));
    Ok(Backend {
        kind: BackendKind::Nftables,
        reason: "--native-nftables",
        state: native,
        untried: false,
        rival,
    })
}

fn decide(observed: Observed) -> Result<Backend> {
    let Observed { nft, legacy, plain, native, untried } = observed;
    let holds = |state: &Option<State>| state.as_ref().is_some_and(holds_own_chain);
    let holders = [
        holds(&nft).then_some(BackendKind::Iptables(Flavour::Nft)),
        holds(&legacy).then_some(BackendKind::Iptables(Flavour::Legacy)),
        holds_own_chain(&native).then_some(BackendKind::Nftables),
    ];
    let mut holders = holders.into_iter().flatten();
    let holder = holders.next();
    let rival = holders.next();
    let rules_in_legacy = legacy.as_ref().is_some_and(holds_any_rule);
    let (kind, reason) = if let Some(holder) = holder {
        (holder, "it holds our chains already")
    } else if usable(legacy.as_ref()) && rules_in_legacy {
        (BackendKind::Iptables(Flavour::Legacy), "it holds rules of others")
    } else if usable(nft.as_ref()) {
        (BackendKind::Iptables(Flavour::Nft), "it works")
    } else if usable(legacy.as_ref()) {
        (BackendKind::Iptables(Flavour::Legacy), "nft does not work")
    } else if usable(plain.as_ref()) {
        (BackendKind::Iptables(Flavour::Plain), "neither nft nor legacy is there by name")
    } else if native[0].is_ok() {
        (BackendKind::Nftables, "no iptables works here")
    } else {
        bail!(
            "no usable iptables, and no nftables: {}; {}",
            reasons(&[(Flavour::Nft, nft), (Flavour::Legacy, legacy), (Flavour::Plain, plain)]),
            native[0].as_ref().err().map_or_else(String::new, ToString::to_string)
        );
    };
    let state = match kind {
        BackendKind::Iptables(Flavour::Nft) => nft,
        BackendKind::Iptables(Flavour::Legacy) => legacy,
        BackendKind::Iptables(Flavour::Plain) => plain,
        BackendKind::Nftables => Some(native),
    };
    let untried = untried && kind == BackendKind::Iptables(Flavour::Nft);
    let Some(state) = state else { bail!("no usable iptables") };
    Ok(Backend { kind, reason, state, untried, rival })
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
    states.iter().map(reason).collect::<Vec<_>>().join("; ")
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

    fn decided(nft: Option<State>, legacy: Option<State>, plain: Option<State>) -> Result<Backend> {
        decide(Observed { nft, legacy, plain, native: broken().unwrap(), untried: false })
    }

    fn chosen(nft: Option<State>, legacy: Option<State>, plain: Option<State>) -> Flavour {
        match decided(nft, legacy, plain).unwrap().kind {
            BackendKind::Iptables(flavour) => flavour,
            BackendKind::Nftables => panic!("nftables does not work here"),
        }
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
        let error = decided(broken(), None, None).unwrap_err().to_string();
        assert!(error.contains("x: broken") && error.contains("iptables-legacy-save: missing"), "{error}");
    }

    #[test]
    fn our_chains_in_both_are_noticed() {
        let backend = decided(holding(OURS), holding(OURS), None).unwrap();
        let kind = |flavour| BackendKind::Iptables(flavour);
        assert_eq!((backend.kind, backend.rival), (kind(Flavour::Nft), Some(kind(Flavour::Legacy))));
    }

    #[test]
    fn nftables_is_the_last_resort_unless_it_holds_our_tables() {
        let kind = |nft, native: &str| {
            let native = holding(native).unwrap();
            decide(Observed { nft, legacy: None, plain: None, native, untried: false }).unwrap().kind
        };
        assert_eq!(kind(None, EMPTY), BackendKind::Nftables);
        assert_eq!(kind(broken(), EMPTY), BackendKind::Nftables);
        assert_eq!(kind(holding(EMPTY), EMPTY), BackendKind::Iptables(Flavour::Nft));
        assert_eq!(kind(holding(EMPTY), OURS), BackendKind::Nftables);
    }
}
