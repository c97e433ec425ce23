use super::*;
use crate::parse;
use crate::ruleset::{Family, Protocol};

fn rules(text: &str) -> RuleSet {
    parse::parse(Family::V4, text).unwrap().rule_set()
}

fn packet(destination: &str) -> Packet {
    let source = "10.0.0.1:40000".parse().unwrap();
    Packet::new(Direction::Out, Protocol::Tcp, source, destination.parse().unwrap())
}

#[test]
fn return_goes_on_after_the_jump() {
    let rules = rules(
        "*nat\n:OUTPUT ACCEPT\n:A -\n-A OUTPUT -j A\n-A OUTPUT -p tcp -j REDIRECT --to-ports 2\n-A A -j RETURN\nCOMMIT\n",
    );
    let walk = simulate(&packet("10.0.0.2:80"), &rules, &[]);
    assert_eq!(walk.verdict, Verdict::Redirect(Port::new(2).unwrap()));
    let trail: Vec<_> =
        walk.visits.iter().map(|visit| (visit.chain.as_str(), visit.number, visit.depth)).collect();
    assert_eq!(trail, [("OUTPUT", 1, 0), ("A", 1, 1), ("OUTPUT", 2, 0)]);
}

#[test]
fn accept_ends_its_table_only() {
    let rules = rules(
        "*mangle\n:OUTPUT ACCEPT\n-A OUTPUT -j ACCEPT\nCOMMIT\n*nat\n:OUTPUT ACCEPT\n-A OUTPUT -p tcp -j REDIRECT --to-ports 2\nCOMMIT\n",
    );
    let walk = simulate(&packet("10.0.0.2:80"), &rules, &[]);
    assert_eq!(walk.verdict, Verdict::Redirect(Port::new(2).unwrap()));
}

#[test]
fn later_packets_skip_translation() {
    let rules = rules("*nat\n:OUTPUT ACCEPT\n-A OUTPUT -p tcp -j REDIRECT --to-ports 2\nCOMMIT\n");
    let later = Packet { state: ConnectionState::Established, ..packet("10.0.0.2:80") };
    let walk = simulate(&later, &rules, &[]);
    assert_eq!((walk.verdict, walk.visits.len()), (Verdict::Accept, 0));
}

#[test]
fn the_first_zone_stays() {
    let rules = rules("*raw\n:OUTPUT ACCEPT\n-A OUTPUT -j CT --zone 1\n-A OUTPUT -j CT --zone 2\nCOMMIT\n");
    let walk = simulate(&packet("10.0.0.2:80"), &rules, &[]);
    assert_eq!((walk.zone, walk.visits.len()), (Some(1), 2));
    assert_eq!(walk.to_string(), "RETURN (not intercepted), zone 1");
}

#[test]
fn rules_that_cannot_be_read_make_the_verdict_uncertain() {
    let rules = rules("*nat\n:OUTPUT ACCEPT\n-A OUTPUT -m addrtype --dst-type LOCAL -j ACCEPT\nCOMMIT\n");
    let walk = simulate(&packet("10.0.0.2:80"), &rules, &[]);
    assert!(!walk.certain);
    assert_eq!(walk.visits[0].outcome, Outcome::Unknown);
    assert!(walk.to_string().contains("unless"));
}

#[test]
fn targets_of_others_decide_or_let_pass() {
    let rules = rules(
        "*nat\n:OUTPUT ACCEPT\n-A OUTPUT -j LOG\n-A OUTPUT -p tcp -j DNAT --to-destination 10.0.0.9:1\nCOMMIT\n",
    );
    let walk = simulate(&packet("10.0.0.2:80"), &rules, &[]);
    assert_eq!(walk.to_string(), "DNAT --to-destination 10.0.0.9:1 (rule of others)");
}

#[test]
fn a_circle_of_jumps_ends() {
    let rules = rules("*nat\n:OUTPUT ACCEPT\n:A -\n-A OUTPUT -j A\n-A A -j A\nCOMMIT\n");
    let walk = simulate(&packet("10.0.0.2:80"), &rules, &[]);
    assert!(!walk.certain);
    assert_eq!(walk.visits.len(), 1 + DEEPEST);
}

#[test]
fn circles_that_branch_end() {
    let rules = rules("*nat\n:OUTPUT ACCEPT\n:A -\n-A OUTPUT -j A\n-A A -j A\n-A A -j A\nCOMMIT\n");
    let walk = simulate(&packet("10.0.0.2:80"), &rules, &[]);
    assert!(!walk.certain);
    assert_eq!(walk.visits.len(), MOST_VISITS);
}

#[test]
fn nobody_owns_a_packet_that_came_in() {
    let rules = rules(
        "*nat\n:PREROUTING ACCEPT\n-A PREROUTING -m owner --uid-owner 0 -j DROP\n-A PREROUTING -m owner ! --uid-owner 0 -j ACCEPT\nCOMMIT\n",
    );
    let incoming = Packet { direction: Direction::In, ..packet("10.0.0.2:80") };
    let walk = simulate(&incoming, &rules, &[]);
    assert_eq!(
        walk.visits.iter().map(|visit| visit.outcome).collect::<Vec<_>>(),
        [Outcome::Passed, Outcome::Met]
    );
}
