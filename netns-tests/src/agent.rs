//! `postern-agent` as a process in a pod: started as the proxy's user with a configuration directory.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::name_server::NameServer;
use crate::pod::Pod;
use crate::process::{PROXY_ID, Process, eventually};
use crate::program::program;

/// How an agent is to be started; see [`AgentSetup::start`].
#[derive(Clone, Debug)]
pub struct AgentSetup {
    kind: &'static str,
    labels: String,
    mesh: String,
    files: Vec<(String, String)>,
    identity: Option<[(&'static str, String); 3]>,
    tproxy: bool,
    uid: u32,
    variables: Vec<(&'static str, String)>,
    name_server: Option<IpAddr>,
}

/// A running agent; killed on drop.
#[derive(Debug)]
pub struct Agent<'p> {
    process: Process,
    pod: &'p Pod,
    config: PathBuf,
}

impl AgentSetup {
    /// `postern-agent proxy sidecar`.
    pub fn sidecar() -> Self {
        Self::new("sidecar", "app=server")
    }

    /// `postern-agent proxy router` with the labels of Istio's ingress gateway.
    pub fn router() -> Self {
        Self::new("router", "istio=ingressgateway")
    }

    /// Labels of the pod, `key=value,key=value`.
    pub fn labels(mut self, labels: &str) -> Self {
        self.labels = labels.into();
        self
    }

    /// A file of the configuration directory.
    pub fn file(mut self, name: &str, text: impl Into<String>) -> Self {
        self.files.push((name.into(), text.into()));
        self
    }

    /// The mesh configuration file; by default it switches the access log to stdout.
    pub fn mesh(mut self, text: &str) -> Self {
        self.mesh = text.into();
        self
    }

    /// With a certificate by which the workload is known in the mesh: chain, key and the mesh's authority, PEM.
    pub fn identity(mut self, [chain, key, roots]: [String; 3]) -> Self {
        self.identity = Some([("cert-chain.pem", chain), ("key.pem", key), ("root-cert.pem", roots)]);
        self
    }

    /// With `--interception-mode TPROXY`, as root in the proxy's group: what Istio's injector asks for then.
    pub fn tproxy(mut self) -> Self {
        (self.tproxy, self.uid) = (true, 0);
        self
    }

    /// With a variable of the environment.
    pub fn variable(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    /// With this name server in its `/etc/resolv.conf`.
    pub fn name_server(mut self, address: IpAddr) -> Self {
        self.name_server = Some(address);
        self
    }

    /// As another user.
    pub fn uid(mut self, uid: u32) -> Self {
        self.uid = uid;
        self
    }

    /// Starts the agent in `pod` and waits until `/healthz/ready` on port 15021 says 200, at most 10 s.
    ///
    /// # Errors
    /// When it ends early or does not get ready; the message has its log.
    pub fn start<'p>(&self, pod: &'p Pod) -> Result<Agent<'p>> {
        let mut agent = self.launch(pod)?;
        let ready = eventually(READY_LIMIT, || {
            if let Some(status) = agent.process.ended() {
                return Ok(Err(status));
            }
            agent.ready().map(Ok)
        });
        match ready {
            Ok(Ok(())) => Ok(agent),
            Ok(Err(status)) => {
                bail!("postern-agent ended with {status} before it was ready:\n{}", agent.log())
            }
            Err(e) => Err(e.context(format!("postern-agent is not ready:\n{}", agent.log()))),
        }
    }

    /// Starts the agent without waiting for anything.
    ///
    /// # Errors
    /// When the configuration cannot be written or the process cannot be started.
    pub fn launch<'p>(&self, pod: &'p Pod) -> Result<Agent<'p>> {
        let config = pod.dir().join("config");
        let _ = fs::remove_dir_all(&config);
        fs::create_dir(&config).with_context(|| format!("configuration directory {}", config.display()))?;
        for (name, text) in &self.files {
            fs::write(config.join(name), text)?;
        }
        let mesh = pod.dir().join("mesh.yaml");
        fs::write(&mesh, &self.mesh)?;
        let mut command = Command::new(program("postern-agent")?);
        command.uid(self.uid).gid(PROXY_ID).arg0("postern-agent");
        command.args(["proxy", self.kind, "--namespace", "default", "--name", pod.name()]);
        command.args(["--ip", &addresses(pod), "--labels", &self.labels]);
        // Nobody's new connections are waited for at the end.
        command.args(["--minimum-drain-duration", "0"]);
        command.arg("--config-dir").arg(&config).arg("--mesh-config").arg(&mesh);
        if let Some(identity) = &self.identity {
            let directory = pod.dir().join("identity");
            fs::create_dir_all(&directory)?;
            for (name, pem) in identity {
                fs::write(directory.join(name), pem)?;
            }
            command.arg("--identity-dir").arg(&directory);
        }
        if self.tproxy {
            command.args(["--interception-mode", "TPROXY"]);
        }
        command.env_remove("RUST_LOG").envs(self.variables.iter().map(|(name, value)| (name, value)));
        let resolv_conf = pod.dir().join("agent.resolv.conf");
        let prepare = || match self.name_server {
            Some(server) => NameServer::be_asked_at(server, &resolv_conf),
            None => Ok(()),
        };
        let process = Process::spawn_after(prepare, pod.namespace(), "agent", pod.dir(), command)?;
        Ok(Agent { process, pod, config })
    }

    fn new(kind: &'static str, labels: &str) -> Self {
        let mesh = "accessLogFile: /dev/stdout\n".into();
        let (labels, files, variables) = (labels.into(), Vec::new(), Vec::new());
        let (identity, name_server) = (None, None);
        Self { kind, labels, mesh, files, identity, tproxy: false, uid: PROXY_ID, variables, name_server }
    }
}

