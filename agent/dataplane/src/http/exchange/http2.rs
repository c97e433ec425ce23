//! An exchange over a stream of a shared HTTP/2 connection.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use ::http::HeaderMap;
use ::http1::BodyLength;
use bytes::Bytes;
use h2::{RecvStream, SendStream, client::ResponseFuture};

use super::{Broken, Following, RequestBody, Sent, UpstreamWriter, interim::Interim};
use crate::{
    http::{Method, SWITCHING_PROTOCOLS, fields::content_length, head::AnswerHead},
    upstream::{Http2Stream, OwnEnd},
};

pub(in crate::http) struct Http2Exchange {
    /// Absent once it is let go.
    room: Option<Http2Stream>,
    end: Rc<OwnEnd>,
    is_reused: bool,
    state: State,
    /// Whether another protocol was asked for, to which the answer is 200 (RFC 8441 §4).
    asks_for_protocol: bool,
    interim: Interim,
    /// Heads that came while one before them was on its way to the client.
    waiting: VecDeque<Head>,
}

enum State {
    Unsent,
    Asked { to: SendStream<Bytes>, response: ResponseFuture },
    Answering { to: SendStream<Bytes>, from: RecvStream },
}

/// A head of an answer; of the final one with the stream of its body.
struct Head {
    status: u16,
    fields: HeaderMap,
    body: Option<RecvStream>,
}

impl Http2Exchange {
    pub(super) fn new(room: Http2Stream) -> Self {
        let (interim, waiting) = (Interim::default(), VecDeque::new());
        let (end, is_reused) = (Rc::clone(room.end()), room.reused);
        let (room, state) = (Some(room), State::Unsent);
        Self { room, end, is_reused, state, asks_for_protocol: false, interim, waiting }
    }

    pub(super) fn end(&self) -> &Rc<OwnEnd> {
        &self.end
    }

    pub(super) fn is_reused(&self) -> bool {
        self.is_reused
    }

    /// Gives its room on the connection back: nothing comes of it.
    pub(super) fn let_go(&mut self) {
        (self.room, self.state) = (None, State::Unsent);
    }

    pub(super) fn send(&mut self, head: &::http::Request<()>, following: Following) -> Result<(), Broken> {
        self.asks_for_protocol = following == Following::Protocol;
        // What the endpoint would say itself, were it asked against its settings (RFC 8441 §3).
        let room = self.room.as_ref().ok_or(Broken::Protocol)?;
        if self.asks_for_protocol && !room.takes_protocols() {
            return Err(Broken::Protocol);
        }
        let ends = following == Following::Nothing;
        // A connection that takes no more requests has not looked at this one.
        let (response, to) = room.send(head.clone(), ends).map_err(|_| Broken::LeftOut)?;
        self.state = State::Asked { to, response };
        Ok(())
    }

    /// Sends what has been sent elsewhere of the body.
    pub(super) fn send_again(&mut self, sent: &Sent<'_>) -> Result<(), Broken> {
        let State::Asked { to, .. } = &mut self.state else { return Err(Broken::Protocol) };
        let ends = sent.ended && sent.trailers.is_none();
        if ends || !sent.bytes.is_empty() {
            to.send_data(Bytes::copy_from_slice(sent.bytes), ends).map_err(|_| Broken::Reset)?;
        }
        match sent.trailers {
            Some(trailers) => to.send_trailers(trailers.clone()).map_err(|_| Broken::Reset),
            None => Ok(()),
        }
    }

