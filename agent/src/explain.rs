//! `postern-agent explain request`: which listener, filter chain, virtual host, route, cluster and endpoint a request
//! meets, and why the others are not taken.
//!
//! From directories the question is answered here; a running agent is sent the question and answers from the snapshot
//! in force.

mod address;

use std::{
    io::{Write, stdout},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU16,
};

use anyhow::{Context, anyhow, bail};
use clap::{Args, Subcommand, ValueEnum};
use dataplane::Upgrades;
use http::{Method, StatusCode, Uri};
use serde::{Deserialize, Serialize};
use snapshot::{
    Binding, Direction, Entry, Explanation, LiveClusters, Question, RequestHead, Snapshot, Spoken, Step,
};

use crate::{
    admin_client::{self, Interface},
    offline::Target,
    options,
    status::RefusedListener,
};
use address::{real_port, service_address};

#[derive(Args, Debug)]
pub(crate) struct ExplainArgs {
    #[command(subcommand)]
    pub(crate) subject: Subject,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Subject {
    /// Walks a request through listeners, filter chains, routes and clusters.
    Request(RequestArgs),
}

#[derive(Args, Debug)]
pub(crate) struct RequestArgs {
    /// Method of the request.
    method: String,
    /// Whole URL: `http://reviews:9080/v1`. With https the host is the server name of the client hello.
    #[arg(value_parser = url)]
    url: Uri,
    /// Header of the request; may be repeated. `Host` replaces the URL's host as far as routing is concerned. What the
    /// proxy itself says of clients, such as `x-forwarded-client-cert`, is to be given as the proxy says it.
    #[arg(short = 'H', long = "header", value_name = "K: V", value_parser = header)]
    headers: Vec<(String, String)>,
    /// Port of the proxy that the client connects to, when it is not the URL's.
    #[arg(long, value_name = "PORT")]
    listener: Option<u16>,
    /// Address that the captured connection was going to; found out from the URL's host when absent.
    #[arg(long, value_name = "ADDR:PORT")]
    dst: Option<SocketAddr>,
    /// Explains what a sidecar does with the request when it comes in, instead of going out.
    #[arg(long)]
    inbound: bool,
    /// With --inbound: the client is a proxy of the mesh, which speaks mutual TLS whatever the URL's scheme.
    #[arg(long, requires = "inbound")]
    mtls: bool,
    /// How the answer is printed.
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Text)]
    output: OutputFormat,
    #[command(flatten)]
    target: Target,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum OutputFormat {
    Text,
    Json,
}

/// A question as it travels to a running agent.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Asked {
    method: String,
    tls: bool,
    host: String,
    port: u16,
    path_and_query: String,
    headers: Vec<(String, String)>,
    listener: Option<u16>,
    dst: Option<SocketAddr>,
    inbound: bool,
    #[serde(default)]
    mtls: bool,
}

/// Prints the walk.
///
/// # Errors
/// The URL is not whole, the agent does not answer, or a directory cannot be read.
pub(crate) fn run(args: &ExplainArgs) -> anyhow::Result<()> {
    let Subject::Request(args) = &args.subject;
    let asked = Asked::new(args)?;
    let text = if args.target.config_dir.is_empty() {
        ask(&args.target.admin, &asked, args.output)?
    } else {
        let upgrades = options::upgrades().map_err(|wrong| anyhow!("{wrong}"))?;
        print(
            &asked.answer(&args.target.snapshot()?, &LiveClusters::default(), &upgrades),
            args.output == OutputFormat::Json,
        )
    };
    stdout().lock().write_all(text.as_bytes()).context("cannot write to stdout")
}

fn ask(admin: &str, asked: &Asked, output: OutputFormat) -> anyhow::Result<String> {
    let path = if output == OutputFormat::Json { "/explain?format=json" } else { "/explain" };
    let body = serde_json::to_string(asked).context("cannot be written as JSON")?;
    let (status, answer) = admin_client::call(Interface::admin(admin), Method::POST, path, body)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    if status != StatusCode::OK {
        bail!("{admin} answered {path} with {status}: {}", answer.trim_end());
    }
    Ok(answer)
}