impl Agent<'_> {
    /// Writes a file of the configuration directory the way careful tools do: beside it, then renamed over it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        let draft = self.config.join(format!(".{name}.new"));
        fs::write(&draft, text)?;
        fs::rename(draft, self.config.join(name))?;
        Ok(())
    }

    /// Succeeds when the readiness probe says 200.
    ///
    /// # Errors
    /// What it says instead.
    pub fn ready(&self) -> Result<()> {
        let probe: SocketAddr = ([127, 0, 0, 1], READY_PORT).into();
        let reply = self.pod.get(probe, "localhost", "/healthz/ready")?;
        ensure!(reply.status == 200, "readiness answers {} {:?}", reply.status, reply.body());
        Ok(())
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.process.stderr()
    }

    /// The access log so far.
    pub fn access_log(&self) -> String {
        self.process.stdout()
    }

    /// Waits for an access log line that contains `text`, at most 5 s: lines may be written late and in batches.
    ///
    /// # Errors
    /// The log as it is, when no such line comes.
    pub fn access_log_line(&self, text: &str) -> Result<String> {
        self.access_log_line_with(&[text])
    }

    /// As [`Agent::access_log_line`], for a line that contains all of `texts`.
    ///
    /// # Errors
    /// The log as it is, when no such line comes.
    pub fn access_log_line_with(&self, texts: &[&str]) -> Result<String> {
        line_with(texts, || self.access_log())
    }

    /// Waits for a log line that contains `text`, at most 5 s.
    ///
    /// # Errors
    /// The log as it is, when no such line comes.
    pub fn log_line(&self, text: &str) -> Result<String> {
        line_with(&[text], || self.log())
    }

    /// How many descriptors it holds: connections that feed each other show here.
    ///
    /// # Errors
    /// When it has ended.
    pub fn descriptors(&self) -> Result<usize> {
        let dir = format!("/proc/{}/fd", self.process.id());
        Ok(fs::read_dir(&dir).with_context(|| format!("the agent's descriptors in {dir}"))?.count())
    }

    /// Sends SIGTERM and returns at once.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn terminate(&self) -> Result<()> {
        self.process.terminate()
    }

    /// Waits for its end, at most `limit`.
    ///
    /// # Errors
    /// When it still runs.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.process.wait(limit)
    }
}

/// The last line of `log` that contains all of `texts`, as soon as there is one.
fn line_with(texts: &[&str], log: impl Fn() -> String) -> Result<String> {
    eventually(LOG_LIMIT, || {
        let log = log();
        let line = log.lines().rfind(|line| texts.iter().all(|text| line.contains(text)));
        line.map(str::to_string).with_context(|| format!("no line with {texts:?} in\n{log}"))
    })
}

fn addresses(pod: &Pod) -> String {
    match crate::network::has_ipv6() {
        true => format!("{},{}", pod.ip(), pod.ip6()),
        false => pod.ip().to_string(),
    }
}

const READY_PORT: u16 = 15021;
const READY_LIMIT: Duration = Duration::from_secs(10);
const LOG_LIMIT: Duration = Duration::from_secs(5);
