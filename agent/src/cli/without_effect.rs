//! Flags that are accepted and do nothing.

use clap::Args;

/// Flags that Istio's injection passes. They are accepted so that a pod's command line needs no change; those given
/// are named in a warning.
#[derive(Args, Debug)]
#[command(rename_all = "camelCase")]
pub(crate) struct WithoutEffect {
    #[arg(long, hide = true)]
    proxy_log_level: Option<String>,
    #[arg(long, hide = true)]
    proxy_component_log_level: Option<String>,
    #[arg(long = "log_output_level", hide = true)]
    log_output_level: Option<String>,
    #[arg(long = "log_as_json", hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    log_as_json: Option<String>,
    #[arg(long, hide = true)]
    sts_port: Option<String>,
    #[arg(long, hide = true)]
    template_file: Option<String>,
    #[arg(long = "trust-domain", hide = true)]
    trust_domain: Option<String>,
    #[arg(long = "service-account", env = "SERVICE_ACCOUNT", hide = true, hide_env = true)]
    service_account: Option<String>,
    #[arg(long, hide = true)]
    service_cluster: Option<String>,
    #[arg(long, hide = true)]
    discovery_address: Option<String>,
    #[arg(long = "meshConfig", hide = true)]
    istio_mesh_config: Option<String>,
    #[arg(long, hide = true)]
    output_certs: Option<String>,
}

impl WithoutEffect {
    /// The flags that were given.
    pub(crate) fn given(&self) -> Vec<&'static str> {
        let flags = [
            ("--proxyLogLevel", self.proxy_log_level.is_some()),
            ("--proxyComponentLogLevel", self.proxy_component_log_level.is_some()),
            ("--log_output_level", self.log_output_level.is_some()),
            ("--log_as_json", self.log_as_json.is_some()),
            ("--stsPort", self.sts_port.is_some()),
            ("--templateFile", self.template_file.is_some()),
            ("--trust-domain", self.trust_domain.is_some()),
            ("--service-account", self.service_account.is_some()),
            ("--serviceCluster", self.service_cluster.is_some()),
            ("--discoveryAddress", self.discovery_address.is_some()),
            ("--meshConfig", self.istio_mesh_config.is_some()),
            ("--outputCerts", self.output_certs.is_some()),
        ];
        flags.into_iter().filter(|(_, given)| *given).map(|(flag, _)| flag).collect()
    }
}
