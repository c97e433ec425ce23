use dataplane::ResponseCode;
use snapshot::MetricRule;

use super::*;

fn text(telemetry: &Telemetry, workload: &Workload, snapshot: Option<&Snapshot>) -> String {
    let mut text = String::new();
    istio(telemetry, workload, snapshot, &mut text).unwrap();
    text
}

#[test]
fn services_are_told_from_cluster_names() {
    let service = |cluster: &'static str| of_cluster_name(cluster);
    assert_eq!(service("outbound|80|v1|a.prod.svc.cluster.local"), ("a.prod.svc.cluster.local", "a", "prod"));
    assert_eq!(service("outbound|443||example.com"), ("example.com", "example.com", "unknown"));
    assert_eq!(service("PassthroughCluster"), ("PassthroughCluster", "PassthroughCluster", "unknown"));
    assert_eq!(service(""), ("unknown", "unknown", "unknown"));
}

#[test]
fn both_sides_are_named_with_their_principals_where_tls_is_mutual() {
    let own = Workload { name: "own".to_owned(), ..Workload::default() };
    let rules = MetricRules::default();
    let names = Names { own: &own, own_principal: "spiffe://me".to_owned(), snapshot: None, rules };
    let workload = Some(Workload { name: "other".to_owned(), ..Workload::default() }.into());
    let mutual = Peer { workload: workload.clone(), principal: Some("spiffe://other".into()) };
    let told = |direction, peer: &Peer| {
        let mut labels = names.sides(direction, "", peer);
        outcome(direction, "", peer, &mut labels);
        let all = labels.changed(&MetricRule::default(), "");
        let wanted = |pair: &&str| {
            ["reporter", "source_workload=", "source_pr", "destination_workload=", "destination_pr", "conn"]
                .iter()
                .any(|start| pair.starts_with(start))
        };
        all.split(',').filter(wanted).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        told(Direction::Inbound, &mutual),
        "reporter=\"destination\" source_workload=\"other\" source_principal=\"spiffe://other\" \
         destination_workload=\"own\" destination_principal=\"spiffe://me\" \
         connection_security_policy=\"mutual_tls\""
    );
    assert_eq!(
        told(Direction::Outbound, &Peer { workload, principal: None }),
        "reporter=\"source\" source_workload=\"own\" source_principal=\"unknown\" \
         destination_workload=\"other\" destination_principal=\"unknown\" \
         connection_security_policy=\"unknown\""
    );
    assert!(told(Direction::Inbound, &Peer::default()).ends_with("connection_security_policy=\"none\""));
}

#[test]
fn messages_are_told_of_calls_only_and_not_by_how_these_end() {
    let mut telemetry = Telemetry::default();
    for (grpc, messages) in [(Some(Some(0)), (1, 4)), (Some(Some(14)), (2, 0)), (None, (0, 0))] {
        let key = RequestKey {
            cluster: "outbound|80||a.prod.svc.cluster.local".into(),
            direction: Direction::Outbound,
            status: 200.into(),
            flags: "".into(),
            grpc,
            peer: Peer::default(),
        };
        telemetry.requests.insert(key, RequestMeasures { messages, ..RequestMeasures::default() });
    }
    let text = text(&telemetry, &Workload::default(), None);
    let of = |name: &str| -> Vec<&str> { text.lines().filter(|line| line.starts_with(name)).collect() };
    let [requests, answers] = ["istio_request_messages_total{", "istio_response_messages_total{"].map(of);
    assert!(requests.len() == 1 && requests[0].ends_with("} 3"), "{requests:?}");
    assert!(answers.len() == 1 && answers[0].ends_with("} 4"), "{answers:?}");
    assert!(requests[0].contains("reporter=\"source\"") && !requests[0].contains("grpc_response_status"));
}

#[test]
fn requests_to_the_ports_of_a_service_are_one_line() {
    let mut telemetry = Telemetry::default();
    for port in [80, 81] {
        let cluster = format!("outbound|{port}||a.prod.svc.cluster.local").into();
        let key = RequestKey {
            cluster,
            direction: Direction::Outbound,
            status: 200.into(),
            flags: "".into(),
            grpc: None,
            peer: Peer::default(),
        };
        let mut measures = RequestMeasures::default();
        measures.durations.counts[2] = 2;
        telemetry.requests.insert(key, measures);
    }
    let text = text(&telemetry, &Workload::default(), None);
    let totals: Vec<_> = text.lines().filter(|line| line.starts_with("istio_requests_total{")).collect();
    assert_eq!(totals.len(), 1, "{text}");
    assert!(totals[0].ends_with("} 4") && totals[0].contains("response_code=\"200\""), "{text}");
    assert!(text.contains("le=\"5\"} 4\n") && text.contains("le=\"1\"} 0\n"), "{text}");
}

