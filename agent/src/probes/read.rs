//! `ISTIO_KUBE_APP_PROBERS`: JSON, from the paths that the kubelet asks for to the probes as the pod's author wrote them.

use std::{collections::BTreeMap, time::Duration};

use http::{HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::Value;

use super::{
    Check, Probe,
    grpc::Grpc,
    http_get::{HttpGet, Scheme},
};

/// The variable that Istio's injector sets.
pub(crate) const APP_PROBERS: &str = "ISTIO_KUBE_APP_PROBERS";

/// What Kubernetes takes where a probe does not say how long it may take.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);
/// For hooks of the pod's life, which the kubelet itself ends when their time is up.
const HOOK_TIMEOUT: Duration = Duration::from_secs(600);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenProbe {
    http_get: Option<WrittenHttpGet>,
    tcp_socket: Option<WrittenPort>,
    grpc: Option<WrittenGrpc>,
    timeout_seconds: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenHttpGet {
    path: Option<String>,
    port: Value,
    scheme: Option<String>,
    http_headers: Option<Vec<WrittenHeader>>,
}

#[derive(Deserialize)]
struct WrittenHeader {
    name: String,
    #[serde(default)]
    value: String,
}

#[derive(Deserialize)]
struct WrittenPort {
    port: Value,
}

#[derive(Deserialize)]
struct WrittenGrpc {
    port: Value,
    service: Option<String>,
}

/// # Errors
/// The text is no such JSON: a whole sentence that names the probe and the field.
pub(super) fn probes(json: &str) -> Result<BTreeMap<String, Probe>, String> {
    let written: BTreeMap<String, Value> = serde_json::from_str(json).map_err(|error| {
        format!(
            "invalid {APP_PROBERS}: {error}; expected an object such as \
             {{\"/app-health/web/livez\":{{\"httpGet\":{{\"path\":\"/\",\"port\":8080}},\"timeoutSeconds\":1}}}}"
        )
    })?;
    let read = |(path, value): (String, Value)| {
        let probe = probe(&path, value).map_err(|wrong| {
            format!("invalid {APP_PROBERS}: `{path}`: {wrong}; leave the variable to Istio's injector, or correct it")
        })?;
        Ok((path, probe))
    };
    written.into_iter().map(read).collect()
}

fn probe(path: &str, value: Value) -> Result<Probe, String> {
    let is_hook = match path.split('/').collect::<Vec<_>>()[..] {
        ["", "app-health", container, "livez" | "readyz" | "startupz"] if !container.is_empty() => false,
        ["", "app-lifecycle", container, "prestopz" | "poststartz"] if !container.is_empty() => true,
        _ => {
            return Err(
                "the path is none of a probe; expected `/app-health/<container>/{livez,readyz,startupz}` or \
                        `/app-lifecycle/<container>/{prestopz,poststartz}`"
                    .to_owned(),
            );
        }
    };
    let written: WrittenProbe = serde_json::from_value(value).map_err(|error| error.to_string())?;
    let check = match (written.http_get, written.tcp_socket, written.grpc) {
        (Some(get), None, None) => Check::HttpGet(http_get(get)?),
        (None, Some(socket), None) => Check::TcpSocket(port("tcpSocket", &socket.port)?),
        (None, None, Some(grpc)) => {
            Check::Grpc(Grpc { port: port("grpc", &grpc.port)?, service: grpc.service.unwrap_or_default() })
        }
        _ => return Err("expected exactly one of httpGet, tcpSocket and grpc".to_owned()),
    };
    let timeout = match written.timeout_seconds {
        None | Some(0) if is_hook => HOOK_TIMEOUT,
        None | Some(0) => DEFAULT_TIMEOUT,
        Some(seconds) => match u32::try_from(seconds) {
            Ok(seconds) => Duration::from_secs(seconds.into()),
            Err(_) => return Err(format!("timeoutSeconds is `{seconds}`; expected a number of seconds")),
        },
    };
    Ok(Probe { check, timeout })
}

fn http_get(written: WrittenHttpGet) -> Result<HttpGet, String> {
    let path = written.path.unwrap_or_default();
    let path = if path.starts_with('/') { path } else { format!("/{path}") };
    if path.parse::<http::uri::PathAndQuery>().is_err() {
        return Err(format!("httpGet.path is `{path}`; expected a path such as `/healthz`"));
    }
    let scheme = match written.scheme.as_deref() {
        None | Some("" | "HTTP" | "http") => Scheme::Http,
        Some("HTTPS" | "https") => Scheme::Https,
        Some(other) => return Err(format!("httpGet.scheme is `{other}`; expected HTTP or HTTPS")),
    };
    let header = |WrittenHeader { name, value }: WrittenHeader| {
        let wrong =
            || format!("httpGet.httpHeaders has `{name}: {value}`; expected a header's name and value");
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
        Ok((header, HeaderValue::from_str(&value).map_err(|_| wrong())?))
    };
    let headers = written.http_headers.unwrap_or_default().into_iter().map(header);
    let headers = headers.collect::<Result<_, String>>()?;
    Ok(HttpGet { path, port: port("httpGet", &written.port)?, scheme, headers })
}

fn port(of: &str, written: &Value) -> Result<u16, String> {
    let number = written.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    number.ok_or_else(|| format!("{of}.port is `{written}`; expected a number, 1–65535 (not a port's name)"))
}
