//! Names that requests and connections ask for (ServiceEntry `DYNAMIC_DNS`), as one worker knows them: looked up without
//! a lock, asked of the resolver's thread when they are new, and bounded, whatever clients ask for.

use std::{
    cell::RefCell,
    collections::HashMap,
    net::IpAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use foldhash::fast::RandomState;
use snapshot::Discovery;
use tokio::sync::{mpsc, oneshot};

use super::{Answer, schedule::lifetime};
use crate::{alarm, bounds, failure::LocalReply, timer::Elapsed};

/// What a name stands for.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct ResolvedName {
    /// At least one, the best first.
    pub(crate) addresses: Box<[IpAddr]>,
}

/// A name that is to be resolved, and who waits for it.
#[derive(Debug)]
pub(crate) struct Question {
    pub(super) name: Box<str>,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// Asks the resolver's thread.
pub(crate) type Questions = mpsc::Sender<Question>;

/// The names that one worker's clients have asked for.
pub(crate) struct NameCache {
    known: RefCell<HashMap<Box<str>, Known, RandomState>>,
    questions: Questions,
}

struct Known {
    /// `None` when it could not be resolved.
    named: Option<Rc<ResolvedName>>,
    /// Asked for again after that, if somebody wants it.
    fresh_until: Instant,
    /// Used no more after that.
    usable_until: Instant,
    used: Instant,
    asking: bool,
}

/// Why nothing can be sent to a name yet, or at all.
pub(crate) enum NotResolved {
    /// It has to be resolved first ([`NameCache::resolve`]).
    Unasked(Box<str>),
    /// What the client is answered.
    Refused(LocalReply<'static>),
}

/// What is known of a name.
#[derive(Debug, Eq, PartialEq)]
enum Found {
    /// It has these addresses.
    Resolved(Rc<ResolvedName>),
    /// It was asked for in vain.
    Nowhere,
    /// Not enough.
    Unasked,
}

/// A name that could not be resolved is asked for again after so long.
const RETRY: Duration = Duration::from_secs(5);
const NOBODY: &str = "there is no resolver";

/// What a question that has taken too long has come to.
pub(super) fn unanswered() -> Answer {
    Err("the name servers did not answer in time".to_owned())
}

impl NameCache {
    pub(crate) fn new(questions: Questions) -> Rc<Self> {
        Rc::new(Self { known: RefCell::default(), questions })
    }

    /// The name that something for `authority` is sent to, where the cluster has such names resolved.
    pub(crate) fn wanted(
        self: &Rc<Self>,
        discovery: &Discovery,
        authority: &str,
        now: Instant,
    ) -> Result<Option<Rc<ResolvedName>>, NotResolved> {
        let Discovery::DynamicDns(dynamic) = discovery else { return Ok(None) };
        let name = dynamic.name_of(authority).ok_or(NotResolved::Refused(LocalReply::NO_HEALTHY_UPSTREAM))?;
        let host = name.as_str();
        match self.look_up(host, now) {
            Found::Resolved(named) => Ok(Some(named)),
            Found::Nowhere => Err(NotResolved::Refused(LocalReply::NOT_RESOLVED)),
            Found::Unasked if self.can_ask() => Err(NotResolved::Unasked(host.into())),
            Found::Unasked => Err(NotResolved::Refused(LocalReply::NOT_RESOLVED)),
        }
    }

    /// What is known of `host`, a name in lower case or an address. What is no longer fresh is used while it is asked
    /// for again, for as long as it was to be used; after that it has to be waited for.
    fn look_up(self: &Rc<Self>, host: &str, now: Instant) -> Found {
        if let Some(address) = literal(host) {
            return Found::Resolved(Rc::new(ResolvedName { addresses: [address].into() }));
        }
        let mut known = self.known.borrow_mut();
        let Some(known) = known.get_mut(host).filter(|known| now < known.usable_until) else {
            return Found::Unasked;
        };
        known.used = now;
        if now >= known.fresh_until && !known.asking && self.can_ask() {
            known.asking = true;
            let (names, host) = (Rc::clone(self), Box::<str>::from(host));
            tokio::task::spawn_local(async move { names.resolve(&host).await });
        }
        known.named.as_ref().map_or(Found::Nowhere, |named| Found::Resolved(Rc::clone(named)))
    }