#[test]
fn telemetry_leaves_metrics_and_labels_out() {
    use snapshot::{Draft, LabelRule};
    let mut telemetry = Telemetry::default();
    for (status, direction) in
        [(200, Direction::Outbound), (404, Direction::Outbound), (200, Direction::Inbound)]
    {
        let key = RequestKey {
            cluster: "outbound|80||a.prod.svc.cluster.local".into(),
            direction,
            status: ResponseCode::from(status),
            flags: "".into(),
            grpc: None,
            peer: Peer::default(),
        };
        let mut measures = RequestMeasures::default();
        measures.durations.counts[0] = 3;
        telemetry.requests.insert(key, measures);
    }
    let mut draft = Draft::default();
    let labels = [
        ("response_code".to_owned(), LabelRule::Remove),
        ("team".to_owned(), LabelRule::Text("a".to_owned())),
    ];
    let changed = MetricRule { disabled: false, labels: labels.into() };
    let disabled = MetricRule { disabled: true, ..MetricRule::default() };
    draft.metric_rules.client = [(Metric::RequestCount, changed), (Metric::RequestSize, disabled)].into();
    let text = text(&telemetry, &Workload::default(), Some(&draft.finish()));
    let of = |name: &str| -> Vec<&str> { text.lines().filter(|line| line.starts_with(name)).collect() };
    let [client, server] = of("istio_requests_total{")[..] else { panic!("{text}") };
    let [server, client] = if client.contains("\"source\"") { [server, client] } else { [client, server] };
    assert!(client.ends_with(",team=\"a\"} 6") && !client.contains("response_code"), "{client}");
    assert!(server.ends_with("} 3") && server.contains("response_code=\"200\""), "{server}");
    assert_eq!((of("istio_request_bytes_count{").len(), of("istio_response_bytes_count{").len()), (1, 3));
}

/// What is told of a request and of an opaque connection, of the labels that depend on where it is served.
fn told(direction: Direction, cluster: &str, grpc: Option<Option<u8>>, flags: &str) -> [String; 2] {
    let mut telemetry = Telemetry::default();
    let (cluster, flags, peer): (Box<str>, Box<str>, _) = (cluster.into(), flags.into(), Peer::default());
    let key = ConnectionKey { cluster: cluster.clone(), direction, flags: flags.clone(), peer: peer.clone() };
    telemetry.connections.insert(key, ConnectionMeasures { opened: 1, ..ConnectionMeasures::default() });
    let key = RequestKey { cluster, direction, status: 200.into(), flags, grpc, peer };
    telemetry.requests.insert(key, RequestMeasures::default());
    let own = Workload { name: "own".to_owned(), ..Workload::default() };
    let text = text(&telemetry, &own, None);
    ["istio_requests_total{", "istio_tcp_connections_opened_total{"].map(|name| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        let labels = line.split_once("\"}").unwrap().0.split("\",").map(|pair| pair.replace('"', ""));
        let wanted = [
            "reporter=",
            "source_workload=",
            "destination_workload=",
            "destination_service=",
            "destination_service_namespace=",
            "request_protocol=",
            "grpc_response_status=",
            "response_flags=",
            "connection_security_policy=",
        ];
        let values = labels.filter(|pair| wanted.iter().any(|name| pair.starts_with(name)));
        values.map(|pair| pair.split_once('=').unwrap().1.to_owned()).collect::<Vec<_>>().join(" ")
    })
}

#[test]
fn labels_are_those_of_istio_wherever_a_call_is_served() {
    use Direction::{Gateway, Inbound, Outbound};
    let service = "outbound|80||a.ns.svc.cluster.local";
    let outside = "outbound|443||example.com";
    for (direction, cluster, grpc, flags, request, connection) in [
        (
            Gateway,
            service,
            None,
            "",
            "source own unknown a.ns.svc.cluster.local ns http  - unknown",
            "source own unknown a.ns.svc.cluster.local ns tcp - unknown",
        ),
        (
            Outbound,
            service,
            Some(Some(14)),
            "UF,URX",
            "source own unknown a.ns.svc.cluster.local ns grpc 14 UF,URX unknown",
            "source own unknown a.ns.svc.cluster.local ns tcp UF,URX unknown",
        ),
        (
            Outbound,
            outside,
            Some(None),
            "DC",
            "source own unknown example.com unknown grpc  DC unknown",
            "source own unknown example.com unknown tcp DC unknown",
        ),
        (
            Outbound,
            "PassthroughCluster",
            None,
            "",
            "source own unknown PassthroughCluster unknown http  - unknown",
            "source own unknown PassthroughCluster unknown tcp - unknown",
        ),
        (
            Outbound,
            "BlackHoleCluster",
            None,
            "UH",
            "source own unknown BlackHoleCluster unknown http  UH unknown",
            "source own unknown BlackHoleCluster unknown tcp UH unknown",
        ),
        (
            Outbound,
            "",
            None,
            "NR",
            "source own unknown unknown unknown http  NR unknown",
            "source own unknown unknown unknown tcp NR unknown",
        ),
        (
            Inbound,
            "InboundPassthroughCluster",
            None,
            "SI",
            "destination unknown own InboundPassthroughCluster unknown http  SI none",
            "destination unknown own InboundPassthroughCluster unknown tcp SI none",
        ),
        (
            Inbound,
            "inbound|8080||",
            Some(Some(0)),
            "",
            "destination unknown own unknown unknown grpc 0 - none",
            "destination unknown own unknown unknown tcp - none",
        ),
    ] {
        let [of_request, of_connection] = told(direction, cluster, grpc, flags);
        assert_eq!((of_request.as_str(), of_connection.as_str()), (request, connection), "{cluster} {flags}");
    }
}
