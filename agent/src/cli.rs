//! Commands and flags, as they are typed. What they come to is decided in `options`.

mod blame;
mod without_effect;

use std::{
    io::{Write, stderr},
    net::IpAddr,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use rules::ports::Port;

pub(crate) use without_effect::WithoutEffect;

use crate::{
    WRONG_USAGE,
    ask::{RequestArgs, WaitArgs},
    config::ConfigArgs,
    explain::ExplainArgs,
    validate::ValidateArgs,
};

/// Sidecar and gateway proxy with Istio's interface.
#[derive(Debug, Parser)]
#[command(name = "postern-agent", version, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) log: LogOptions,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "Examples:
  postern-agent proxy router --config-dir ./config --labels istio=ingressgateway
  postern-agent proxy sidecar --config-dir /etc/postern/config --namespace prod
  postern-agent validate ./config
  kustomize build . | postern-agent validate - -o github --fail-on error
  postern-agent config routes --config-dir ./config
  postern-agent explain request GET http://reviews:9080/v1 -H 'end-user: jason' --config-dir ./config
  postern-agent config listeners -o json --admin 127.0.0.1:15000";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs the proxy until SIGTERM.
    Proxy {
        #[command(subcommand)]
        role: Role,
    },
    /// Checks resources without running anything; exit code 3 when anything is wrong or surprising (`--fail-on`).
    Validate(ValidateArgs),
    /// Shows what is served: listeners, routes, clusters, endpoints, secrets.
    Config(ConfigArgs),
    /// Tells where a request goes, and why it does not go elsewhere.
    Explain(ExplainArgs),
    /// Waits until the proxy is ready, for postStart hooks.
    Wait(WaitArgs),
    /// Calls the admin interface of the agent and prints the answer.
    Request(RequestArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    /// Serves connections that postern-init redirects: outbound on 15001, inbound on 15006.
    Sidecar(Box<ProxyArgs>),
    /// Serves as a gateway: one listener per Gateway server port.
    Router(Box<ProxyArgs>),
}

/// Flags of every command.
#[derive(Args, Debug)]
pub(crate) struct LogOptions {
    /// What to log: error, warn, info, debug, trace, or a list such as `info,dataplane=debug` [env: RUST_LOG]
    #[arg(long, global = true, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
    /// How log lines look.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Args, Debug)]
pub(crate) struct ProxyArgs {
    /// Directory of YAML or JSON files with Istio and Kubernetes resources, watched for changes; may be repeated.
    #[arg(long, value_name = "DIR", env = "POSTERN_CONFIG_DIR", value_delimiter = ':', required = true)]
    pub(crate) config_dir: Vec<PathBuf>,
    /// Namespace of this workload, and of resources that name none.
    #[arg(long, value_name = "NS", env = "POD_NAMESPACE", default_value = "default", value_parser = namespace)]
    pub(crate) namespace: String,
    /// Name of this workload; the host name when absent.
    #[arg(long, env = "POD_NAME")]
    pub(crate) name: Option<String>,
    /// Addresses of this workload; those of the interfaces other than loopback when absent [env: INSTANCE_IPS]
    #[arg(long, value_name = "ADDR", env = "INSTANCE_IP", value_delimiter = ',', value_parser = address)]
    pub(crate) ip: Vec<IpAddr>,
    /// Labels that selectors are matched against: `k=v,k=v` [env: ISTIO_METAJSON_LABELS (JSON)] [file:
    /// /etc/istio/pod/labels]
    #[arg(long, value_name = "K=V", value_delimiter = ',')]
    pub(crate) labels: Vec<String>,
    /// Where this workload runs, `region/zone/subzone` as far as it is known; by default its labels tell, its Pod, or
    /// its Node.
    #[arg(long, value_name = "LOCALITY", env = "ISTIO_META_LOCALITY")]
    pub(crate) locality: Option<String>,
    /// Node that this workload runs on, whose labels tell its locality.
    #[arg(long, value_name = "NODE", env = "ISTIO_META_NODE_NAME")]
    pub(crate) node_name: Option<String>,
    /// Suffix for short host names; `<namespace>.svc.cluster.local` when absent.
    #[arg(long, value_name = "SUFFIX", env = "DOMAIN_SUFFIX")]
    pub(crate) domain: Option<String>,
    /// Worker threads; the number of usable cores when absent or 0.
    #[arg(long, value_name = "N", env = "ISTIO_CPU_LIMIT", value_parser = workers)]
    pub(crate) concurrency: Option<u16>,
    /// How connections are captured. With TPROXY the application sees the client's own address; the proxy then needs
    /// CAP_NET_ADMIN. With NONE they are not: only the listeners of a Sidecar resource are served.
    #[arg(
        long,
        value_enum,
        ignore_case = true,
        env = "ISTIO_META_INTERCEPTION_MODE",
        default_value = "REDIRECT"
    )]
    pub(crate) interception_mode: InterceptionMode,
    /// Port that outbound connections are redirected to.
    #[arg(long, value_name = "PORT", default_value_t = Port::OUTBOUND)]
    pub(crate) outbound_port: Port,
    /// Port that inbound connections are redirected to.
    #[arg(long, value_name = "PORT", default_value_t = Port::INBOUND)]
    pub(crate) inbound_port: Port,
    /// Port on loopback that the workload's questions about names are redirected to, where `ISTIO_META_DNS_CAPTURE` is on.
    #[arg(long, value_name = "PORT", default_value_t = Port::DNS)]
    pub(crate) dns_port: Port,
    /// Port of the admin interface.
    #[arg(long, value_name = "PORT", default_value = "15000")]
    pub(crate) admin_port: Port,
    /// Address of the admin interface. It is not protected: keep it on loopback.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1")]
    pub(crate) admin_address: IpAddr,
    /// Port that answers `/healthz/ready`.
    #[arg(long, value_name = "PORT", default_value_t = Port::STATUS)]
    pub(crate) status_port: Port,
    /// Port of the proxy's metrics, `/stats/prometheus`.
    #[arg(long, value_name = "PORT", default_value = "15090")]
    pub(crate) stats_port: Port,
    /// Port of the metrics of proxy and application together, `/stats/prometheus`.
    #[arg(long, value_name = "PORT", default_value = "15020")]
    pub(crate) agent_port: Port,
    /// File with mesh-wide settings: Istio's MeshConfig, or the ConfigMap that holds it.
    #[arg(long, value_name = "FILE")]
    pub(crate) mesh_config: Option<PathBuf>,
    /// Directory with the workload's own certificate: `cert-chain.pem`, `key.pem` and `root-cert.pem`. By default those
    /// that Istio and SPIRE mount are looked for.
    #[arg(long, value_name = "DIR")]
    pub(crate) identity_dir: Option<PathBuf>,
    /// How long connections may take to end after SIGTERM; ends early with the last one, after the minimum.
    #[arg(long, value_name = "DURATION", env = "TERMINATION_DRAIN_DURATION_SECONDS", value_parser = duration,
          default_value = "45s")]
    pub(crate) drain_duration: Duration,
    /// How long new connections are served after SIGTERM even while none is open, but no longer than
    /// `--drain-duration`; 0 ends with the last connection.
    #[arg(long, value_name = "DURATION", env = "MINIMUM_DRAIN_DURATION", value_parser = duration,
          default_value = "5s")]
    pub(crate) minimum_drain_duration: Duration,
    #[command(flatten)]
    pub(crate) without_effect: WithoutEffect,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum InterceptionMode {
    #[value(name = "REDIRECT")]
    Redirect,
    #[value(name = "TPROXY")]
    Tproxy,
    #[value(name = "NONE")]
    None,
}

