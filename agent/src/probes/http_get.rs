//! Probes that are requests.

use std::net::{IpAddr, SocketAddr};

use http::{
    HeaderName, HeaderValue, Request, Response, StatusCode, Uri,
    header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, LOCATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE},
};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Bytes, Incoming};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::connect;
use crate::interface::{Answer, text};

use crate::bounds;

/// A request whose answer tells how the application is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct HttpGet {
    /// With the leading `/`.
    pub(super) path: String,
    pub(super) port: u16,
    pub(super) scheme: Scheme,
    /// Sent instead of what the kubelet sends.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Scheme {
    Http,
    /// Whatever certificate the application shows, as the kubelet does it.
    Https,
}

/// Redirections followed, as by the kubelet.
const MAX_REDIRECTIONS: usize = 10;

/// Where a request goes: to the application's address, but for what a redirection to itself says.
struct Target {
    scheme: Scheme,
    port: u16,
    path: String,
    host: HeaderValue,
}

impl HttpGet {
    /// Asks the application at `address`, and passes on its status and what it says.
    ///
    /// # Errors
    /// There is no answer: why.
    pub(super) async fn ask(
        &self,
        asked: &Request<Bytes>,
        (application, agent_port): (IpAddr, u16),
    ) -> Result<Answer, String> {
        let host = self.host(asked, (application, agent_port));
        let mut target = Target { scheme: self.scheme, port: self.port, path: self.path.clone(), host };
        for _ in 0..MAX_REDIRECTIONS {
            let answer = self.ask_at(&target, asked, application).await?;
            match redirection(&answer, &target, application) {
                Some(next) => target = next,
                None => return passed_on(answer).await,
            }
        }
        Err(format!("the application redirects more than {MAX_REDIRECTIONS} times"))
    }

    async fn ask_at(
        &self,
        target: &Target,
        asked: &Request<Bytes>,
        application: IpAddr,
    ) -> Result<Response<Incoming>, String> {
        let address = SocketAddr::new(application, target.port);
        let request = self.request(target, asked)?;
        let stream = connect(address).await?;
        match target.scheme {
            Scheme::Http => exchange(stream, request).await,
            Scheme::Https => {
                let stream = dataplane::connect_unverified(stream, address).await;
                exchange(stream.map_err(|error| format!("TLS with {address}: {error}"))?, request).await
            }
        }
    }

    fn request(&self, target: &Target, asked: &Request<Bytes>) -> Result<Request<Empty<Bytes>>, String> {
        let request = Request::get(&target.path).body(Empty::new());
        let mut request = request.map_err(|error| format!("cannot ask for `{}`: {error}", target.path))?;
        let headers = request.headers_mut();
        for (name, value) in asked.headers() {
            if !OF_THE_CONNECTION.contains(name) && !self.headers.iter().any(|(own, _)| own == name) {
                headers.append(name, value.clone());
            }
        }
        for (name, value) in &self.headers {
            headers.append(name, value.clone());
        }
        headers.insert(HOST, target.host.clone());
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        Ok(request)
    }

    /// The probe's own `host`, else the kubelet's with the application's port where it has ours.
    fn host(&self, asked: &Request<Bytes>, (application, agent_port): (IpAddr, u16)) -> HeaderValue {
        if let Some((_, own)) = self.headers.iter().find(|(name, _)| *name == HOST) {
            return own.clone();
        }
        let with_port = |host: &str| HeaderValue::from_str(&format!("{host}:{}", self.port)).ok();
        let asked = asked.headers().get(HOST);
        let text = asked.and_then(|host| host.to_str().ok());
        let replaced = text.and_then(|host| host.strip_suffix(&format!(":{agent_port}"))).and_then(with_port);
        let of_address = || {
            let address = SocketAddr::new(application, self.port).to_string();
            HeaderValue::from_str(&address).expect("an address is a header's value")
        };
        replaced.or_else(|| asked.cloned()).unwrap_or_else(of_address)
    }
}

/// What belongs to the kubelet's connection, not to its request.
const OF_THE_CONNECTION: [HeaderName; 10] = [
    CONNECTION,
    CONTENT_LENGTH,
    EXPECT,
    HOST,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Empty<Bytes>>,
) -> Result<Response<Incoming>, String> {
    let said = |error: hyper::Error| format!("the application gave no answer: {error}");
    let mut client = hyper::client::conn::http1::Builder::new();
    let (mut sender, connection) =
        client.title_case_headers(true).handshake(TokioIo::new(stream)).await.map_err(said)?;
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(said)
}

/// Where a redirection leads, if that is the application itself; others are for the kubelet to judge.
fn redirection(answer: &Response<Incoming>, from: &Target, application: IpAddr) -> Option<Target> {
    if !is_redirection(answer.status()) {
        return None;
    }
    let to: Uri = answer.headers().get(LOCATION)?.to_str().ok()?.parse().ok()?;
    let path = to.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let Some(authority) = to.authority() else {
        return Some(Target { path, host: from.host.clone(), ..*from });
    };
    let is_application =
        authority.host().trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip == application);
    let scheme = if to.scheme_str() == Some("https") { Scheme::Https } else { Scheme::Http };
    let default_port = if scheme == Scheme::Https { 443 } else { 80 };
    let host = HeaderValue::from_str(authority.as_str()).ok().filter(|_| is_application)?;
    Some(Target { scheme, port: authority.port_u16().unwrap_or(default_port), path, host })
}

fn is_redirection(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// The status and the beginning of the body; where a redirection leads is the kubelet's to see.
async fn passed_on(answer: Response<Incoming>) -> Result<Answer, String> {
    let (head, mut body) = answer.into_parts();
    let mut begun = Vec::new();
    while begun.len() < bounds::PROBE_ANSWER
        && !body.is_end_stream()
        && let Some(frame) = body.frame().await
    {
        let frame = frame.map_err(|error| format!("the application's answer broke off: {error}"))?;
        begun.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
    }
    begun.truncate(bounds::PROBE_ANSWER);
    let mut passed = text(head.status, begun);
    if let Some(location) = head.headers.get(LOCATION).filter(|_| is_redirection(head.status)) {
        passed.headers_mut().insert(LOCATION, location.clone());
    }
    Ok(passed)
}
