//! What happened in one pod while a request passed: which rules counted it, what its agent logged.

use std::io::Write;

use anyhow::Result;
use netns_tests::{AccessLogLine, Agent, Counted, Family, Pod};

use crate::page::Page;

/// The counters of a pod's rules before a request, told step by step after it.
pub(crate) struct Hop<'p> {
    pod: &'p Pod,
    before: Vec<Counted>,
}

/// A stage of a connection's way through a pod, and the rules that act in it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Stage {
    /// The application's connection leaves.
    Outbound,
    /// The agent's own connection leaves the pod.
    Upstream,
    /// The agent's own connection leads to the pod itself.
    OwnPod,
    /// A connection arrives from outside.
    Inbound,
    /// A connection arrives for a port of the agent itself.
    Probe,
    /// The agent connects to its application.
    Application,
}

/// By what a request's access log line is found.
#[derive(Clone, Copy)]
pub(crate) enum Port {
    /// Captured on its way out.
    Outbound,
    /// Captured on its way in.
    Inbound,
    /// Dialled at a gateway, so that there is no original destination to recover.
    Gateway,
}

impl<'p> Hop<'p> {
    /// Reads the counters of a pod that has rules.
    pub(crate) fn begin(pod: &'p Pod) -> Result<Self> {
        Ok(Self { pod, before: pod.counters(Family::V4)? })
    }

    /// Writes which rules of `stage` have counted packets since, or why none has.
    pub(crate) fn tell<W: Write>(&self, page: &mut Page<W>, stage: Stage) -> Result<()> {
        let now = self.pod.counters(Family::V4)?;
        let mut announced = false;
        for (rule, meaning) in stage.rules() {
            let packets =
                |rules: &[Counted]| rules.iter().find(|counted| counted.line == *rule).map(|c| c.packets);
            let (Some(before), Some(after)) = (packets(&self.before), packets(&now)) else { continue };
            if after == before {
                continue;
            }
            if !announced {
                page.step(self.pod.name(), stage.words())?;
                announced = true;
            }
            page.rule(rule, before, after, meaning)?;
        }
        if !announced {
            page.step(
                self.pod.name(),
                "the agent has a connection open already; the kernel's rules meet new ones only",
            )?;
        }
        Ok(())
    }
}

/// Writes what the agent of `pod` decided about the request for `path`, from its access log.
pub(crate) fn tell_decision<W: Write>(
    page: &mut Page<W>,
    pod: &Pod,
    agent: &Agent<'_>,
    (port, path): (Port, &str),
) -> Result<()> {
    let (cluster, words) = match port {
        Port::Outbound => (" outbound|", "the agent takes it on port 15001 and recovers where it was going:"),
        Port::Inbound => (" inbound|", "the agent takes it on port 15006 and recovers where it was going:"),
        Port::Gateway => (" outbound|", "the agent takes it on the port of its Gateway:"),
    };
    let line = AccessLogLine::parse(&agent.access_log_line_with(&[path, cluster])?)?;
    page.step(pod.name(), words)?;
    let destination = if matches!(port, Port::Gateway) { "destination" } else { "original destination" };
    page.fact(destination, &line.downstream_local)?;
    page.fact("route chosen by host", &line.authority)?;
    page.fact("cluster it leads to", &line.cluster)?;
    page.fact("endpoint chosen", &line.upstream_host)
}

impl Stage {
    fn words(self) -> &'static str {
        match self {
            Self::Outbound => "the kernel takes the application's connection:",
            Self::Upstream => "the kernel lets the agent's own connection go:",
            Self::OwnPod => "the agent's own connection leads to its own pod, so the kernel takes it again:",
            Self::Inbound => "the kernel takes the connection that arrives:",
            Self::Probe => "the kernel lets the connection that arrives through:",
            Self::Application => "the agent connects to its application, and the kernel lets it:",
        }
    }

    /// The rules of the stage in the order in which a connection meets them, and what each says.
    fn rules(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Outbound => &[
                ("-A ISTIO_OUTPUT -j ISTIO_REDIRECT", "no exemption applied: this is outbound traffic"),
                (
                    "-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001",
                    "outbound traffic goes to port 15001",
                ),
            ],
            Self::Upstream => &[(
                "-A ISTIO_OUTPUT -m owner --uid-owner 1337 -j RETURN",
                "user 1337 is the agent: capturing it would be a loop",
            )],
            Self::OwnPod => &[
                (
                    "-A ISTIO_OUTPUT ! -d 127.0.0.1/32 -o lo -p tcp -m tcp ! --dport 15008 -m owner --uid-owner 1337 \
                     -j ISTIO_IN_REDIRECT",
                    "the agent calls its own pod: treated as inbound, as if it came from another",
                ),
                TO_15006,
            ],
            Self::Inbound => &[
                (
                    "-A ISTIO_INBOUND -p tcp -m tcp --dport 15021 -j RETURN",
                    "readiness probes are not captured",
                ),
                (
                    "-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT",
                    "no exemption applied: this is inbound traffic",
                ),
                TO_15006,
            ],
            Self::Probe => &[(
                "-A ISTIO_INBOUND -p tcp -m tcp --dport 15021 -j RETURN",
                "readiness is the agent's own port: not captured",
            )],
            Self::Application => &[(
                "-A ISTIO_OUTPUT -s 127.0.0.6/32 -o lo -j RETURN",
                "what comes from 127.0.0.6 has been inspected: to the application",
            )],
        }
    }
}

const TO_15006: (&str, &str) =
    ("-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006", "inbound traffic goes to port 15006");