/// The walk, which ends at a listener that could not be opened: whoever has its address gets the connection.
pub(crate) fn as_far_as_open(explanation: Explanation, refused: &[RefusedListener]) -> Explanation {
    let of = |step: &Step| {
        let chosen = step.chosen.as_ref().filter(|_| step.stage == "listener")?;
        refused.iter().find(|refused| refused.name == *chosen)
    };
    let closed = explanation.steps.iter().enumerate().find_map(|(at, step)| Some((at, of(step)?)));
    let Some((at, closed)) = closed else { return explanation };
    let mut steps = explanation.steps;
    steps.truncate(at + 1);
    steps[at].because.push(format!("it is not open: {}", closed.reason));
    let verdict = format!(
        "not received: listener {} is not open, and whoever has its address is connected to",
        closed.name
    );
    Explanation { steps, verdict }
}

/// The walk as it is printed.
pub(crate) fn print(explanation: &Explanation, json: bool) -> String {
    match serde_json::to_string_pretty(explanation) {
        Ok(text) if json => text + "\n",
        _ => explanation.to_string(),
    }
}

/// Reads a URL.
fn url(text: &str) -> Result<Uri, &'static str> {
    text.parse().map_err(|_| "no whole URL; expected something like `http://reviews:9080/v1`")
}

/// Reads `name: value`.
fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("expected `name: value`")?;
    if name.trim().is_empty() {
        return Err("expected a name before `:`".to_owned());
    }
    Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
}

/// The port that a URL names.
fn port(url: &Uri) -> anyhow::Result<Option<u16>> {
    let behind_host = url.authority().and_then(|authority| authority.as_str().rsplit_once(authority.host()));
    match behind_host.and_then(|(_, behind)| behind.strip_prefix(':')) {
        None | Some("") => Ok(None),
        Some(written) => match written.parse::<NonZeroU16>() {
            Ok(port) => Ok(Some(port.get())),
            Err(_) => bail!("`{written}` in `{url}` is no port; expected 1–65535"),
        },
    }
}

impl Asked {
    fn new(args: &RequestArgs) -> anyhow::Result<Self> {
        let url = &args.url;
        let whole = || format!("`{url}` is no whole URL; expected something like `http://reviews:9080/v1`");
        let host = url.host().with_context(whole)?.trim_matches(['[', ']']).to_owned();
        let tls = match url.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => bail!("{}", whole()),
        };
        if Method::from_bytes(args.method.as_bytes()).is_err() {
            bail!("`{}` is no method; expected a word such as `GET`", args.method);
        }
        Ok(Self {
            method: args.method.clone(),
            tls,
            host,
            port: port(url)?.unwrap_or(if tls { 443 } else { 80 }),
            path_and_query: url.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            headers: args.headers.clone(),
            listener: args.listener,
            dst: args.dst,
            inbound: args.inbound,
            mtls: args.mtls,
        })
    }

    /// Walks the request through a snapshot, to endpoints as `live` knows them.
    pub(crate) fn answer(
        &self,
        snapshot: &Snapshot,
        live: &LiveClusters,
        upgrades: &Upgrades,
    ) -> Explanation {
        let headers = dataplane::shown_to_routes(&self.headers, upgrades);
        let request = Request { asked: self, authority: self.authority(), headers };
        let dialled = self.host.parse::<IpAddr>().ok();
        let (entry, destination) = self.entry(snapshot);
        let question = Question {
            entry,
            dialled,
            server_name: Some(self.host.as_str()).filter(|_| self.tls && dialled.is_none()),
            spoken: match (self.mtls, self.tls) {
                (true, _) => Spoken::MeshTls,
                (false, true) => Spoken::Tls,
                (false, false) => Spoken::ClearText,
            },
            request: &request,
        };
        let mut explanation = snapshot::explain(&question, snapshot, live);
        explanation.steps.splice(0..0, destination);
        explanation
    }

    fn authority(&self) -> String {
        let host = self.headers.iter().find(|(name, _)| name == "host").map(|(_, value)| value.clone());
        let default_port = if self.tls { 443 } else { 80 };
        host.unwrap_or_else(|| {
            let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
            if self.port == default_port { host } else { format!("{host}:{}", self.port) }
        })
    }

    /// How the connection reaches the proxy, and where the address of it comes from when it is not given.
    fn entry(&self, snapshot: &Snapshot) -> (Entry, Option<Step>) {
        let any = |wanted: &dyn Fn(&snapshot::Listener) -> bool| snapshot.listeners().iter().any(wanted);
        let is_gateway = any(&|listener| listener.direction == Direction::Gateway);
        let captures = any(&|listener| {
            listener.direction == Direction::Outbound && matches!(listener.binding, Binding::Socket(_))
        });
        let is_dialled =
            |port| any(&|listener| matches!(listener.binding, Binding::Dialled(at) if at.port() == port));
        let port = self.listener.unwrap_or(self.port);
        if is_gateway || !captures || self.listener.is_some_and(is_dialled) {
            return (Entry::Port(self.listener.unwrap_or_else(|| real_port(snapshot, port))), None);
        }
        let host: Option<IpAddr> = self.host.parse().ok();
        let elsewhere = SocketAddr::from((host.unwrap_or(NOWHERE), port));
        let known = || host.is_none().then(|| service_address(snapshot, &self.host, port)).flatten();
        let named = |to: SocketAddr, because: String| {
            let because = vec![because];
            Some(Step { stage: "destination", chosen: Some(to.to_string()), because, rejected: Vec::new() })
        };
        match (self.dst, self.inbound) {
            (Some(to), true) => (Entry::Inbound(to), None),
            (Some(to), false) => (Entry::Outbound(to), None),
            (None, true) if host.is_some() => (Entry::Inbound(elsewhere), None),
            (None, true) => {
                let because = "stands for the workload's own address; --dst gives another".to_owned();
                (Entry::Inbound(elsewhere), named(elsewhere, because))
            }
            (None, false) if host.is_some() => (Entry::Outbound(elsewhere), None),
            (None, false) => match known() {
                Some(to) => {
                    (Entry::Outbound(to), named(to, format!("the address of service `{}`", self.host)))
                }
                None => {
                    let because = format!(
                        "no service here has the name `{}` and an address at port {port}: this one stands for what DNS \
                         would say; --dst gives it",
                        self.host
                    );
                    let hidden = snapshot.hidden_services().and_then(|hidden| hidden.called(&self.host));
                    let rejected = hidden.into_iter().collect();
                    (
                        Entry::Outbound(elsewhere),
                        named(elsewhere, because).map(|step| Step { rejected, ..step }),
                    )
                }
            },
        }
    }
}

