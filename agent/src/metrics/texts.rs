//! Long texts that are made anew for whoever asks, of which few are held at a time.

use std::{
    future::Future,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use hyper::body::Bytes;
use tokio::sync::Mutex;

use crate::bounds;

/// Texts that are on their way to somebody. An application's metrics may be many MiB: those who ask at
/// the same time share one, and of those who do not read what they asked for only the first get one of their own.
#[derive(Debug, Default)]
pub(crate) struct Texts(Mutex<Vec<Known>>);

#[derive(Debug)]
struct Known {
    text: Weak<Text>,
    /// When it was begun to be made, and when that was done.
    since: Instant,
    done: Instant,
}

impl Known {
    /// Whether it does for somebody who has asked for one at this time: begun since, or so long in the making that to wait
    /// for another would be to wait twice, as for an application that does not answer.
    fn answers(&self, asked: Instant) -> bool {
        self.since >= asked || self.done >= asked && self.done - self.since >= LONG
    }
}

const LONG: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Text(Box<str>);

struct Held(Arc<Text>);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        self.0.0.as_bytes()
    }
}

impl Texts {
    /// What `make` makes, or what was made since this was asked for.
    pub(crate) async fn get(&self, make: impl Future<Output = String>) -> Bytes {
        let asked = Instant::now();
        let mut known = self.0.lock().await;
        known.retain(|known| known.text.strong_count() > 0);
        let is_full = known.len() >= bounds::METRICS_TEXTS;
        let newest = known.last().filter(|newest| is_full || newest.answers(asked));
        if let Some(text) = newest.and_then(|newest| newest.text.upgrade()) {
            return Bytes::from_owner(Held(text));
        }
        let since = Instant::now();
        let text = Arc::new(Text(make.await.into()));
        known.push(Known { text: Arc::downgrade(&text), since, done: Instant::now() });
        Bytes::from_owner(Held(text))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        future::{pending, ready},
    };

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn few_are_held_and_all_who_ask_then_are_told_the_last() {
        let texts = Texts::default();
        let number = Cell::new(0);
        let ask = || {
            texts.get(async {
                number.set(number.get() + 1);
                number.get().to_string()
            })
        };
        let mut held = Vec::new();
        for expected in ["1", "2", "2", "2"] {
            held.push(ask().await);
            assert_eq!(held.last().unwrap(), expected);
        }
        held.remove(0);
        assert_eq!(ask().await, "3", "there is room for one more");
        drop(held);
        assert_eq!((ask().await, texts.0.lock().await.len()), ("4".into(), 1));
    }

    #[tokio::test]
    async fn nobody_waits_twice_for_what_takes_long() {
        let texts = Texts::default();
        let first = texts.get(async {
            tokio::time::sleep(LONG).await;
            "first".to_owned()
        });
        let (first, second) = tokio::join!(first, texts.get(pending()));
        assert_eq!([first, second], ["first", "first"]);
    }

    #[tokio::test]
    async fn those_who_wait_share_what_is_begun_after_they_asked() {
        let texts = Texts::default();
        let (go, wait) = oneshot::channel();
        let first = texts.get(async {
            wait.await.unwrap();
            "first".to_owned()
        });
        let second = texts.get(ready("second".to_owned()));
        let third = texts.get(pending());
        let (first, second, third, ()) = tokio::join!(first, second, third, async { go.send(()).unwrap() });
        assert_eq!([first, second, third], ["first", "second", "second"]);
    }
}
