use std::sync::Mutex;

use snapshot::DnsResolution;
use tokio::sync::Semaphore;

use super::{super::Questions, *};

/// A resolver that looks names up with `lookup`, for as long as the first end of it is there.
fn resolving<F: Future<Output = Answer> + Send + 'static>(
    lookup: impl Fn(Box<str>) -> F + Send + 'static,
) -> (watch::Sender<Names>, Questions, Unresolved) {
    let (wanted, is_wanted) = watch::channel(Names::default());
    let (questions, asked) = mpsc::channel(bounds::WAITING_QUESTIONS);
    let (resolved, unresolved) = (watch::channel(Arc::default()).0, Unresolved::default());
    let task = Task { wanted: is_wanted, resolved, questions: asked, unresolved: unresolved.clone() };
    tokio::task::spawn_local(run(task, lookup, || {}));
    (wanted, questions, unresolved)
}

#[tokio::test]
async fn names_that_are_asked_for_in_vain_are_told_until_they_are_resolved_or_not_wanted() {
    let test = async {
        let works = Arc::new(Mutex::new(false));
        let is_good = Arc::clone(&works);
        let (wanted, _questions, unresolved) = resolving(move |name| {
            let works = *is_good.lock().unwrap() && &*name == "a.com";
            async move { if works { good() } else { Err("nobody knows it".to_owned()) } }
        });
        let told = || unresolved.all().into_iter().map(|name| (name.name, name.error)).collect::<Vec<_>>();
        let failing = |name: &str| (name.to_owned(), "nobody knows it".to_owned());
        let until = async |expected: &[(String, String)]| {
            let reached = async {
                while told() != expected {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(60), reached).await.expect("told in time");
        };
        let names = |names: &[&str]| -> Names {
            names.iter().map(|name| ((*name).into(), DnsResolution::Strict)).collect()
        };
        wanted.send_replace(names(&["a.com", "b.com"]));
        until(&[failing("a.com"), failing("b.com")]).await;
        *works.lock().unwrap() = true;
        until(&[failing("b.com")]).await;
        wanted.send_replace(names(&["a.com"]));
        until(&[]).await;
    };
    tokio::task::LocalSet::new().run_until(test).await;
}

fn ask_for(questions: &Questions, name: &str) -> oneshot::Receiver<Answer> {
    let (answer, answered) = oneshot::channel();
    questions.try_send(Question { name: name.into(), answer }).unwrap();
    answered
}

async fn answer_to(answered: oneshot::Receiver<Answer>) -> Answer {
    let waiting = tokio::time::timeout(Duration::from_secs(60), answered);
    waiting.await.expect("answered in time").expect("answered")
}

fn good() -> Answer {
    Ok((vec![[10, 0, 0, 1].into()], Duration::from_secs(30)))
}

#[tokio::test]
async fn a_name_that_nobody_wants_any_more_when_it_fails_is_not_told() {
    let test = async {
        let (until, ended) = (Arc::new(Semaphore::new(0)), Arc::new(Mutex::new(0)));
        let (held, count) = (Arc::clone(&until), Arc::clone(&ended));
        let (wanted, _questions, unresolved) = resolving(move |name| {
            let (held, count) = (Arc::clone(&held), Arc::clone(&count));
            async move {
                if &*name == "gone.com" {
                    held.acquire().await.unwrap().forget();
                }
                *count.lock().unwrap() += 1;
                Err("nobody knows it".to_owned())
            }
        });
        let names = |name: &str| -> Names { [(name.into(), DnsResolution::Strict)].into() };
        let until_told = async |holds: &dyn Fn() -> bool| {
            let reached = async {
                while !holds() {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(60), reached).await.expect("in time");
        };
        wanted.send_replace(names("gone.com"));
        until_told(&|| Arc::strong_count(&until) > 2).await;
        wanted.send_replace(names("here.com"));
        until_told(&|| !unresolved.all().is_empty()).await;
        until.add_permits(1);
        until_told(&|| *ended.lock().unwrap() == 2).await;
        // Time for what has failed to be taken in.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let told: Vec<_> = unresolved.all().into_iter().map(|name| name.name).collect();
        assert_eq!(told, ["here.com"]);
    };
    tokio::task::LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn what_nobody_waits_for_any_more_is_not_looked_up() {
    let test = async {
        let (slow, looked_up) = (Arc::new(Semaphore::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (until, seen) = (Arc::clone(&slow), Arc::clone(&looked_up));
        let (_wanted, questions, _) = resolving(move |name| {
            seen.lock().unwrap().push(name);
            let until = Arc::clone(&until);
            async move {
                until.acquire().await.unwrap().forget();
                good()
            }
        });
        let under_way: Vec<_> = (0..bounds::QUESTIONS_AT_ONCE)
            .map(|index| ask_for(&questions, &format!("{index}.com")))
            .collect();
        while looked_up.lock().unwrap().len() < bounds::QUESTIONS_AT_ONCE {
            tokio::task::yield_now().await;
        }
        for index in 0..5 * bounds::QUESTIONS_AT_ONCE {
            drop(ask_for(&questions, &format!("given-up-{index}.com")));
        }
        let wanted = ask_for(&questions, "wanted.com");
        slow.add_permits(bounds::QUESTIONS_AT_ONCE + 1);
        assert_eq!(answer_to(wanted).await, good());
        for answered in under_way {
            assert_eq!(answer_to(answered).await, good());
        }
        let looked_up = looked_up.lock().unwrap();
        assert_eq!(
            (looked_up.len(), looked_up.last().map(|name| &**name)),
            (bounds::QUESTIONS_AT_ONCE + 1, Some("wanted.com"))
        );
    };
    tokio::task::LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_look_up_that_panics_has_failed_and_the_name_can_be_asked_for_again() {
    let test = async {
        let first = Arc::new(Mutex::new(true));
        let (_wanted, questions, _) = resolving(move |_| {
            let panics = std::mem::take(&mut *first.lock().unwrap());
            async move { if panics { panic!("a look-up of a test") } else { good() } }
        });
        assert!(answer_to(ask_for(&questions, "a.com")).await.is_err());
        assert_eq!(answer_to(ask_for(&questions, "a.com")).await, good());
    };
    tokio::task::LocalSet::new().run_until(test).await;
}