/// Stands for an address that no service has (TEST-NET-1).
const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

struct Request<'a> {
    asked: &'a Asked,
    authority: String,
    /// As routes see them.
    headers: Vec<(String, String)>,
}

impl RequestHead for Request<'_> {
    fn method(&self) -> &str {
        &self.asked.method
    }

    fn authority(&self) -> &str {
        &self.authority
    }

    fn path_and_query(&self) -> &str {
        &self.asked.path_and_query
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        let mut headers = self.headers.iter();
        headers.find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_bytes())
    }

    fn visit_headers(&self, visit: &mut dyn FnMut(&str, &[u8])) {
        for (name, value) in &self.headers {
            visit(name, value.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_url_is_told_what_one_looks_like() {
        assert_eq!(url("http://a:80/b").map(|url| url.to_string()), Ok("http://a:80/b".to_owned()));
        assert!(url("localhost:8080/").is_err_and(|wrong| wrong.contains("`http://reviews:9080/v1`")));
    }

    #[test]
    fn the_walk_ends_at_a_listener_that_is_not_open() {
        let step = |stage, name: &str| Step {
            stage,
            chosen: Some(name.to_owned()),
            because: Vec::new(),
            rejected: Vec::new(),
        };
        let steps = vec![step("listener", "0.0.0.0_80"), step("route", "#1")];
        let whole = Explanation { steps, verdict: "forwarded".to_owned() };
        let refused = |name: &str| RefusedListener { name: name.to_owned(), reason: "taken".to_owned() };
        assert_eq!(as_far_as_open(whole.clone(), &[refused("0.0.0.0_81")]), whole);
        let closed = as_far_as_open(whole, &[refused("0.0.0.0_81"), refused("0.0.0.0_80")]);
        assert_eq!(closed.steps.len(), 1);
        assert_eq!(closed.steps[0].because, ["it is not open: taken"]);
        assert!(
            closed.verdict.starts_with("not received: listener 0.0.0.0_80 is not open"),
            "{}",
            closed.verdict
        );
    }

    #[test]
    fn headers_are_a_name_and_a_value() {
        assert_eq!(header("X-A: b:c"), Ok(("x-a".to_owned(), "b:c".to_owned())));
        assert!(header("nothing").is_err());
        assert!(header(": x").is_err());
    }
}
