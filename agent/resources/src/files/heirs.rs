//! Several documents of one name in one file: the one in force stays in force, wherever the others are written.

use std::collections::{HashMap, HashSet};

use crate::{Resource, ResourceId};

/// Takes those out of what a file holds `now` that have the name of something in force there `before` and of another
/// document, and are not what was in force: that is the document that says the same, else the first that was not `left_out`
/// before. Where what was in force is among the `refused`, its last valid version stays, and no other takes over.
pub(super) fn take_out_others(
    now: &mut Vec<Resource>,
    refused: &[ResourceId],
    before: &[Resource],
    left_out: &[Resource],
) -> Vec<Resource> {
    let mut others = others_of_refused(now, refused, before, left_out);
    for places in written_again(now) {
        let Some(in_force) = before.iter().find(|one| one.id() == now[places[0]].id()) else { continue };
        let says = |what: &Resource, at: usize| now[at].says_the_same_as(what);
        let same = places.iter().find(|at| says(in_force, **at));
        let edited = || places.iter().find(|at| !left_out.iter().any(|one| says(one, **at)));
        let heir = *same.or_else(edited).unwrap_or(&places[0]);
        others.extend(places.into_iter().filter(|at| *at != heir));
    }
    let numbered = std::mem::take(now).into_iter().enumerate();
    let (out, stay): (Vec<_>, Vec<_>) = numbered.partition(|(at, _)| others.contains(at));
    now.extend(stay.into_iter().map(|(_, one)| one));
    out.into_iter().map(|(_, one)| one).collect()
}

/// Where the documents are that have the name of one that is refused now, and were not in force before either.
fn others_of_refused(
    now: &[Resource],
    refused: &[ResourceId],
    before: &[Resource],
    left_out: &[Resource],
) -> HashSet<usize> {
    let refused: HashSet<&ResourceId> = refused.iter().collect();
    let is_other = |one: &Resource| {
        let mut named = before.iter().filter(|known| known.id() == one.id());
        let Some(in_force) = named.next().filter(|_| refused.contains(one.id())) else { return false };
        !one.says_the_same_as(in_force) && named.chain(left_out).any(|other| one.says_the_same_as(other))
    };
    now.iter().enumerate().filter(|(_, one)| is_other(one)).map(|(at, _)| at).collect()
}

/// Where the documents are whose name another one has, too, by name.
fn written_again(now: &[Resource]) -> Vec<Vec<usize>> {
    let mut places: HashMap<&ResourceId, Vec<usize>> = HashMap::new();
    for (at, one) in now.iter().enumerate() {
        places.entry(one.id()).or_default().push(at);
    }
    places.into_values().filter(|places| places.len() > 1).collect()
}
