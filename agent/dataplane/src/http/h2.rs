//! Serves HTTP/2 clients with hyper, towards HTTP/1.1 endpoints.

mod body;

use std::{cell::Cell, convert::Infallible, future::Future, pin::pin, rc::Rc, time::Instant};

use ::http::{HeaderMap, Request, StatusCode, Version, request::Parts};
use http_body::Body;
use http1::{BodyLength, Response};
use hyper::{body::Incoming, rt::Executor, server::conn::http2, service::service_fn};
use hyper_util::rt::TokioIo;
use snapshot::{NoRoute, RequestHead};

use super::{
    Action, LIMITS, Method, Routed, SWITCHING_PROTOCOLS,
    exchange::{Broken, Exchange, Outgoing, acquire},
    head::{Added, AnswerFields, write_request_head},
    record_request, route,
};
use crate::{
    access_log::RequestLine,
    buffer::PooledBuffer,
    connection::Connection,
    failure::LocalReply,
    transport::{Prefixed, Transport},
    upstream::Lease,
};
use body::{AnswerBody, Ending, Upload};

/// Concurrent requests of one connection (Envoy's default).
const MAX_STREAMS: u32 = 1024;
/// Bytes a client may send ahead of the endpoint, per request and per connection. They bound what a connection can
/// make us hold.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Serves requests until the connection ends. `received` begins with the preface.
pub(super) async fn serve<S: Transport + 'static>(connection: Connection, stream: S, received: PooledBuffer) {
    let connection = Rc::new(connection);
    let used = Rc::new(Cell::new(false));
    let service = service_fn(|request| {
        used.set(true);
        let connection = Rc::clone(&connection);
        async move { Ok::<_, Infallible>(serve_request(connection, request).await) }
    });
    let io = TokioIo::new(Prefixed::new(received, stream));
    let mut serving = pin!(
        http2::Builder::new(OnThisThread)
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(LIMITS.head_bytes as u32)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .serve_connection(io, service)
    );
    let worker = connection.worker();
    let result = loop {
        if let Ok(result) = connection.deadline.idle_within(worker.patience(), serving.as_mut()).await {
            break Some(result);
        }
        if worker.is_draining() || !used.replace(false) {
            // GOAWAY: requests under way still finish (RFC 9113 §6.8).
            serving.as_mut().graceful_shutdown();
            break connection.deadline.within(worker.settings.idle_timeout, serving).await.ok();
        }
    };
    if let Some(Err(error)) = result {
        tracing::debug!(downstream = %connection.peer, %error, "HTTP/2 connection ended");
    }
}

/// Runs hyper's tasks on the worker they belong to.
#[derive(Clone, Copy)]
struct OnThisThread;

impl<F: Future<Output = ()> + 'static> Executor<F> for OnThisThread {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

type AnswerParts = ::http::Response<AnswerBody>;

async fn serve_request(connection: Rc<Connection>, request: Request<Incoming>) -> AnswerParts {
    let start = Instant::now();
    let worker = Rc::clone(connection.worker());
    worker.count(|counts| counts.requests += 1);
    let (parts, body) = request.into_parts();
    let view = worker.view();
    let head = Http2Head(&parts);
    let added = Added::new(&connection, &head);
    let mut line = RequestLine::default();
    if worker.log.is_some() {
        record_request(&mut line, &head, "HTTP/2", &added);
    }
    let routed = match connection.route_config(&view) {
        _ if !head.fits_http1() => Routed::reply(LocalReply::BAD_REQUEST),
        Some(config) if parts.method != ::http::Method::CONNECT => {
            route(&head, &view, config, (&connection, fastrand::u64(..)))
        }
        _ => Routed::reply(LocalReply::no_route(NoRoute::Route)),
    };
    let ending = Ending::new(Rc::clone(&connection), start, line, (routed.cluster, routed.route));
    match routed.action {
        Action::Reply(reply) => local(&reply, ending),
        Action::Redirect(location) => local(&LocalReply::moved(&location), ending),
        Action::Forward(lease, cluster) => {
            let mut out = worker.scratch();
            let length = body_length(&parts, &body);
            write_request_head(&mut out, &head, &added, length, None);
            let acquired = {
                let mut lease = lease;
                acquire(&connection, &view, cluster, &mut lease).await.map(|upstream| (upstream, lease))
            };
            let answer = match acquired {
                Ok((upstream, lease)) => {
                    let exchange = Exchange::new(upstream, &worker.buffers);
                    let upload = Upload::new(body, length);
                    let request = Outgoing {
                        head: &out,
                        method: Method::of(parts.method.as_str()),
                        bodiless: length.is_empty(),
                        start,
                    };
                    forward(exchange, upload, lease, &request, ending).await
                }
                Err(reply) => local(&reply, ending),
            };
            worker.recycle(out);
            answer
        }
    }
}

/// HTTP/2 frames tell where a body ends; HTTP/1.1 wants its length, or chunks.
fn body_length(parts: &Parts, body: &Incoming) -> BodyLength {
    match body.size_hint().exact() {
        Some(0) if body.is_end_stream() && !parts.headers.contains_key("content-length") => BodyLength::Empty,
        Some(length) => BodyLength::Length(length),
        None => BodyLength::Chunked,
    }
}

