use std::net::{IpAddr, SocketAddr};

use snapshot::{Discovery, Endpoint, KnownWorkload, Workload};

use super::*;
use crate::bounds;

fn snapshot(name: &str, endpoints: &[&str]) -> Arc<Snapshot> {
    let endpoints = endpoints.iter().map(|address| address.parse::<SocketAddr>().unwrap());
    let cluster = Cluster::new(name, Discovery::of_addresses(endpoints));
    Arc::new(Draft { clusters: vec![cluster], ..Draft::default() }.finish())
}

fn drawn(draw: u64) -> Choice {
    Choice { draw, hash: None }
}

fn parsed(address: &str) -> Address {
    Address::Socket(address.parse().unwrap())
}

fn origin(destination: SocketAddr) -> Origin<'static> {
    let peer = "192.0.2.9:9".parse().unwrap();
    Origin { peer, destination, is_captured: true, client: None, named: None }
}

fn somewhere() -> Origin<'static> {
    origin("192.0.2.1:1".parse().unwrap())
}

#[test]
fn endpoints_that_stay_keep_their_counts_across_publications() {
    let first = View::empty().next(1, snapshot("a", &["10.0.0.1:80", "10.0.0.2:80"]), Default::default());
    let lease = first.pick(ClusterId(0), somewhere(), drawn(0)).unwrap();
    let kept = lease.address.to_string();
    let second = first.next(2, snapshot("a", &[&kept]), Default::default());
    assert_eq!(second.upstreams().next().unwrap().active(), 1);
    let renamed = first.next(3, snapshot("b", &[&kept]), Default::default());
    assert_eq!(renamed.pick(ClusterId(0), somewhere(), drawn(0)).unwrap().active(), 1);
}

