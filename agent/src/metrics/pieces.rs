//! Long texts that are made while they are read.

use std::{fmt, mem};

use hyper::body::Bytes;
use tokio::{
    runtime::Handle,
    sync::mpsc::{Sender, channel},
    time::timeout,
};

use super::places::Place;
use crate::{bounds, interface::Body};

/// What becomes of a text on its way. It is shown whole lines.
pub(crate) trait Form: Send + 'static {
    /// What to send for some lines.
    fn lines(&mut self, lines: String) -> String;

    /// What to send after all of them.
    fn end(&mut self) -> String {
        String::new()
    }
}

/// A text as it is.
pub(crate) struct AsIs;

impl Form for AsIs {
    fn lines(&mut self, lines: String) -> String {
        lines
    }
}

/// A text that goes to its reader piece by piece: writing waits until the one before is taken.
pub(crate) struct Pieces<F> {
    form: F,
    /// Written, and not handed over yet.
    text: String,
    reader: Sender<Option<Bytes>>,
    place: Place,
    runtime: Handle,
}

impl<F: Form> Pieces<F> {
    /// A text to be written on a thread that may wait, and the body that it makes. Its reader is given up when it takes
    /// nothing while others wait for its place.
    pub(crate) fn new(form: F, place: Place) -> (Self, Body) {
        let (reader, pieces) = channel(1);
        let text = String::with_capacity(bounds::METRICS_PIECE);
        (Self { form, text, reader, place, runtime: Handle::current() }, Body::Pieces(pieces))
    }

    /// Ends the text: without it the reader is told that something is missing.
    ///
    /// # Errors
    /// The reader is gone, or given up.
    pub(crate) fn end(mut self, after: Bytes) -> fmt::Result {
        let rest = mem::take(&mut self.text);
        self.send(rest)?;
        let end = self.form.end();
        for piece in [end.into(), after] {
            if !piece.is_empty() {
                self.hand_over(Some(piece))?;
            }
        }
        self.hand_over(None)
    }

    fn send(&mut self, lines: String) -> fmt::Result {
        let piece = self.form.lines(lines);
        if piece.is_empty() { Ok(()) } else { self.hand_over(Some(piece.into())) }
    }

    fn hand_over(&self, piece: Option<Bytes>) -> fmt::Result {
        self.runtime.block_on(hand_over(&self.reader, &self.place, piece)).ok_or(fmt::Error)
    }
}

/// Waits until the piece before is taken; `None` when the reader is gone, or given up.
async fn hand_over(reader: &Sender<Option<Bytes>>, place: &Place, piece: Option<Bytes>) -> Option<()> {
    loop {
        match timeout(bounds::METRICS_READING, reader.reserve()).await {
            Ok(slot) => return slot.ok().map(|slot| slot.send(piece)),
            Err(_) if place.is_wanted() => return None,
            Err(_) => {}
        }
    }
}

/// The body of a text that is made already, which holds a place until it is read as others do.
pub(crate) fn made(mut text: Bytes, place: Place) -> Body {
    if text.len() <= bounds::METRICS_PIECE {
        return Body::Whole(text);
    }
    let (reader, pieces) = channel(1);
    tokio::spawn(async move {
        while !text.is_empty() {
            let piece = text.split_to(text.len().min(bounds::METRICS_PIECE));
            hand_over(&reader, &place, Some(piece)).await?;
        }
        hand_over(&reader, &place, None).await
    });
    Body::Pieces(pieces)
}

impl<F: Form> fmt::Write for Pieces<F> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.text.push_str(text);
        if self.text.len() < bounds::METRICS_PIECE {
            return Ok(());
        }
        let Some(end) = self.text.rfind('\n') else { return Ok(()) };
        let mut lines = String::with_capacity(bounds::METRICS_PIECE + text.len());
        lines.push_str(&self.text[end + 1..]);
        mem::swap(&mut lines, &mut self.text);
        lines.truncate(end + 1);
        self.send(lines)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fmt::Write,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::Relaxed},
        },
        time::Duration,
    };

    use http_body_util::BodyExt;

    use super::*;
    use crate::metrics::places::Places;

    const LINES: usize = 1000;

    fn line(number: usize) -> String {
        format!("{number:0>999}\n")
    }

    /// A long text that is being written, and how much of it is.
    fn long(place: Place) -> (Body, Arc<AtomicUsize>) {
        let (mut pieces, body) = Pieces::new(AsIs, place);
        let written = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&written);
        tokio::task::spawn_blocking(move || {
            for number in 0..LINES {
                pieces.write_str(&line(number))?;
                count.fetch_add(1000, Relaxed);
            }
            pieces.end("the end".into())
        });
        (body, written)
    }

    #[tokio::test]
    async fn a_text_comes_whole_and_is_written_no_faster_than_it_is_read() {
        let (mut body, written) = long(Places::default().take().await);
        let mut read = Vec::new();
        while let Some(frame) = body.frame().await {
            read.extend(frame.unwrap().into_data().unwrap());
            // One that waits for nobody is soon through.
            tokio::time::sleep(Duration::from_millis(10)).await;
            assert!(written.load(Relaxed) <= read.len() + 3 * bounds::METRICS_PIECE);
        }
        let whole: String = (0..LINES).map(line).collect();
        assert_eq!(String::from_utf8(read).unwrap(), whole + "the end");
    }

    #[tokio::test]
    async fn who_reads_nothing_is_given_up_for_others_and_told_that_something_is_missing() {
        let places = Places::default();
        let mut held = Vec::new();
        for _ in 0..=bounds::METRICS_READERS {
            let place = timeout(Duration::from_secs(60), places.take()).await;
            held.push(long(place.expect("somebody leaves a place")).0);
        }
        let last = held.pop().unwrap().collect().await.unwrap().to_bytes();
        assert!(last.ends_with(b"the end"));
        let mut broken = 0;
        for body in held {
            broken += usize::from(body.collect().await.is_err());
        }
        assert!(broken > 0, "who had left a place was sent all");
    }
}
