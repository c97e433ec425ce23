use super::*;

#[test]
fn the_families_are_those_the_workload_has() {
    let of = |own: &[&str]| NameFamilies::of(&own.iter().map(|ip| ip.parse().unwrap()).collect::<Vec<_>>());
    assert_eq!(of(&["10.0.0.1"]), NameFamilies::V4First);
    assert_eq!(of(&["fd00::1"]), NameFamilies::V6First);
    assert_eq!(of(&["10.0.0.1", "fd00::1"]), NameFamilies::Both);
    assert_eq!(of(&[]), NameFamilies::V4First);
}

#[tokio::test]
async fn names_are_waited_for_once() {
    let (wanted, _asked) = watch::channel(Names::default());
    let (_resolving, resolved) = watch::channel(Arc::default());
    let (questions, _) = mpsc::channel(bounds::WAITING_QUESTIONS);
    let unresolved = Unresolved::default();
    // Nobody answers.
    let mut resolver =
        Resolver { settings: NameSettings::default(), wanted, resolved, questions, unresolved, task: None };
    let of_names = |hosts: &[&str]| {
        let name = |host: &&str| snapshot::DnsName {
            host: (*host).to_owned(),
            port: 80,
            weight: 1,
            locality: snapshot::Locality::default(),
            priority: 0,
            locality_weight: None,
        };
        let names = hosts.iter().map(name).collect();
        let dns = snapshot::Dns { resolution: DnsResolution::Strict, names };
        let clusters = vec![snapshot::Cluster::new("a", Discovery::Dns(dns))];
        snapshot::Draft { clusters, ..snapshot::Draft::default() }.finish()
    };
    let mut waits = Vec::new();
    for hosts in [&["a"][..], &["a"], &["a", "b"], &["b"]] {
        let snapshot = of_names(hosts);
        waits.push(tokio::time::timeout(Duration::ZERO, resolver.want(&snapshot, || {})).await.is_err());
    }
    assert_eq!(waits, [true, false, true, false]);
}
