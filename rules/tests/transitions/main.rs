//! On the way from one set of rules to another every packet fares as under the one or as under the other.
//!
//! The documents are carried out here as iptables-restore would, one COMMIT after the other, and the routing rules of
//! TPROXY are added before and taken away behind. What is left when all of it stops after any step decides over packets
//! that chance makes.
#![expect(clippy::unwrap_used, reason = "a property that cannot be stated should stop")]

use proptest::prelude::*;
use rules::diff;
use rules::packet::Packet;
use rules::ruleset::Family;
use rules::transaction;

use crate::kernel::Kernel;
use crate::packets::{of_every_kind, packet};
use crate::wanted::{Wanted, wanted};
use crate::way::Way;

mod kernel;
mod packets;
mod wanted;
mod way;

/// Goes from nothing to `old` and on to `new`, and looks at every step.
fn expect_no_mixture(old: &Wanted, new: &Wanted, packets: &[Packet]) {
    let in_vain = old.marks_in_vain || new.marks_in_vain;
    let packets: Vec<_> =
        packets.iter().filter(|packet| packet.connection_mark == 0 || !in_vain).cloned().collect();
    for family in Family::BOTH {
        let installed = Way::to(old, family, &Kernel::default(), &[]);
        expect_whole(family, installed.end(), old);
        let way = Way::to(new, family, installed.end(), &installed.deliveries[1]);
        let whole = [old, new].map(|wanted| wanted.state(family));
        let about = || format!("{:?}\nto {:?}", old.flags, new.flags);
        way.expect_nothing_new(family, &whole.each_ref(), &packets, &about);
        expect_whole(family, way.end(), new);
    }
}

fn expect_whole(family: Family, kernel: &Kernel, wanted: &Wanted) {
    let difference = diff::compare(&wanted.rule_set(family), &kernel.found(family));
    assert!(difference.is_empty(), "{difference}");
}

#[test]
fn no_packet_meets_a_mixture_when_one_thing_changes() {
    let named: [&[&str]; 12] = [
        &[],
        &["-i", "*", "-b", "*"],
        &["-i", "*", "-b", "*", "-p", "15101", "-z", "15106"],
        &["-i", "*", "-b", "*", "-d", "8080", "-o", "80"],
        &["-i", "*", "-b", "*", "--drop-invalid"],
        &["-i", "*", "-b", "*", "--redirect-dns", "--dns-servers", "10.77.0.1,fd00:77::1"],
        &["-i", "*", "-b", "*", "--redirect-dns", "--dns-servers", "10.77.0.9,fd00:77::9"],
        &["-i", "*", "-b", "*", "-m", "TPROXY"],
        &["-i", "*", "-b", "*", "-m", "TPROXY", "-p", "15101", "-z", "15106", "-t", "7", "-r", "300"],
        &["-i", "*", "-b", "8080", "-m", "TPROXY", "--drop-invalid"],
        &["-i", "*", "-b", "*", "-m", "TPROXY", "--redirect-dns", "--capture-all-dns"],
        &["-i", "", "-b", ""],
    ];
    let wanted = |flags: &[&str]| if flags.is_empty() { Wanted::nothing() } else { Wanted::by(flags, true) };
    let mut all: Vec<_> = named.into_iter().map(wanted).collect();
    all.push(Wanted::by(named[5], false));
    let packets = of_every_kind();
    for old in &all {
        for new in &all {
            expect_no_mixture(old, new, &packets);
        }
    }
}

proptest! {
    #[test]
    fn no_packet_meets_a_mixture(
        old in wanted(),
        new in wanted(),
        packets in prop::collection::vec(packet(), 100),
    ) {
        expect_no_mixture(&old, &new, &packets);
    }

    #[test]
    fn nor_after_a_change_that_was_interrupted(
        (old, half, new) in (wanted(), wanted(), wanted()),
        step in any::<prop::sample::Index>(),
        packets in prop::collection::vec(packet(), 50),
    ) {
        let packets: Vec<_> = packets.into_iter().map(|packet| Packet { connection_mark: 0, ..packet }).collect();
        for family in Family::BOTH {
            let installed = Way::to(&old, family, &Kernel::default(), &[]);
            let interrupted = Way::to(&half, family, installed.end(), &installed.deliveries[1]);
            let kernel = step.get(&interrupted.kernels);
            let way = Way::to(&new, family, kernel, &interrupted.all_deliveries());
            let whole = [&old, &half, &new].map(|wanted| wanted.state(family));
            let about = || format!("{:?}\nto {:?}\nto {:?}", old.flags, half.flags, new.flags);
            way.expect_nothing_new(family, &whole.each_ref(), &packets, &about);
            expect_whole(family, way.end(), &new);
        }
    }

    #[test]
    fn nor_when_a_change_is_taken_back(
        (old, new) in (wanted(), wanted()),
        step in any::<prop::sample::Index>(),
        packets in prop::collection::vec(packet(), 50),
    ) {
        let Some(program) = &new.program else { return Ok(()) };
        let packets: Vec<_> = packets.into_iter().map(|packet| Packet { connection_mark: 0, ..packet }).collect();
        for family in Family::BOTH {
            let installed = Way::to(&old, family, &Kernel::default(), &[]);
            let way = Way::to(&new, family, installed.end(), &installed.deliveries[1]);
            let kernel = step.get(&way.kernels);
            let document = transaction::revert(program, &kernel.found(family), &installed.end().found(family));
            let deliveries = [way.all_deliveries(), installed.deliveries[1].clone()];
            let back = Way::new(kernel, &document, deliveries);
            let whole = [&old, &new].map(|wanted| wanted.state(family));
            let about = || format!("{:?}\nback to {:?}", new.flags, old.flags);
            back.expect_nothing_new(family, &whole.each_ref(), &packets, &about);
            expect_whole(family, back.end(), &old);
        }
    }
}
