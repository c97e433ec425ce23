//! A client of HTTP/2.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use tokio::net::TcpStream;

/// A request written as one of HTTP/1, asked by a client of HTTP/2: its answer written as one of HTTP/1. A body shorter
/// than its `content-length` has no end.
pub(in crate::envoy) fn ask(client: std::net::TcpStream, case: &str) -> String {
    client.set_nonblocking(true).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = TcpStream::from_std(client).unwrap();
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        let driven = tokio::spawn(connection);
        let asking = tokio::time::timeout(Duration::from_secs(10), answer(sender, case));
        let answer = asking.await.unwrap().unwrap_or_else(|error| format!("{error}"));
        driven.abort();
        answer
    })
}

async fn answer(sender: h2::client::SendRequest<Bytes>, case: &str) -> Result<String, h2::Error> {
    let (head, body) = case.split_once("\n\n").unwrap();
    let mut lines = head.lines();
    let mut words = lines.next().unwrap().split(' ');
    let [method, path] = [(); 2].map(|()| words.next().unwrap());
    let mut request = Request::builder().method(method);
    let (mut host, mut length) = ("", body.len());
    for (name, value) in lines.map(|line| line.split_once(": ").unwrap()) {
        match name {
            "host" => host = value,
            "content-length" => length = value.parse().unwrap(),
            _ => {}
        }
        if name != "host" {
            request = request.header(name, value);
        }
    }
    let request = request.uri(format!("http://{host}{path}")).body(()).unwrap();
    let (response, mut to) = sender.ready().await?.send_request(request, length == 0)?;
    if length > 0 {
        to.send_data(Bytes::copy_from_slice(body.as_bytes()), body.len() == length)?;
    }
    let (head, mut from) = response.await?.into_parts();
    let mut shown = format!("HTTP/1.1 {}\r\n", head.status.as_u16());
    for (name, value) in &head.headers {
        shown += &format!("{name}: {}\r\n", value.to_str().unwrap());
    }
    let mut body = Vec::new();
    let cut = loop {
        match from.data().await {
            Some(Ok(data)) => body.extend_from_slice(&data),
            Some(Err(error)) => break format!("\n{error}"),
            None => break String::new(),
        }
    };
    if cut.is_empty()
        && let Some(trailers) = from.trailers().await?
    {
        body.extend_from_slice(format!("{trailers:?}").as_bytes());
    }
    let body = String::from_utf8(body).unwrap_or_else(|bytes| bytes.as_bytes().escape_ascii().to_string());
    Ok(shown + "\r\n" + &body + &cut)
}
