use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::mpsc,
    thread,
};

use http_body_util::BodyExt;

use super::*;

const AGENT_PORT: u16 = 15020;
const LIVE: &str = "/app-health/web/livez";

/// One probe, of an application at loopback.
fn probes(probe: &str) -> Probes {
    let own = [IpAddr::from(Ipv4Addr::LOCALHOST)];
    Probes::read(&format!("{{\"{LIVE}\": {probe}}}"), &own, AGENT_PORT).unwrap()
}

/// What the kubelet gets: status and body.
async fn asked(probes: &Probes) -> (u16, String) {
    let request = Request::get(LIVE)
        .header("host", format!("10.0.0.1:{AGENT_PORT}"))
        .header("user-agent", "kube-probe/1.34")
        .header("connection", "close")
        .header("x-sent", "kubelet")
        .header("expect", "100-continue")
        .header("keep-alive", "timeout=5")
        .header("proxy-connection", "keep-alive")
        .header("trailer", "x-checksum")
        .body(Bytes::new())
        .unwrap();
    let answer = probes.answer(&request).await;
    let (status, body) = (answer.status().as_u16(), answer.into_body().collect().await.unwrap().to_bytes());
    (status, String::from_utf8(body.to_vec()).unwrap())
}

/// An application that answers like this, one text for each connection, and tells what it was asked.
fn application(answers: &'static [&'static str]) -> (u16, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        for answer in answers {
            let (mut client, from) = listener.accept().unwrap();
            let mut asked = vec![0; 4096];
            let length = client.read(&mut asked).unwrap();
            _ = tell.send(format!("{}\n{}", from.ip(), String::from_utf8_lossy(&asked[..length])));
            client.write_all(answer.replace("PORT", &port.to_string()).as_bytes()).unwrap();
        }
    });
    (port, told)
}

#[tokio::test]
async fn the_application_is_asked_as_the_kubelet_asked() {
    let (port, told) = application(&["HTTP/1.1 418 X\r\ncontent-length: 3\r\n\r\ntea"]);
    let probes = probes(&format!(
        "{{\"httpGet\": {{\"path\": \"ready?a=b\", \"port\": {port}, \"httpHeaders\": \
         [{{\"name\": \"X-Own\", \"value\": \"1\"}}, {{\"name\": \"X-Sent\", \"value\": \"own\"}}]}}}}"
    ));
    assert_eq!(asked(&probes).await, (418, "tea".to_owned()));
    let told = told.recv().unwrap().to_ascii_lowercase();
    // From the address that the rules let through to the application.
    assert!(told.starts_with("127.0.0.6\nget /ready?a=b http/1.1\r\n"), "{told}");
    for line in [
        &format!("host: 10.0.0.1:{port}"),
        "user-agent: kube-probe/1.34",
        "x-own: 1",
        "x-sent: own",
        "connection: close",
    ] {
        assert_eq!(told.matches(&format!("{line}\r\n")).count(), 1, "{line} in {told}");
    }
    for other in ["x-sent: kubelet", "expect:", "keep-alive", "proxy-connection:", "trailer:"] {
        assert!(!told.contains(other), "{other} in {told}");
    }
}

