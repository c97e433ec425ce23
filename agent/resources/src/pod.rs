//! Kubernetes Pod: the labels, place and ports of an endpoint. Everything else about pods is nobody's business here.

use std::net::IpAddr;

use crate::{
    IpProtocol, Labels, Meta, Object,
    decode::{Fields, PortNumber, Shape},
    endpoint_slice::Address,
};

/// Contents of a Pod that matter to those who call it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Pod {
    /// Its addresses (`status.podIPs`); empty before it has one.
    pub ips: Vec<IpAddr>,
    /// Node it runs on (`spec.nodeName`).
    pub node: Option<String>,
    /// Service account it runs as (`spec.serviceAccountName`); absent means `default`.
    pub service_account: Option<String>,
    /// Whether it shares the node's addresses (`spec.hostNetwork`), which then name no pod.
    pub is_host_network: bool,
    /// Ports of its containers, by which Services may name their `targetPort`.
    pub ports: Vec<ContainerPort>,
    /// What made it (`metadata.ownerReferences`), and will make another in its place.
    pub controller: Option<Controller>,
}

impl Shape for Pod {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        fields.ignore(&["apiVersion", "kind"]);
        let PodMetadata(controller) = fields.or_default("metadata");
        let PodSpec(spec) = fields.or_default("spec");
        let PodStatus(ips) = fields.or_default("status");
        Self { ips, controller, ..spec }
    }
}

impl Object<Pod> {
    /// The name by which its workload is known: that of the Deployment, StatefulSet or CronJob that it belongs to, as
    /// Istio works it out; its own when it belongs to nothing.
    pub fn workload_name(&self) -> &str {
        let labels = &self.meta.labels;
        if let Some(name) = labels.get("service.istio.io/workload-name").filter(|name| !name.is_empty()) {
            return name;
        }
        let Some(Controller { kind, name }) = &self.spec.controller else { return self.meta.name() };
        let without_hash = |label: &str| name.strip_suffix(labels.get(label)?.as_str())?.strip_suffix('-');
        let made_by = match kind.as_str() {
            "ReplicaSet" => {
                without_hash("pod-template-hash").or_else(|| without_hash("rollouts-pod-template-hash"))
            }
            "ReplicationController" => labels.get("deploymentconfig").map(String::as_str),
            "Job" => without_schedule(name),
            _ => None,
        };
        made_by.filter(|name| !name.is_empty()).unwrap_or(name)
    }
}

/// The CronJob that has made a Job: the minutes since 1970 follow its name.
fn without_schedule(job: &str) -> Option<&str> {
    let (name, at) = job.rsplit_once('-')?;
    ((8..=10).contains(&at.len()) && at.bytes().all(|byte| byte.is_ascii_digit())).then_some(name)
}

/// What has made a pod.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Controller {
    /// `ReplicaSet`, `StatefulSet`, `Job` and the like.
    pub kind: String,
    /// Its name.
    pub name: String,
}

#[derive(Default)]
struct PodMetadata(Option<Controller>);

impl Shape for PodMetadata {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        fields.ignore_rest();
        let owners: Vec<Owner> = fields.or_default("ownerReferences");
        Self(owners.into_iter().find(|owner| owner.is_controller).map(|owner| owner.controller))
    }
}

#[derive(Default)]
struct Owner {
    controller: Controller,
    is_controller: bool,
}

impl Shape for Owner {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        fields.ignore(&["apiVersion", "blockOwnerDeletion", "uid"]);
        Self {
            controller: Controller { kind: fields.required("kind"), name: fields.required("name") },
            is_controller: fields.or_default("controller"),
        }
    }
}

impl Pod {
    /// The number of the container port with this name and transport.
    pub fn port_named(&self, name: &str, protocol: IpProtocol) -> Option<u16> {
        let named = self.ports.iter().find(|port| port.name == name && port.protocol == protocol);
        named.map(|port| port.number)
    }
}

/// Where a workload with these labels runs, as `region/zone/subzone` from the left as far as it is known.
///
/// Istio's own label wins; `.` stands in it for `/`, which a label cannot hold. Kubernetes gives pods the labels of
/// their node's place.
pub fn locality(labels: &Labels) -> Option<String> {
    let own = ["topology.istio.io/locality", "istio-locality"].into_iter().find_map(|key| labels.get(key));
    if let Some(own) = own.filter(|own| !own.is_empty()) {
        return Some(if own.contains('/') { own.clone() } else { own.replace('.', "/") });
    }
    let parts = ["topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"];
    let known: Vec<_> = parts.into_iter().map_while(|key| labels.get(key).map(String::as_str)).collect();
    (!known.is_empty()).then(|| known.join("/"))
}

impl Meta {
    /// Where a workload with this resource's labels runs, as `region/zone/subzone` from the left as far as it is
    /// known: by `topology.istio.io/locality` or `istio-locality` (with `.` for `/`), else by Kubernetes' own labels.
    pub fn locality(&self) -> Option<String> {
        locality(&self.labels)
    }
}

#[derive(Default)]
struct PodSpec(Pod);

impl Shape for PodSpec {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        fields.ignore_rest();
        let containers: Vec<Container> = fields.unused("containers").unwrap_or_default();
        let init_containers: Vec<Container> = fields.unused("initContainers").unwrap_or_default();
        Self(Pod {
            ips: Vec::new(),
            node: fields.optional("nodeName"),
            service_account: fields.optional("serviceAccountName"),
            is_host_network: fields.or_default("hostNetwork"),
            ports: containers.into_iter().chain(init_containers).flat_map(|container| container.0).collect(),
            controller: None,
        })
    }
}

#[derive(Default)]
struct Container(Vec<ContainerPort>);

impl Shape for Container {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        fields.ignore_rest();
        Self(fields.or_default("ports"))
    }
}

