//! What a proxy would serve, worked out from a directory without running one.

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, ValueEnum};
use resources::{Files, Finding, Labels, MeshConfig, ReadDefaults, ResourceSet, Severity};
use snapshot::Snapshot;
use translate::{Proxy, ProxyKind, WorkloadIdentity, translate};

use crate::{bootstrap, cli, mesh, options, validate};

/// Where configuration is looked at: a running agent, or a directory together with who would be served from it.
#[derive(Args, Debug)]
pub(crate) struct Target {
    /// Admin interface of a running agent.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:15000", conflicts_with = "config_dir")]
    pub(crate) admin: String,
    /// Directory of resources to look at instead of a running agent; may be repeated.
    #[arg(long, value_name = "DIR", value_delimiter = ':')]
    pub(crate) config_dir: Vec<PathBuf>,
    #[command(flatten)]
    workload: Workload,
}

/// For whom a directory is translated.
#[derive(Args, Debug)]
#[command(next_help_heading = "For whom a directory is read")]
struct Workload {
    /// Which proxy: a router when there are Gateways, else a sidecar, when absent.
    #[arg(long, value_enum, requires = "config_dir")]
    role: Option<RoleName>,
    /// Namespace of the workload, and of resources that name none.
    #[arg(long, value_name = "NS", env = "POD_NAMESPACE", default_value = "default", value_parser = cli::namespace)]
    namespace: String,
    /// Labels of the workload: `k=v,k=v`. When absent a router is taken to be the one that all Gateways select.
    #[arg(long, value_name = "K=V", value_delimiter = ',')]
    labels: Vec<String>,
    /// Addresses of the workload.
    #[arg(long, value_name = "ADDR", env = "INSTANCE_IP", value_delimiter = ',', value_parser = cli::address)]
    ip: Vec<IpAddr>,
    /// Suffix for short host names; `<namespace>.svc.cluster.local` when absent.
    #[arg(long, value_name = "SUFFIX", env = "DOMAIN_SUFFIX")]
    domain: Option<String>,
    /// Directory with the workload's own certificate, as `proxy` is told it: without one there is no mutual TLS of the
    /// mesh. Nothing is read there.
    #[arg(long, value_name = "DIR")]
    identity_dir: Option<PathBuf>,
    /// File with mesh-wide settings: Istio's MeshConfig, or the ConfigMap that holds it.
    #[arg(long, value_name = "FILE")]
    mesh_config: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum RoleName {
    Sidecar,
    Router,
}

impl Target {
    /// Translates the directories. Errors among the resources are logged; the rest is served, as by a proxy.
    ///
    /// # Errors
    /// A directory or the mesh configuration cannot be read, or a label is malformed.
    pub(crate) fn snapshot(&self) -> anyhow::Result<Snapshot> {
        let workload = &self.workload;
        let mut files = Files::new(ReadDefaults { namespace: workload.namespace.as_str().into() });
        for directory in &self.config_dir {
            validate::read(&directory.display().to_string(), &mut files)?;
        }
        let (set, findings) = files.resources();
        let of_mesh =
            if workload.mesh_config.is_none() { mesh::among(&set) } else { None }.unwrap_or_default();
        let proxy = workload.proxy(&set, of_mesh.config)?;
        let translation = translate(&set, &bootstrap::resources_alone(), &proxy);
        report_errors(findings.iter().chain(&of_mesh.findings).chain(&translation.findings));
        Ok(translation.snapshot)
    }
}

impl Workload {
    /// `of_mesh` is what the resources say of the mesh.
    fn proxy(&self, set: &ResourceSet, of_mesh: MeshConfig) -> anyhow::Result<Proxy> {
        let kind = match self.role {
            Some(RoleName::Router) => ProxyKind::Router,
            Some(RoleName::Sidecar) => ProxyKind::Sidecar,
            None if set.gateways().is_empty() => ProxyKind::Sidecar,
            None => ProxyKind::Router,
        };
        let labels = match (self.labels.as_slice(), kind) {
            ([], ProxyKind::Router) => selected_by_all(set),
            (labels, _) => labels
                .iter()
                .map(|label| options::flag_label(label))
                .collect::<Result<_, _>>()
                .map_err(|wrong| anyhow::anyhow!("{wrong}"))?,
        };
        let mesh = match &self.mesh_config {
            Some(file) => mesh::of_file(file)?,
            None => of_mesh,
        };
        Ok(Proxy {
            ips: self.ip.clone(),
            labels,
            cluster_domain: Proxy::cluster_domain_of(self.domain.as_deref().unwrap_or("cluster.local"))
                .to_owned(),
            identity: self
                .identity_dir
                .as_ref()
                .map(|directory| WorkloadIdentity::in_directory(&directory.display().to_string())),
            mesh: mesh::options(&mesh),
            ..Proxy::new(kind, self.namespace.as_str())
        })
    }
}

/// The labels of a gateway that every Gateway selects.
fn selected_by_all(set: &ResourceSet) -> Labels {
    set.gateways().iter().flat_map(|gateway| gateway.spec.selector.clone()).collect()
}

fn report_errors<'f>(findings: impl Iterator<Item = &'f Finding>) {
    let errors = findings.filter(|finding| finding.severity == Severity::Error);
    errors.for_each(|error| tracing::error!("{error}"));
}