impl Cli {
    /// Reads the command line. What is wrong with it is said in one line on stderr, with exit code 2.
    pub(crate) fn read() -> Result<Self, ExitCode> {
        Self::try_parse().map_err(|error| {
            if !error.use_stderr() {
                // Help and version are results.
                _ = error.print();
                return ExitCode::SUCCESS;
            }
            _ = writeln!(stderr(), "{}", one_line(&blame::to_its_place(&error)));
            ExitCode::from(WRONG_USAGE)
        })
    }
}

/// Folds clap's explanation into one line and leaves out the usage, which `--help` prints better.
fn one_line(explanation: &str) -> String {
    let said = explanation.split("\nUsage:").next().unwrap_or_default();
    let said = said.split("\nFor more information").next().unwrap_or_default();
    let parts: Vec<_> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    format!("{}; `--help` tells more", parts.join(" "))
}

/// Reads the name of a namespace.
pub(crate) fn namespace(text: &str) -> Result<String, String> {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_good = (1..=63).contains(&text.len())
        && text.chars().all(|c| is_word(c) || c == '-')
        && text.starts_with(is_word)
        && text.ends_with(is_word);
    is_good.then(|| text.to_owned()).ok_or_else(|| {
        "expected the name of a Kubernetes namespace: `a`–`z`, digits and `-` between them, 63 at most; unset it for \
         `default`"
            .to_owned()
    })
}

