//! Which endpoints of a cluster may be picked, in words.

use super::{Rejected, Step};
use crate::{Address, Cluster, Discovery, Dns, EndpointLevel, EndpointPlan, LiveClusters, LoadBalancer};

/// Endpoints named of each kind.
const SHOWN: usize = 10;

/// Says in `step` who may be picked and who not; returns where a request ends.
pub(super) fn describe(
    cluster: &Cluster,
    live: &LiveClusters,
    (is_captured, asked): (bool, &str),
    step: &mut Step,
) -> String {
    let name = &cluster.name;
    match &cluster.discovery {
        Discovery::OriginalDestination if !is_captured => {
            let because = "the endpoint is the address the client dialled, and that is the proxy itself";
            step.because.push(because.to_owned());
            format!("503 UH no_healthy_upstream ({name})")
        }
        Discovery::OriginalDestination => {
            step.because.push("the endpoint is the address the client dialled".to_owned());
            format!("{name} (original destination)")
        }
        Discovery::DynamicDns(dynamic) => {
            let port = match dynamic.port {
                Some(port) => format!("port {port}"),
                None if dynamic.begins_tls => "the port the client dialled, 443 for 80, in TLS".to_owned(),
                None => "the port the client dialled".to_owned(),
            };
            let Some(host) = dynamic.name_of(asked) else {
                step.because.push(format!("`{asked}` is none of its names, {}", dynamic.hosts));
                return format!("503 UH no_healthy_upstream ({name})");
            };
            let host = host.as_str();
            step.because
                .push(format!("the endpoint is what DNS says of {host} when it is asked for, on {port}"));
            format!("{name} (resolved by DNS: {host})")
        }
        Discovery::Dns(dns) => {
            step.because.push(format!("endpoints are what DNS says of {}", names(dns)));
            match live.found(cluster) {
                Some(_) => among(cluster, live, "no name has an address", step),
                None => format!("{name} (resolved by DNS)"),
            }
        }
        Discovery::Endpoints(_) => among(cluster, live, "the service has no ready endpoint", step),
    }
}

fn names(dns: &Dns) -> String {
    let names: Vec<_> = dns.names.iter().map(|name| format!("{}:{}", name.host, name.port)).collect();
    names.join(", ")
}

/// An endpoint as the plan knows it: by its position.
struct Place {
    address: Address,
    priority: u32,
}

fn among(cluster: &Cluster, live: &LiveClusters, without: &str, step: &mut Step) -> String {
    let places: Vec<Place> = live
        .localities(cluster)
        .iter()
        .flat_map(|group| {
            let place = |endpoint: &crate::Endpoint| Place {
                address: endpoint.address.clone(),
                priority: group.priority,
            };
            group.endpoints.iter().map(place)
        })
        .collect();
    let plan = live.plan(cluster);
    let members: Vec<usize> = plan.members().map(|position| position as usize).collect();
    step.rejected.extend(others(cluster, live, &places, &members));
    let nobody = if places.is_empty() { without } else { "every endpoint is ejected for its failures" };
    if members.is_empty() {
        step.because.push(nobody.to_owned());
        return format!("503 UH no_healthy_upstream ({})", cluster.name);
    }
    step.because.extend(shares(&plan));
    let more = members.len().saturating_sub(SHOWN);
    let shown: Vec<_> =
        members.iter().take(SHOWN).map(|position| places[*position].address.to_string()).collect();
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    step.because.push(format!("{} among {}{more}", balancer(&cluster.load_balancer), shown.join(", ")));
    format!("{} ({} endpoint{})", cluster.name, members.len(), if members.len() == 1 { "" } else { "s" })
}

/// Endpoints that are not picked now.
fn others(
    cluster: &Cluster,
    live: &LiveClusters,
    places: &[Place],
    members: &[usize],
) -> impl Iterator<Item = Rejected> {
    let mut is_member = vec![false; places.len()];
    members.iter().for_each(|position| is_member[*position] = true);
    let others = places.iter().zip(is_member).filter(|(_, is_member)| !is_member);
    others.take(SHOWN).map(|(place, _)| Rejected {
        name: place.address.to_string(),
        because: match live.endpoint(cluster, &place.address).is_ejected {
            true => "it is ejected for its failures (outlierDetection)".to_owned(),
            false => format!(
                "it has priority {}, and enough endpoints of those before it are healthy",
                place.priority
            ),
        },
    })
}

/// What each priority gets, when several get something.
fn shares(plan: &EndpointPlan) -> Option<String> {
    let sum: u64 = plan.levels.iter().map(|level| level.share).sum();
    let share = |level: &EndpointLevel| {
        format!(
            "priority {} gets {} %",
            level.priority,
            (level.share * 100).checked_div(sum).unwrap_or_default()
        )
    };
    let several = plan.levels.len() > 1;
    several.then(|| plan.levels.iter().map(share).collect::<Vec<_>>().join(", "))
}

fn balancer(balancer: &LoadBalancer) -> &'static str {
    match balancer {
        LoadBalancer::LeastRequest(_) => "the less busy of two",
        LoadBalancer::RoundRobin(_) => "in turn",
        LoadBalancer::Random => "at random",
        LoadBalancer::ConsistentHash(_) => "by hash",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Endpoint, LocalityEndpoints};

    fn cluster() -> Cluster {
        let locality = |priority: u8, endpoints: u8| LocalityEndpoints {
            priority: priority.into(),
            endpoints: (1..=endpoints).map(|n| Endpoint::at(([10, 0, priority, n], 80))).collect(),
            ..LocalityEndpoints::default()
        };
        Cluster::new("c", Discovery::Endpoints(vec![locality(0, 2), locality(1, 1)]))
    }

    fn described(ejected: &[Address]) -> (Step, String) {
        let (cluster, mut live) = (cluster(), LiveClusters::default());
        for address in ejected {
            live.entry("c").endpoints.entry(address.clone()).or_default().is_ejected = true;
        }
        let mut step = Step { because: Vec::new(), ..Step::chosen("cluster", "c", "") };
        let end = describe(&cluster, &live, (true, ""), &mut step);
        (step, end)
    }

    #[test]
    fn what_is_farther_away_is_not_asked_while_what_is_near_is_well() {
        let (step, end) = described(&[]);
        assert_eq!(step.because, ["the less busy of two among 10.0.0.1:80, 10.0.0.2:80"]);
        assert_eq!(step.rejected.len(), 1);
        assert!(step.rejected[0].because.starts_with("it has priority 1"), "{:?}", step.rejected);
        assert_eq!(end, "c (2 endpoints)");
    }

    #[test]
    fn endpoints_left_alone_are_named_and_others_take_over() {
        let first = Address::Socket(([10, 0, 0, 1], 80).into());
        let (step, _) = described(&[first]);
        assert_eq!(step.because[0], "priority 0 gets 70 %, priority 1 gets 30 %");
        assert_eq!(step.rejected[0].name, "10.0.0.1:80");
        assert!(step.rejected[0].because.contains("outlierDetection"));
    }

    #[test]
    fn when_all_are_left_alone_the_answer_is_known() {
        let all: Vec<Address> = cluster().endpoints().map(|endpoint| endpoint.address.clone()).collect();
        let (step, end) = described(&all);
        assert_eq!(step.because, ["every endpoint is ejected for its failures"]);
        assert_eq!(end, "503 UH no_healthy_upstream (c)");
    }
}