#[test]
fn only_clusters_whose_names_have_other_addresses_are_made_anew() {
    let of_name = |host: &str| {
        let name = snapshot::DnsName {
            host: host.to_owned(),
            port: 80,
            weight: 1,
            locality: Default::default(),
            priority: 0,
            locality_weight: None,
        };
        let dns = snapshot::Dns { resolution: snapshot::DnsResolution::Strict, names: vec![name] };
        Cluster::new(host, Discovery::Dns(dns))
    };
    let clusters = vec![of_name("a"), of_name("b"), of_name("10.0.0.9")];
    let answer = |last: u8| -> Arc<[IpAddr]> { Arc::new([[10, 0, 0, last].into()]) };
    let (of_a, of_b) = (answer(1), answer(2));
    let resolved = |a: &Arc<_>, b: &Arc<_>| {
        let known = [("a".into(), Arc::clone(a)), ("b".into(), Arc::clone(b))];
        Arc::new(Resolutions::of(known.into_iter().collect()))
    };
    let first = resolved(&of_a, &of_b);
    let snapshot = Arc::new(Draft { clusters, ..Draft::default() }.finish());
    let context = ViewContext { resolved: Arc::clone(&first), ..ViewContext::default() };
    let view = View::empty().next(1, snapshot, context);
    let all = [0, 1, 2].map(ClusterId);
    let picked =
        |view: &View, id| view.pick(id, somewhere(), drawn(0)).map(|lease| lease.address.to_string());
    let before = all.map(|id| picked(&view, id).unwrap());
    assert_eq!(before, ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.9:80"]);
    assert!(view.with_resolved(first).is_none(), "nothing has changed");
    let next = view.with_resolved(resolved(&of_a, &answer(3))).unwrap();
    assert_eq!(picked(&next, ClusterId(1)).as_deref(), Some("10.0.0.3:80"));
    let is_same = |id: &ClusterId| std::ptr::eq(view.cluster(*id), next.cluster(*id));
    assert_eq!(all.each_ref().map(is_same), [true, false, true]);
}

#[test]
fn clusters_that_are_as_they_were_stay_and_others_are_made_anew() {
    let known = |name: &str| {
        let workload = Workload { name: name.to_owned(), ..Workload::default() };
        KnownWorkload { workload: workload.into(), principal: "".into() }
    };
    let publish = |before: &View, version: u64, ports: [u16; 2], name: &str| {
        let cluster =
            |name: &str, port: u16| Cluster::new(name, Discovery::of_addresses([([10, 0, 0, 1], port)]));
        // Another one before them, so that they change places.
        let mut clusters = vec![cluster("b", ports[0]), cluster("c", ports[1])];
        clusters.extend((version == 2).then(|| cluster("a", 1)));
        let workloads = [([10, 0, 0, 1].into(), known(name))].into_iter().collect();
        let draft = Draft { clusters, workloads, ..Draft::default() };
        before.next(version, Arc::new(draft.finish()), Default::default())
    };
    let pick = |view: &View, name: &str| {
        let at = view.snapshot.clusters().iter().position(|cluster| cluster.name == name).unwrap();
        let id = ClusterId(u32::try_from(at).unwrap());
        let lease = view.pick(id, somewhere(), drawn(0)).unwrap();
        let peer = view.context.peers.get(lease.peer());
        (
            Rc::clone(view.clusters[at].get().unwrap()),
            peer.workload.unwrap().name.clone(),
            lease.address.port(),
        )
    };
    let first = publish(&View::empty(), 1, [80, 81], "old");
    let (b, name, _) = pick(&first, "b");
    let (c, ..) = pick(&first, "c");
    assert_eq!(name, "old");
    let second = publish(&first, 2, [80, 82], "new");
    let ((same, name, _), (anew, _, port)) = (pick(&second, "b"), pick(&second, "c"));
    assert!(Rc::ptr_eq(&b, &same) && name == "new", "{name}");
    assert!(!Rc::ptr_eq(&c, &anew) && port == Some(82));
}

#[test]
fn endpoints_that_were_tried_are_not_picked_again() {
    let view = View::empty().next(
        1,
        snapshot("a", &["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]),
        Default::default(),
    );
    for draw in [0, 1, u64::MAX / 3, u64::MAX] {
        let mut tried = Vec::new();
        while let Some(lease) = view.pick_untried(ClusterId(0), somewhere(), drawn(draw), &tried) {
            tried.push(lease.address.clone());
        }
        tried.sort();
        tried.dedup();
        assert_eq!(tried.len(), 3);
    }
}

#[test]
fn other_priorities_are_those_of_which_nobody_was_asked() {
    let place = |priority: u32, addresses: &[&str]| snapshot::LocalityEndpoints {
        priority,
        endpoints: addresses.iter().map(|address| Endpoint::at(parsed(address))).collect(),
        ..Default::default()
    };
    let near = ["10.0.0.1:80", "10.0.0.2:80"];
    let places = vec![place(0, &near), place(1, &["10.0.1.1:80"]), place(2, &["10.0.2.1:80"])];
    let cluster = Cluster::new("a", Discovery::Endpoints(places));
    let draft = Draft { clusters: vec![cluster], ..Draft::default() };
    let view = View::empty().next(1, Arc::new(draft.finish()), Default::default());
    let elsewhere = |asked: &[&str]| {
        let asked: Vec<_> = asked.iter().map(|address| parsed(address)).collect();
        let lease = view.pick_elsewhere(ClusterId(0), somewhere(), (drawn(5), &asked));
        lease.map(|lease| lease.address.to_string())
    };
    assert_eq!(elsewhere(&near[..1]).as_deref(), Some("10.0.1.1:80"));
    assert_eq!(elsewhere(&["10.0.0.2:80", "10.0.1.1:80"]).as_deref(), Some("10.0.2.1:80"));
    assert_eq!(elsewhere(&["10.0.0.2:80", "10.0.1.1:80", "10.0.2.1:80"]), None);
}

#[test]
fn whoever_is_picked_is_known_by_what_the_snapshot_says() {
    let place = |priority: u32, address: &str| snapshot::LocalityEndpoints {
        priority,
        endpoints: vec![Endpoint::at(parsed(address))],
        ..Default::default()
    };
    let places = vec![place(0, "10.0.0.1:80"), place(1, "10.0.1.1:80")];
    let known = [("10.0.0.1", "near"), ("10.0.1.1", "far")].map(|(address, name)| {
        let workload = Workload { name: name.to_owned(), ..Workload::default() };
        let principal = "spiffe://td/ns/a/sa/b".into();
        (address.parse().unwrap(), KnownWorkload { workload: workload.into(), principal })
    });
    let draft = Draft {
        clusters: vec![Cluster::new("a", Discovery::Endpoints(places))],
        workloads: known.into_iter().collect(),
        ..Draft::default()
    };
    let view = View::empty().next(1, Arc::new(draft.finish()), Default::default());
    let name = |lease: Option<Lease>| {
        let peer = view.context.peers.get(lease.unwrap().peer());
        peer.workload.map(|workload| workload.name.clone())
    };
    assert_eq!(name(view.pick(ClusterId(0), somewhere(), drawn(5))).as_deref(), Some("near"));
    let asked = [parsed("10.0.0.1:80")];
    let elsewhere = view.pick_elsewhere(ClusterId(0), somewhere(), (drawn(5), &asked));
    assert_eq!(name(elsewhere).as_deref(), Some("far"));
}

#[test]
fn a_cluster_without_endpoints_picks_nothing() {
    let view = View::empty().next(1, snapshot("a", &[]), Default::default());
    assert!(view.pick(ClusterId(0), somewhere(), drawn(7)).is_none());
}

#[test]
fn original_destinations_are_bounded_and_forgotten_when_unused() {
    let cluster = Cluster::new("PassthroughCluster", Discovery::OriginalDestination);
    let draft = Draft { clusters: vec![cluster], ..Draft::default() };
    let view = View::empty().next(1, Arc::new(draft.finish()), Default::default());
    for port in 1..=u16::try_from(bounds::ORIGINAL_DESTINATIONS).unwrap() + 10 {
        let origin = origin(([10, 0, 0, 1], port).into());
        let lease = view.pick(ClusterId(0), origin, drawn(0)).unwrap();
        assert_eq!(lease.address.port(), Some(port));
    }
    assert_eq!(view.upstreams().count(), bounds::ORIGINAL_DESTINATIONS);
    view.sweep();
    assert_eq!(view.upstreams().count(), 0);
}