/// A port of a container.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ContainerPort {
    /// Name; empty when it has none.
    pub name: String,
    /// Number (`containerPort`).
    pub number: u16,
    /// Transport.
    pub protocol: IpProtocol,
}

impl Shape for ContainerPort {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        fields.ignore(&["hostIP", "hostPort"]);
        let number: PortNumber = fields.required("containerPort");
        Self {
            name: fields.or_default("name"),
            number: number.get(),
            protocol: fields.or_default("protocol"),
        }
    }
}

#[derive(Default)]
struct PodStatus(Vec<IpAddr>);

impl Shape for PodStatus {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        fields.ignore_rest();
        let first: Option<Address> = fields.optional("podIP");
        let all: Vec<PodIp> = fields.or_default("podIPs");
        let mut ips: Vec<IpAddr> = first
            .into_iter()
            .chain(all.into_iter().map(|ip| ip.0))
            .filter_map(|address| address.ip)
            .collect();
        // `podIP` is the first of `podIPs`, written twice.
        if ips.len() > 1 && ips[1..].contains(&ips[0]) {
            ips.remove(0);
        }
        Self(ips)
    }
}

#[derive(Default)]
struct PodIp(Address);

impl Shape for PodIp {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self(fields.required("ip"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Resource, testing};

    fn text(contents: &str) -> String {
        format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: web-1, labels: {{app: web}}}}\n{contents}\n")
    }

    #[test]
    fn what_callers_need_is_read_and_the_rest_left_alone() {
        let contents = "spec:\n  nodeName: n1\n  serviceAccountName: web\n  restartPolicy: Always\n  volumes: [{name: a}]\n  \
                        containers:\n  - {name: a, image: b, ports: [{name: http, containerPort: 8080}, {containerPort: 53, protocol: UDP}]}\n\
                        status: {phase: Running, podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}], hostIP: 1.1.1.1}";
        let Resource::Pod(pod) = testing::valid(&text(contents)) else { panic!("no Pod") };
        let ips: Vec<_> = pod.spec.ips.iter().map(ToString::to_string).collect();
        assert_eq!(ips, ["10.0.0.1", "fd00::1"]);
        assert_eq!(
            (pod.spec.node.as_deref(), pod.spec.service_account.as_deref()),
            (Some("n1"), Some("web"))
        );
        assert_eq!(pod.spec.port_named("http", IpProtocol::Tcp), Some(8080));
        assert_eq!(pod.spec.port_named("http", IpProtocol::Udp), None);
        assert_eq!(pod.spec.ports.len(), 2);
        assert_eq!(pod.meta.labels["app"], "web");
    }

    #[test]
    fn workloads_are_named_after_what_makes_their_pods() {
        let name = |labels: &str, owners: &str| {
            let text = format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: web-1, labels: {labels}, ownerReferences: {owners}}}\n"
            );
            let Resource::Pod(pod) = testing::valid(&text) else { panic!("no Pod") };
            pod.workload_name().to_owned()
        };
        let owned = |kind: &str, name: &str| {
            format!(
                "[{{kind: Node, name: n, uid: u}}, {{apiVersion: a/v1, kind: {kind}, name: {name}, controller: true}}]"
            )
        };
        assert_eq!(name("{}", "[]"), "web-1");
        assert_eq!(name("{}", "[{kind: Node, name: n1}]"), "web-1");
        assert_eq!(name("{pod-template-hash: 7d4}", &owned("ReplicaSet", "web-7d4")), "web");
        assert_eq!(name("{rollouts-pod-template-hash: 7d4}", &owned("ReplicaSet", "web-7d4")), "web");
        assert_eq!(name("{}", &owned("ReplicaSet", "web-7d4")), "web-7d4");
        assert_eq!(name("{}", &owned("StatefulSet", "db")), "db");
        assert_eq!(name("{}", &owned("Job", "report-29412345")), "report");
        assert_eq!(name("{}", &owned("Job", "report-2026")), "report-2026");
        assert_eq!(name("{deploymentconfig: dc}", &owned("ReplicationController", "dc-1")), "dc");
        let told = "{service.istio.io/workload-name: told}";
        assert_eq!(name(told, &owned("StatefulSet", "db")), "told");
    }

    #[test]
    fn a_pod_may_have_nothing_yet() {
        let Resource::Pod(pod) = testing::valid(&text("spec: {containers: []}")) else { panic!("no Pod") };
        assert_eq!(pod.spec, Pod::default());
    }

    #[test]
    fn bad_addresses_and_ports_are_refused() {
        testing::assert_complaints(
            &[
                ("status: {podIP: 10.0.0.300}", "status.podIP: is no IP address (found `10.0.0.300`"),
                ("status: {podIPs: [{ip: 10.0.0.300}]}", "status.podIPs[0].ip: is no IP address"),
                (
                    "spec: {containers: [{ports: [{containerPort: 0}]}]}",
                    "spec.containers[0].ports[0].containerPort: is out of range",
                ),
                ("spce: {}", "did you mean `spec`?"),
            ],
            text,
        );
    }

    #[test]
    fn localities_come_from_labels() {
        let of = |labels: &[(&str, &str)]| {
            locality(&labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
        };
        let region = ("topology.kubernetes.io/region", "eu");
        let zone = ("topology.kubernetes.io/zone", "eu-a");
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[region, zone]).as_deref(), Some("eu/eu-a"));
        assert_eq!(of(&[region, zone, ("topology.istio.io/subzone", "r1")]).as_deref(), Some("eu/eu-a/r1"));
        assert_eq!(of(&[zone]), None);
        assert_eq!(of(&[region, ("istio-locality", "us.us-b")]).as_deref(), Some("us/us-b"));
    }
}