    /// Resolves a name; whoever wants it next finds the outcome.
    pub(crate) async fn resolve(&self, host: &str) {
        let (answer, answered) = oneshot::channel();
        let answer = match self.questions.try_send(Question { name: host.into(), answer }) {
            Ok(()) => match alarm::within(bounds::QUESTION_TIME, answered).await {
                Ok(answer) => answer.unwrap_or_else(|_| Err(NOBODY.to_owned())),
                Err(Elapsed) => unanswered(),
            },
            // That says nothing of the name.
            Err(mpsc::error::TrySendError::Full(_)) => return self.leave_unasked(host),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(NOBODY.to_owned()),
        };
        if let Err(error) = &answer {
            tracing::debug!(name = host, error, "cannot resolve");
        }
        self.learn(host, answer.ok(), Instant::now());
    }

    /// Whether one more question fits. When none does, new names are refused without being taken for failures.
    fn can_ask(&self) -> bool {
        self.questions.capacity() > 0
    }

    fn leave_unasked(&self, host: &str) {
        if let Some(known) = self.known.borrow_mut().get_mut(host) {
            known.asking = false;
        }
    }

    /// Takes an answer, or `None` for a failure: the last good addresses stay.
    fn learn(&self, host: &str, answer: Option<(Vec<IpAddr>, Duration)>, now: Instant) {
        let mut names = self.known.borrow_mut();
        let before = names.remove(host);
        let known = match answer {
            Some((addresses, ttl)) => {
                let lifetime = lifetime(ttl);
                Known {
                    named: Some(Rc::new(ResolvedName { addresses: addresses.into() })),
                    fresh_until: now + lifetime,
                    usable_until: now + 2 * lifetime,
                    used: now,
                    asking: false,
                }
            }
            None => {
                let named = before.as_ref().and_then(|before| before.named.clone());
                // Those who use the last good addresses do not wait for better ones.
                let usable = if named.is_some() { bounds::ASKED_NAMES_UNUSED } else { RETRY };
                let used = before.map_or(now, |before| before.used);
                let (fresh_until, usable_until) = (now + RETRY, now + usable);
                Known { named, fresh_until, usable_until, used, asking: false }
            }
        };
        if names.len() >= bounds::ASKED_NAMES {
            let oldest = names.iter().min_by_key(|(_, known)| known.used).map(|(name, _)| name.clone());
            oldest.and_then(|oldest| names.remove(&oldest));
        }
        names.insert(host.into(), known);
    }

    /// Forgets what nobody has wanted for long.
    pub(crate) fn sweep(&self, now: Instant) {
        self.known
            .borrow_mut()
            .retain(|_, known| now.duration_since(known.used) < bounds::ASKED_NAMES_UNUSED);
    }
}

fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

#[cfg(test)]
mod tests {
    use snapshot::DynamicDns;

    use super::*;

    /// Names whose questions nobody answers.
    fn names() -> (Rc<NameCache>, mpsc::Receiver<Question>) {
        let (questions, asked) = mpsc::channel(1);
        (NameCache::new(questions), asked)
    }

    fn addresses(found: &Found) -> Vec<String> {
        match found {
            Found::Resolved(named) => named.addresses.iter().map(ToString::to_string).collect(),
            Found::Nowhere | Found::Unasked => Vec::new(),
        }
    }

    fn answer(address: &str, seconds: u64) -> Option<(Vec<IpAddr>, Duration)> {
        Some((vec![address.parse().unwrap()], Duration::from_secs(seconds)))
    }