async fn forward(
    mut exchange: Exchange,
    mut upload: Upload,
    lease: Lease,
    request: &Outgoing<'_>,
    ending: Ending,
) -> AnswerParts {
    let fields = AnswerFields::of(ending.connection());
    let mut take = |response: &Response<'_, '_>| Answer::new(response, request, &fields);
    let mut result = exchange.ask(request, &lease, &mut upload, &mut take).await;
    while let Ok(Answer { interim: true, .. }) = result {
        // hyper has no way to send interim answers over HTTP/2; the final one follows.
        result = exchange.next_head(request, &mut upload, &mut take).await;
    }
    let ending = ending.at(&lease, &exchange.upstream);
    match result {
        // Nothing was offered to be switched to; HTTP/2 has no such answer (RFC 9113 §8.6).
        Ok(Answer { status: SWITCHING_PROTOCOLS, .. }) => give_up(&Broken::Protocol, ending),
        Ok(answer) => {
            let mut response = ::http::Response::new(AnswerBody::relayed(
                exchange,
                upload,
                lease,
                answer.body,
                (ending.answered(answer.status, answer.service_time), answer.reusable),
            ));
            *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
            *response.headers_mut() = answer.fields;
            response
        }
        Err(broken) => give_up(&broken, ending),
    }
}

fn give_up(broken: &Broken, ending: Ending) -> AnswerParts {
    // When the client is gone nobody reads the answer, but hyper wants one.
    local(&broken.reply().unwrap_or(LocalReply::CLIENT_GONE), ending)
}

/// An answer of our own.
fn local(reply: &LocalReply<'_>, ending: Ending) -> AnswerParts {
    let connection = ending.connection();
    connection.worker().count(|counts| counts.local_replies += 1);
    let mut fields = HeaderMap::new();
    AnswerFields::of(connection).write_local(&mut fields, reply);
    let mut response = ::http::Response::new(AnswerBody::local(reply.body, ending.replied(reply)));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    *response.headers_mut() = fields;
    response
}

/// The head of an endpoint's answer in HTTP/2 terms.
struct Answer {
    interim: bool,
    status: u16,
    service_time: u64,
    fields: HeaderMap,
    body: BodyLength,
    reusable: bool,
}

impl Answer {
    fn new(response: &Response<'_, '_>, request: &Outgoing<'_>, added: &AnswerFields) -> Self {
        let service_time = request.service_time();
        let mut fields = HeaderMap::with_capacity(response.headers.len() + 4);
        added.write_response(&mut fields, response, service_time);
        if let BodyLength::Length(length) = response.body {
            fields.insert("content-length", length.into());
        }
        Self {
            interim: response.is_interim(),
            status: response.status,
            service_time,
            fields,
            body: response.body,
            reusable: response.keep_alive,
        }
    }
}

/// An HTTP/2 request as routing and header code see it.
struct Http2Head<'p>(&'p Parts);

impl Http2Head<'_> {
    /// Whether HTTP/1.1 can carry it; what it cannot carry must not reach an HTTP/1.1 endpoint.
    fn fits_http1(&self) -> bool {
        let authority = self.authority();
        !authority.is_empty()
            && http1::is_valid_authority(authority.as_bytes())
            && self.path_and_query().bytes().all(|byte| byte.is_ascii_graphic())
    }
}

impl RequestHead for Http2Head<'_> {
    fn method(&self) -> &str {
        self.0.method.as_str()
    }

    // A Host field that differs is dropped: `:authority` is what the client asked for (RFC 9113 §8.3.1).
    fn authority(&self) -> &str {
        let host = || self.0.headers.get("host").and_then(|host| host.to_str().ok());
        self.0.uri.authority().map(::http::uri::Authority::as_str).or_else(host).unwrap_or_default()
    }

    fn path_and_query(&self) -> &str {
        self.0.uri.path_and_query().map_or("/", ::http::uri::PathAndQuery::as_str)
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        self.0.headers.get(name).map(::http::HeaderValue::as_bytes)
    }

    fn visit_headers(&self, visit: &mut dyn FnMut(&str, &[u8])) {
        debug_assert_eq!(self.0.version, Version::HTTP_2);
        for name in self.0.headers.keys() {
            match name.as_str() {
                // Split for compression; one line again for HTTP/1.1 (RFC 9113 §8.2.3).
                "cookie" => visit("cookie", &joined_cookies(&self.0.headers)),
                name if http1::is_hop_by_hop(name) => {}
                name => self.0.headers.get_all(name).iter().for_each(|value| visit(name, value.as_bytes())),
            }
        }
    }
}

fn joined_cookies(headers: &HeaderMap) -> Vec<u8> {
    let crumbs: Vec<&[u8]> = headers.get_all("cookie").iter().map(::http::HeaderValue::as_bytes).collect();
    crumbs.join(&b"; "[..])
}
