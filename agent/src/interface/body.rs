//! Bodies of answers: whole, or made while they are read.

use std::{
    error::Error,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use hyper::body::{Bytes, Frame, SizeHint};
use tokio::sync::mpsc::Receiver;

use super::running::Progress;
use crate::metrics::{self, Place};

/// The body of an answer.
pub(crate) enum Body {
    Whole(Bytes),
    /// Pieces that are still made. The last is `None`, without which something is missing.
    Pieces(Receiver<Option<Bytes>>),
}

impl Body {
    /// The same, which holds a place until it is read if it is long.
    pub(crate) fn holding(self, place: Place) -> Self {
        match self {
            Self::Whole(text) => metrics::made(text, place),
            pieces @ Self::Pieces(_) => pieces,
        }
    }
}

/// A text broke off.
#[derive(Debug)]
pub(crate) struct Unfinished;

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the text broke off")
    }
}

impl Error for Unfinished {}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Unfinished;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Unfinished>>> {
        Poll::Ready(
            match &mut *self {
                Self::Whole(text) => Some(std::mem::take(text)).filter(|text| !text.is_empty()).map(Ok),
                Self::Pieces(pieces) => match ready!(pieces.poll_recv(cx)) {
                    Some(piece) => piece.map(Ok),
                    None => Some(Err(Unfinished)),
                },
            }
            .map(|piece| piece.map(Frame::data)),
        )
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(text) if text.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(text) => SizeHint::with_exact(text.len() as u64),
            Self::Pieces(_) => SizeHint::default(),
        }
    }
}

/// A body that says when the last of it is taken.
pub(super) struct Watched {
    body: Body,
    progress: Arc<Progress>,
}

impl Watched {
    pub(super) fn new(body: Body, progress: Arc<Progress>) -> Self {
        Self { body, progress }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.progress.taken();
    }
}

impl hyper::body::Body for Watched {
    type Data = Bytes;
    type Error = Unfinished;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Unfinished>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