    async fn locally(test: impl Future<Output = ()>) {
        tokio::task::LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn an_answer_is_used_for_its_time_and_once_more_while_it_is_asked_for_again() {
        locally(async {
            let ((names, mut asked), now) = (names(), Instant::now());
            assert_eq!(names.look_up("a.com", now), Found::Unasked);
            names.learn("a.com", answer("10.0.0.1", 30), now);
            let at = |seconds| now + Duration::from_secs(seconds);
            assert_eq!(addresses(&names.look_up("a.com", at(29))), ["10.0.0.1"]);
            assert!(asked.try_recv().is_err(), "nothing was asked yet");
            assert_eq!(addresses(&names.look_up("a.com", at(31))), ["10.0.0.1"]);
            assert_eq!(addresses(&names.look_up("a.com", at(32))), ["10.0.0.1"]);
            let question = asked.recv().await.unwrap();
            assert_eq!(&*question.name, "a.com");
            tokio::task::yield_now().await;
            assert!(asked.try_recv().is_err(), "one question is enough");
            assert_eq!(names.look_up("a.com", at(61)), Found::Unasked);
        })
        .await;
    }

    #[tokio::test]
    async fn failures_are_remembered_for_a_while_and_the_last_good_addresses_stay() {
        locally(async {
            let ((names, _asked), now) = (names(), Instant::now());
            names.learn("new.com", None, now);
            assert_eq!(names.look_up("new.com", now), Found::Nowhere);
            assert_eq!(names.look_up("new.com", now + RETRY), Found::Unasked);
            names.learn("old.com", answer("10.0.0.1", 30), now);
            names.learn("old.com", None, now + Duration::from_secs(30));
            assert_eq!(addresses(&names.look_up("old.com", now + Duration::from_secs(100))), ["10.0.0.1"]);
        })
        .await;
    }

    #[tokio::test]
    async fn addresses_need_no_asking() {
        let (names, _asked) = names();
        assert_eq!(addresses(&names.look_up("10.0.0.9", Instant::now())), ["10.0.0.9"]);
        assert_eq!(addresses(&names.look_up("[fd00::1]", Instant::now())), ["fd00::1"]);
    }

    #[test]
    fn the_name_not_wanted_for_longest_makes_room_and_unused_ones_go() {
        let ((names, _asked), now) = (names(), Instant::now());
        let at = |index: usize| now + Duration::from_millis(index as u64);
        for index in 0..=bounds::ASKED_NAMES {
            names.learn(&format!("{index}.com"), answer("10.0.0.1", 3600), at(index));
        }
        assert_eq!(names.known.borrow().len(), bounds::ASKED_NAMES);
        assert_eq!(names.look_up("0.com", at(bounds::ASKED_NAMES)), Found::Unasked);
        assert_eq!(addresses(&names.look_up("1.com", now + bounds::ASKED_NAMES_UNUSED)), ["10.0.0.1"]);
        names.sweep(at(bounds::ASKED_NAMES) + bounds::ASKED_NAMES_UNUSED);
        assert_eq!(names.known.borrow().len(), 1, "the one that was wanted meanwhile");
    }

    #[tokio::test]
    async fn a_full_queue_says_nothing_of_a_name() {
        locally(async {
            let ((names, mut asked), now) = (names(), Instant::now());
            names.learn("stale.com", answer("10.0.0.1", 30), now - Duration::from_secs(31));
            let waiting = Rc::clone(&names);
            tokio::task::spawn_local(async move { waiting.resolve("slow.com").await });
            tokio::task::yield_now().await;
            names.resolve("new.com").await;
            assert_eq!(names.look_up("new.com", now), Found::Unasked, "not a failure of the name");
            let discovery = Discovery::DynamicDns(DynamicDns {
                hosts: "*".parse().unwrap(),
                port: None,
                begins_tls: false,
            });
            let wanted = names.wanted(&discovery, "new.com", now);
            assert!(
                matches!(wanted, Err(NotResolved::Refused(LocalReply::NOT_RESOLVED))),
                "refused, not tried"
            );
            assert_eq!(addresses(&names.look_up("stale.com", now)), ["10.0.0.1"]);
            // A question that found the queue full is asked later.
            names.known.borrow_mut().get_mut("stale.com").unwrap().asking = true;
            names.resolve("stale.com").await;
            assert_eq!(&*asked.recv().await.unwrap().name, "slow.com");
            assert!(matches!(names.wanted(&discovery, "new.com", now), Err(NotResolved::Unasked(_))));
            assert_eq!(addresses(&names.look_up("stale.com", now)), ["10.0.0.1"]);
            assert_eq!(&*asked.recv().await.unwrap().name, "stale.com");
        })
        .await;
    }

    #[tokio::test]
    async fn nobody_to_ask_is_a_failure() {
        let (names, asked) = names();
        drop(asked);
        names.resolve("a.com").await;
        assert_eq!(names.look_up("a.com", Instant::now()), Found::Nowhere);
    }
}