#[tokio::test]
async fn https_is_spoken_whatever_the_certificate() {
    let made = rcgen::generate_simple_self_signed(vec!["somebody.else".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let session = rustls::ServerConnection::new(config.into()).unwrap();
        let mut client = rustls::StreamOwned::new(session, listener.accept().unwrap().0);
        _ = client.read(&mut [0; 4096]).unwrap();
        client.write_all(b"HTTP/1.1 204 X\r\n\r\n").unwrap();
    });
    let probes = probes(&format!(r#"{{"httpGet": {{"port": {port}, "scheme": "HTTPS"}}}}"#));
    assert_eq!(asked(&probes).await, (204, String::new()));
}

#[tokio::test]
async fn a_host_that_the_probe_names_is_asked_for() {
    let (port, told) = application(&["HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"]);
    let headers = r#"[{"name": "Host", "value": "shop.example.com"}]"#;
    let probes = probes(&format!(r#"{{"httpGet": {{"port": {port}, "httpHeaders": {headers}}}}}"#));
    assert_eq!(asked(&probes).await.0, 200);
    assert!(told.recv().unwrap().contains("Host: shop.example.com\r\n"));
}

#[tokio::test]
async fn redirections_to_the_application_are_followed_and_others_are_passed_on() {
    let (port, told) = application(&[
        "HTTP/1.1 302 X\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 302 X\r\nlocation: http://127.0.0.1:PORT/third\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 301 X\r\nlocation: https://login.example.com/\r\ncontent-length: 0\r\n\r\n",
    ]);
    let probes = probes(&format!(r#"{{"httpGet": {{"port": {port}}}}}"#));
    assert_eq!(asked(&probes).await, (301, String::new()));
    let paths: Vec<_> = told.iter().map(|asked| asked.split(' ').nth(1).unwrap().to_owned()).collect();
    assert_eq!(paths, ["/", "/elsewhere", "/third"]);
}

#[tokio::test]
async fn an_application_that_does_not_answer_in_time_has_failed() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let patient = probes(&format!(r#"{{"httpGet": {{"port": {port}}}, "timeoutSeconds": 1}}"#));
    assert_eq!(asked(&patient).await, (500, "no answer within 1s\n".to_owned()));
    let socket = probes(&format!(r#"{{"tcpSocket": {{"port": {port}}}}}"#));
    assert_eq!(asked(&socket).await.0, 200);
    drop(silent);
    let (status, why) = asked(&socket).await;
    assert_eq!(status, 500);
    assert!(why.contains("cannot connect to the application at 127.0.0.1:"), "{why}");
}

/// A server of gRPC that answers one call with a message and a status.
async fn grpc_server(message: &'static [u8], status: &'static str) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let (request, mut respond) = connection.accept().await.unwrap().unwrap();
        assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
        let answering = async move {
            let asked = request.into_body().data().await.unwrap().unwrap();
            assert_eq!(&asked[..], b"\0\0\0\0\x05\x0a\x03web");
            let head = http::Response::builder().header("content-type", "application/grpc").body(()).unwrap();
            let mut body = respond.send_response(head, false).unwrap();
            body.send_data(Bytes::from_static(message), false).unwrap();
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", status.parse().unwrap());
            body.send_trailers(trailers).unwrap();
        };
        let driving = async move { while connection.accept().await.is_some() {} };
        tokio::join!(answering, driving);
    });
    port
}

#[tokio::test]
async fn grpc_services_are_asked_how_they_are() {
    for (message, grpc_status, expected, why) in [
        (&b"\0\0\0\0\x02\x08\x01"[..], "0", 200, ""),
        (b"\0\0\0\0\x02\x08\x02", "0", 500, "NOT_SERVING"),
        (b"", "12", 500, "does not implement"),
        (b"", "5", 500, "does not know the service"),
    ] {
        let port = grpc_server(message, grpc_status).await;
        let probes = probes(&format!(r#"{{"grpc": {{"port": {port}, "service": "web"}}}}"#));
        let (status, told) = asked(&probes).await;
        assert_eq!(status, expected, "{told}");
        assert!(told.contains(why), "{told}");
    }
}

#[tokio::test]
async fn probes_that_nobody_wrote_are_told() {
    let (status, why) = asked(&Probes::read("", &[], AGENT_PORT).unwrap()).await;
    assert_eq!((status, &*why), (400, "ISTIO_KUBE_APP_PROBERS has no probe for /app-health/web/livez\n"));
}

#[test]
fn hooks_may_take_long_and_probes_a_second() {
    let read = |path: &str, probe: &str| {
        let json = format!("{{\"{path}\": {probe}}}");
        Probes::read(&json, &[], AGENT_PORT).map(|probes| probes.by_path[path].timeout.as_secs())
    };
    let socket = r#"{"tcpSocket": {"port": 80}}"#;
    assert_eq!(read("/app-health/a/startupz", socket), Ok(1));
    assert_eq!(read("/app-lifecycle/a/prestopz", socket), Ok(600));
    assert_eq!(read("/app-health/a/readyz", r#"{"tcpSocket": {"port": 80}, "timeoutSeconds": 7}"#), Ok(7));
}

#[test]
fn what_the_injector_would_not_write_is_refused_with_its_place() {
    for (json, told) in [
        ("{", "invalid ISTIO_KUBE_APP_PROBERS: EOF"),
        (r#"{"/healthz": {}}"#, "`/healthz`: the path is none of a probe"),
        (r#"{"/app-health/a/livez": {}}"#, "`/app-health/a/livez`: expected exactly one of httpGet"),
        (
            r#"{"/app-health/a/livez": {"httpGet": {"port": "http"}}}"#,
            "httpGet.port is `\"http\"`; expected a number",
        ),
        (r#"{"/app-health/a/livez": {"tcpSocket": {"port": 0}}}"#, "tcpSocket.port is `0`"),
        (r#"{"/app-health/a/livez": {"grpc": {"port": 1}, "tcpSocket": {"port": 1}}}"#, "exactly one"),
        (r#"{"/app-health/a/livez": {"httpGet": {"port": 1, "scheme": "FTP"}}}"#, "httpGet.scheme is `FTP`"),
        (
            r#"{"/app-health/a/livez": {"httpGet": {"port": 1, "httpHeaders": [{"name": "a b"}]}}}"#,
            "has `a b: `",
        ),
        (
            r#"{"/app-health/a/livez": {"tcpSocket": {"port": 1}, "timeoutSeconds": -1}}"#,
            "timeoutSeconds is `-1`",
        ),
    ] {
        let wrong = Probes::read(json, &[], AGENT_PORT).unwrap_err();
        assert!(wrong.contains(told), "{wrong}");
    }
}
