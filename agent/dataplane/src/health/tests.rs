use std::time::Duration;

use super::*;

fn address(last: u8) -> Address {
    ([10, 0, 0, last], 80).into()
}

fn outliers(settings: &OutlierDetection, endpoints: u8) -> Arc<Outliers> {
    let outliers = Outliers::new(settings.clone());
    outliers.set_endpoints((1..=endpoints).map(address));
    Arc::new(outliers)
}

/// Whether an endpoint is away now and was not before.
fn eject(outliers: &Outliers, last: u8, now: Instant) -> bool {
    outliers.eject(&address(last), Cause::Consecutive5xx, now).is_some()
}

#[test]
fn five_errors_in_a_row_and_no_fewer_make_an_outlier() {
    let (health, settings) = (Health::default(), OutlierDetection::default());
    let mut results =
        [500, 503, 500, 599, 200, 500, 500, 500, 500, 500].map(AttemptResult::Answered).into_iter();
    assert!(results.by_ref().take(9).all(|result| health.observe(result, &settings).is_none()));
    assert_eq!(health.observe(results.next().unwrap(), &settings), Some(Cause::Consecutive5xx));
}

#[test]
fn gateway_errors_are_counted_apart_and_broken_by_other_answers() {
    let settings = OutlierDetection {
        consecutive_5xx: None,
        consecutive_gateway_errors: Some(2),
        ..OutlierDetection::default()
    };
    let health = Health::default();
    let observed = [502, 500, 503].map(|status| health.observe(AttemptResult::Answered(status), &settings));
    assert_eq!(observed, [None; 3]);
    let cause = health.observe(AttemptResult::LocalFailure, &settings);
    assert_eq!(cause, Some(Cause::ConsecutiveGatewayFailure), "a failed connection counts as 503");
}

#[test]
fn failures_to_connect_are_counted_apart_when_split() {
    let settings = OutlierDetection { consecutive_local_failures: Some(2), ..OutlierDetection::default() };
    let health = Health::default();
    for result in [
        AttemptResult::LocalFailure,
        AttemptResult::Connected,
        AttemptResult::LocalFailure,
        AttemptResult::Answered(200),
    ] {
        assert_eq!(health.observe(result, &settings), None, "an answer says nothing about connecting");
    }
    let cause = health.observe(AttemptResult::LocalFailure, &settings);
    assert_eq!(cause, Some(Cause::ConsecutiveLocalOriginFailure));
}

#[test]
fn listed_codes_replace_5xx() {
    let settings = OutlierDetection {
        error_codes: vec![404, 429],
        consecutive_5xx: Some(1),
        ..OutlierDetection::default()
    };
    assert_eq!(Health::default().observe(AttemptResult::Answered(500), &settings), None);
    assert_eq!(
        Health::default().observe(AttemptResult::Answered(429), &settings),
        Some(Cause::Consecutive5xx)
    );
}

#[test]
fn one_may_always_go_and_more_only_within_the_percentage() {
    let now = Instant::now();
    let few = outliers(&OutlierDetection::default(), 3);
    assert_eq!([1, 2].map(|n| eject(&few, n, now)), [true, false]);
    let half = outliers(&OutlierDetection { max_ejection_percent: 50, ..OutlierDetection::default() }, 4);
    assert_eq!([1, 2, 3].map(|n| eject(&half, n, now)), [true, true, false]);
    assert!(!eject(&half, 1, now), "it is away already");
    assert!(!eject(&half, 9, now), "nobody knows it");
}

#[test]
fn each_ejection_is_longer_up_to_the_maximum_and_good_conduct_shortens_it() {
    let settings = OutlierDetection {
        max_ejection_time: Duration::from_secs(50),
        interval: Duration::from_secs(1000),
        ..OutlierDetection::default()
    };
    let outliers = outliers(&settings, 2);
    let health = outliers.monitor(&address(1)).unwrap();
    let mut now = Instant::now();
    outliers.look(now);
    for expected in [30, 50, 50] {
        assert!(eject(&outliers, 1, now));
        outliers.look(now + Duration::from_secs(expected - 1));
        assert!(health.is_ejected());
        now += Duration::from_secs(expected);
        outliers.look(now);
        assert!(!health.is_ejected());
    }
    for quiet in 1..=3 {
        outliers.look(now + settings.interval * quiet);
    }
    now += settings.interval * 4;
    assert!(eject(&outliers, 1, now));
    outliers.look(now + Duration::from_secs(30));
    assert!(!health.is_ejected());
}

/// By default an ejection is as long as three intervals, so that both are over in one look.
#[test]
fn an_interval_that_ends_with_an_ejection_was_not_quiet() {
    const TICK: Duration = Duration::from_millis(500);
    let outliers = outliers(&OutlierDetection::default(), 2);
    let health = outliers.monitor(&address(1)).unwrap();
    let mut now = Instant::now();
    let away = [(); 12].map(|()| {
        // Between two looks.
        let start = now + TICK / 2;
        assert!(eject(&outliers, 1, start));
        while health.is_ejected() {
            now += TICK;
            outliers.look(now);
        }
        (now - start).as_secs()
    });
    assert_eq!(away, [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300]);
}

#[test]
fn endpoints_that_stay_keep_their_health_across_changes() {
    let outliers = outliers(&OutlierDetection::default(), 2);
    eject(&outliers, 1, Instant::now());
    let before = outliers.generation();
    outliers.set_endpoints([address(1), address(7)].into_iter());
    assert_ne!(outliers.generation(), before);
    assert!(outliers.monitor(&address(1)).unwrap().is_ejected());
    assert!(outliers.monitor(&address(2)).is_none());
    outliers.set_endpoints([address(7)].into_iter());
    outliers.set_endpoints([address(1), address(7)].into_iter());
    assert!(!outliers.monitor(&address(1)).unwrap().is_ejected(), "it is another endpoint now");
}
