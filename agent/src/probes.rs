//! Probes of the application that the kubelet sends here instead (`/app-health/…`, `/app-lifecycle/…` on 15020): the
//! kubelet has no certificate of the mesh, and its connections to the pod would be captured.

mod grpc;
mod http_get;
mod read;

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use http::{Request, StatusCode};
use hyper::body::Bytes;
use snapshot::SourceAddresses;
use tokio::net::{TcpSocket, TcpStream};

pub(crate) use self::read::APP_PROBERS;
use crate::interface::{Answer, text};

/// The application's probes by the paths that the kubelet asks for, as Istio's injector writes them down.
#[derive(Clone, Debug)]
pub(crate) struct Probes {
    by_path: BTreeMap<String, Probe>,
    /// Where the application is.
    application: IpAddr,
    /// Our port, which the kubelet names in `host` where it would have named the application's.
    agent_port: u16,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Probe {
    check: Check,
    /// How long it may take.
    timeout: Duration,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Check {
    HttpGet(http_get::HttpGet),
    /// The port takes connections.
    TcpSocket(u16),
    Grpc(grpc::Grpc),
}

impl Probes {
    /// Reads the variable's JSON; `own` are the pod's addresses.
    ///
    /// # Errors
    /// It is not what the injector writes: a whole sentence for the user.
    pub(crate) fn read(json: &str, own: &[IpAddr], agent_port: u16) -> Result<Self, String> {
        let application = own.first().copied().unwrap_or(Ipv4Addr::LOCALHOST.into());
        let by_path = if json.is_empty() { BTreeMap::new() } else { read::probes(json)? };
        Ok(Self { by_path, application, agent_port })
    }

    /// Whether paths like this one are for the application.
    pub(crate) fn serve(path: &str) -> bool {
        path.starts_with("/app-health/") || path.starts_with("/app-lifecycle/")
    }

    /// Asks the application.
    pub(crate) async fn answer(&self, request: &Request<Bytes>) -> Answer {
        let path = request.uri().path();
        let Some(probe) = self.by_path.get(path) else {
            let problem = format!("{APP_PROBERS} has no probe for {path}\n");
            return text(StatusCode::BAD_REQUEST, problem);
        };
        let asked = tokio::time::timeout(probe.timeout, self.ask(&probe.check, request)).await;
        asked.unwrap_or_else(|_| Err(format!("no answer within {:?}", probe.timeout))).unwrap_or_else(
            |error| {
                tracing::debug!(path, error, "a probe of the application failed");
                text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n"))
            },
        )
    }

    async fn ask(&self, check: &Check, request: &Request<Bytes>) -> Result<Answer, String> {
        match check {
            Check::HttpGet(get) => get.ask(request, (self.application, self.agent_port)).await,
            Check::TcpSocket(port) => {
                connect(SocketAddr::new(self.application, *port)).await?;
                Ok(text(StatusCode::OK, ""))
            }
            Check::Grpc(grpc) => {
                grpc.ask(connect(SocketAddr::new(self.application, grpc.port)).await?).await?;
                Ok(text(StatusCode::OK, ""))
            }
        }
    }
}

/// Connects to the application from the address that the interception rules let through to it.
async fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    let connecting = async {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        match socket.bind(SocketAddr::new(SourceAddresses::INBOUND.towards(address.ip()), 0)) {
            // Who adds the rules adds ::6; without rules any address will do.
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {}
            bound => bound?,
        }
        socket.connect(address).await
    };
    connecting
        .await
        .map_err(|error: io::Error| format!("cannot connect to the application at {address}: {error}"))
}

#[cfg(test)]
mod tests;