    pub(super) async fn next_head<T>(
        &mut self,
        method: Method,
        body: &mut impl RequestBody,
        mut take: impl FnMut(&AnswerHead<'_>) -> T,
    ) -> Result<T, Broken> {
        let head = poll_fn(|cx| self.poll_head(cx, body)).await?;
        let status = match (head.status, &head.body) {
            (200, Some(_)) if self.asks_for_protocol => SWITCHING_PROTOCOLS,
            // HTTP/2 has no such answer (RFC 9113 §8.6).
            (SWITCHING_PROTOCOLS, _) => return Err(Broken::Protocol),
            (status, _) => status,
        };
        let ended = head.body.as_ref().is_none_or(RecvStream::is_end_stream);
        let body = body_length(status, method, &head.fields, ended);
        let taken = take(&AnswerHead::Http2 { status, fields: &head.fields, body });
        if let Some(from) = head.body
            && let State::Asked { to, .. } = std::mem::replace(&mut self.state, State::Unsent)
        {
            self.state = State::Answering { to, from };
        }
        Ok(taken)
    }

    fn poll_head(&mut self, cx: &mut Context<'_>, body: &mut impl RequestBody) -> Poll<Result<Head, Broken>> {
        let State::Asked { to, response } = &mut self.state else {
            return Poll::Ready(Err(Broken::Protocol));
        };
        if let Poll::Ready(Err(error)) = body.poll_send(cx, UpstreamWriter::Http2(to)) {
            return Poll::Ready(Err(error.into()));
        }
        if let Some(waiting) = self.waiting.pop_front() {
            return Poll::Ready(Ok(waiting));
        }
        if let Poll::Ready(Some(interim)) = response.poll_informational(cx) {
            let (parts, ()) = interim.map_err(|error| broken(&error))?.into_parts();
            self.interim.count(fields_size(&parts.headers))?;
            return Poll::Ready(Ok(Head::new(parts, None)));
        }
        let answer = ready!(Pin::new(response).poll(cx)).map_err(|error| broken(&error))?;
        let (parts, body) = answer.into_parts();
        Poll::Ready(Ok(Head::new(parts, Some(body))))
    }

    /// Takes interim answers off the connection while nobody asks for the next: it would keep any number of them. When
    /// there are too many the request is taken back, which the next question for a head tells.
    pub(super) fn gather(&mut self, cx: &mut Context<'_>) {
        while let State::Asked { response, .. } = &mut self.state
            && let Poll::Ready(Some(Ok(interim))) = response.poll_informational(cx)
        {
            let (parts, ()) = interim.into_parts();
            match self.interim.count(fields_size(&parts.headers)) {
                Ok(()) => self.waiting.push_back(Head::new(parts, None)),
                Err(_) => {
                    self.state = State::Unsent;
                    self.waiting = VecDeque::new();
                }
            }
        }
    }

    /// Both directions of the stream once the head of the answer is there.
    pub(in crate::http) fn into_streams(mut self) -> Option<(SendStream<Bytes>, RecvStream, Http2Stream)> {
        let (to, from) = self.take_streams()?;
        Some((to, from, self.room?))
    }

    /// The same for as long as the exchange is there, which holds their room on the connection.
    pub(in crate::http) fn take_streams(&mut self) -> Option<(SendStream<Bytes>, RecvStream)> {
        match std::mem::replace(&mut self.state, State::Unsent) {
            State::Answering { to, from } => Some((to, from)),
            State::Unsent | State::Asked { .. } => None,
        }
    }
}

impl Head {
    fn new(parts: ::http::response::Parts, body: Option<RecvStream>) -> Self {
        Self { status: parts.status.as_u16(), fields: parts.headers, body }
    }
}

/// What the fields of a head count for, as HPACK counts them (RFC 7541 §4.1).
fn fields_size(fields: &HeaderMap) -> usize {
    fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
}

/// What an error of the codec says about the request it befell.
fn broken(error: &h2::Error) -> Broken {
    match error.reason() {
        // A GOAWAY ends only requests that the peer has not looked at (RFC 9113 §6.8).
        _ if error.is_go_away() && error.is_remote() => Broken::LeftOut,
        Some(h2::Reason::REFUSED_STREAM) if error.is_remote() => Broken::Refused,
        Some(h2::Reason::PROTOCOL_ERROR) => Broken::Protocol,
        _ if error.is_remote() => Broken::Reset,
        Some(_) => Broken::Protocol,
        None => Broken::Closed,
    }
}

/// HTTP/1.1 wants to know how long a body is that ends with its frames.
fn body_length(status: u16, method: Method, fields: &HeaderMap, ended: bool) -> BodyLength {
    if method == Method::Head || matches!(status, 100..200 | 204 | 304) {
        return BodyLength::Empty;
    }
    match content_length(fields) {
        Some(length) => BodyLength::Length(length),
        None if ended => BodyLength::Length(0),
        None => BodyLength::Chunked,
    }
}