/// Reads an IP address.
pub(crate) fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| "expected an IP address such as `10.0.0.1` or `fd00::1`".to_owned())
}

/// Reads a number of worker threads.
fn workers(text: &str) -> Result<u16, String> {
    let number = text.parse().ok().filter(|number| *number <= 1024);
    number
        .ok_or_else(|| "expected a number of worker threads, 0 to 1024; 0 for one per usable core".to_owned())
}

/// Reads `45s`, `1m30s`, `500ms`, or a number of seconds as `TERMINATION_DRAIN_DURATION_SECONDS` holds it.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let parsed = match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => humantime::parse_duration(text).ok(),
    };
    let expected =
        || "expected a duration such as `45s` or `1m30s`, or a number of seconds; 24h at most".to_owned();
    parsed.filter(|duration| *duration <= Duration::from_secs(24 * 3600)).ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(args: &[&str]) -> Result<Box<ProxyArgs>, clap::Error> {
        let fixed = ["postern-agent", "proxy", "sidecar", "--config-dir", "/tmp"];
        match Cli::try_parse_from(fixed.iter().chain(args))?.command {
            Command::Proxy { role: Role::Sidecar(args) | Role::Router(args) } => Ok(args),
            _ => panic!("not a proxy"),
        }
    }

    #[test]
    fn definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_istio_injects_is_accepted_and_named() {
        let args = [
            "--domain",
            "prod.svc.cluster.local",
            "--proxyLogLevel=warning",
            "--proxyComponentLogLevel=misc:error",
            "--log_output_level=default:info",
            "--log_as_json",
        ];
        let args = parse(&args).unwrap();
        assert_eq!(args.domain.as_deref(), Some("prod.svc.cluster.local"));
        assert_eq!(
            args.without_effect.given(),
            ["--proxyLogLevel", "--proxyComponentLogLevel", "--log_output_level", "--log_as_json"]
        );
    }

    #[test]
    fn bad_values_name_the_flag_and_what_is_expected() {
        let cases: [(&[&str], &str); 7] = [
            (&["--outbound-port", "70000"], "--outbound-port"),
            (&["--ip", "10.0.0"], "expected an IP address"),
            (&["--concurrency", "two"], "expected a number of worker threads"),
            (&["--concurrency", "1025"], "expected a number of worker threads"),
            (&["--drain-duration", "soon"], "expected a duration such as `45s`"),
            (&["--minimum-drain-duration", "25h"], "--minimum-drain-duration"),
            (&["--interception-mode", "BOTH"], "possible values: REDIRECT, TPROXY"),
        ];
        for (args, expected) in cases {
            let error = parse(args).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn namespaces_are_names_of_kubernetes() {
        for good in ["a", "0", "shop-1", &"a".repeat(63)] {
            assert_eq!(namespace(good).as_deref(), Ok(good));
        }
        for bad in ["", "Shop", "a_b", "-a", "a-", "a.b", " a", "ä", &"a".repeat(64)] {
            assert!(namespace(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn wrong_usage_is_one_line_with_the_tip() {
        let error = parse(&["--outbond-port", "1"]).unwrap_err();
        assert_eq!(
            one_line(&error.to_string()),
            "error: unexpected argument '--outbond-port' found tip: a similar argument exists: '--outbound-port'; \
             `--help` tells more"
        );
    }

    #[test]
    fn durations_are_go_like_or_seconds() {
        assert_eq!(duration("5"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert!(duration("18446744073709551615s").is_err());
    }
}
